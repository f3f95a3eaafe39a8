"""Losses of single choices that count some more than others.

Legend: S choices, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from burnish.losses.likelihood import Pointwise


def smoothed_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """(1 - s) (-log p[target]) + s mean over classes of -log p, in nats: (S, C), (S,) -> (S,).

    Szegedy et al. 2016, "Rethinking the Inception Architecture", arXiv:1512.00567, section 7. Classes that cannot be chosen
    (logits of -inf) take no part in the mean.
    """
    logs = F.log_softmax(logits.float(), dim=-1)  # (S, C)
    possible = logits > float("-inf")
    even = -logs.masked_fill(~possible, 0.0).sum(dim=-1) / possible.sum(dim=-1)
    return (1 - smoothing) * -logs.gather(1, targets[:, None])[:, 0] + smoothing * even


def cross_entropy(smoothing: float, weights: torch.Tensor | None) -> Pointwise:
    """Cross-entropy with its target smoothed, each choice times the weight (C,) of its true class."""

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        values = smoothed_cross_entropy(logits, targets, smoothing)
        return values if weights is None else values * weights.to(values)[targets]

    return loss
