"""Negative log-likelihoods, one value an example.

Legend: B examples, T tokens, C classes or labels, V vocabulary, D target dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from burnish.core.protocols import IGNORED


def token_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-sum over an example's supervised tokens of log softmax(logits)[label], in nats.

    `logits` (B, T, V), `labels` (B, T) of ids, IGNORED where nothing is supervised -> (B,). The label of a position is what
    its own logits are compared with: a causal model's labels are shifted before (`next_tokens`).
    """
    supervised = labels != IGNORED  # (B, T)
    values = F.cross_entropy(logits[supervised].float(), labels[supervised], reduction="none")  # (S,) of S supervised tokens
    owners = supervised.nonzero()[:, 0]  # (S,)
    return torch.zeros(len(labels), dtype=values.dtype, device=values.device).index_add(0, owners, values)


def next_tokens(labels: torch.Tensor) -> torch.Tensor:
    """Labels for logits that foretell the next token: (B, T) moved one to the left, the last position IGNORED."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log softmax(logits)[target], in nats. `logits` (B, C), `targets` (B,) of class ids -> (B,)."""
    return F.cross_entropy(logits.float(), targets, reduction="none")


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over labels of -t log sigmoid(z) - (1 - t) log sigmoid(-z), in nats. `logits`, `targets` (B, C) -> (B,)."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none").mean(dim=-1)


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over dimensions of (y - t)^2, the Gaussian likelihood up to a constant. `outputs`, `targets` (B, D) -> (B,)."""
    return F.mse_loss(outputs.float(), targets.float(), reduction="none").mean(dim=-1)
