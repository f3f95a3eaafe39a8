"""Negative log-likelihoods, one value an example.

Legend: B examples, T tokens, S choices, C classes or labels, V vocabulary, D target dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from burnish.core.deferred import DeferredGrid
from burnish.core.protocols import IGNORED, Choices

Pointwise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""A loss of single choices: logits (S, C) and targets (S,) -> (S,)."""

MANY = 2**12
"""Classes from which on a matrix more of them counts: a vocabulary's."""


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log softmax(logits)[target], in nats. `logits` (S, C), `targets` (S,) of class ids -> (S,)."""
    if torch.is_grad_enabled() and logits.shape[1] >= MANY:
        found: torch.Tensor = Likelihood.apply(logits.float(), targets)
        return found
    return F.cross_entropy(logits.float(), targets, reduction="none")


class Likelihood(torch.autograd.Function):
    """The cross-entropy whose gradient u (softmax(logits) - [target]), u the slope, is made where the softmax is: torch makes one more
    matrix (S, C) in between, which is zero but for the targets."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logs = logits.log_softmax(dim=-1)
        ctx.save_for_backward(logs, targets)
        return -logs.gather(1, targets[:, None])[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        logs, targets = ctx.saved_tensors
        found = logs.exp().mul_(slope[:, None])
        return found.scatter_add_(1, targets[:, None], -slope[:, None]), None


def by_example(choices: Sequence[Choices], size: int, loss: Pointwise = cross_entropy) -> torch.Tensor:
    """(B,) sums over each example's choices of `loss` times the share that a choice counts; `size` is B."""
    total = torch.zeros(size, device=choices[0].logits.device)
    for part in choices:
        total = total.index_add(0, part.owners, part.costs(loss) * part.share)
    return total


def one_each(logits: torch.Tensor, targets: torch.Tensor, share: float = 1.0) -> Choices:
    """One choice an example: `logits` (B, C), `targets` (B,)."""
    return Choices(logits, targets, torch.arange(len(targets), device=targets.device), share)


def of_tokens(logits: torch.Tensor | DeferredGrid, labels: torch.Tensor, supervised: torch.Tensor | None = None) -> Choices:
    """A choice at each supervised token. `logits` (B, T, V), `labels` (B, T) of ids, IGNORED where nothing is supervised.

    The label of a position is what its own logits are compared with: a causal model's labels are shifted before (`next_tokens`).
    `supervised` (B, T) is the mask of the labels that are not IGNORED, where the batch has it (as `read`). How many these are is
    known from deferred logits, so that a GPU is not waited for.
    """
    supervised = labels != IGNORED if supervised is None else supervised
    chosen = logits[supervised]  # (S, V)
    owners, positions = torch.nonzero_static(supervised, size=len(chosen)).unbind(dim=1)  # (S,) each
    return Choices(chosen, labels[owners, positions], owners)


def of_labels(logits: torch.Tensor, targets: torch.Tensor) -> Choices:
    """A choice between yes and no for each of C labels, for log sigmoid(z) = log softmax([0, z])[1]. `logits`, `targets` (B, C)."""
    pairs = torch.stack([torch.zeros_like(logits), logits], dim=-1).flatten(0, 1)  # (B C, 2)
    owners = torch.arange(len(targets), device=targets.device).repeat_interleave(targets.shape[1])
    return Choices(pairs, targets.flatten().long(), owners, 1 / targets.shape[1])


def next_tokens(labels: torch.Tensor) -> torch.Tensor:
    """Labels for logits that foretell the next token: (B, T) moved one to the left, the last position IGNORED."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over labels of -t log sigmoid(z) - (1 - t) log sigmoid(-z), in nats. `logits`, `targets` (B, C) -> (B,)."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none").mean(dim=-1)


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over dimensions of (y - t)^2, the Gaussian likelihood up to a constant. `outputs`, `targets` (B, D) -> (B,)."""
    return F.mse_loss(outputs.float(), targets.float(), reduction="none").mean(dim=-1)
