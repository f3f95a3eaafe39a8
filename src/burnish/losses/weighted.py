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


def focused_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    """-(1 - p[target])^gamma log p[target], in nats: (S, C), (S,) -> (S,).

    Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, eq. 4. Where p rounds to 1, the slope of
    (1 - p)^gamma is infinite for gamma < 1: a floor far below what matters keeps it out of the gradient.
    """
    values = F.cross_entropy(logits.float(), targets, reduction="none")
    return (-torch.expm1(-values)).clamp(min=1e-12) ** gamma * values


def cross_entropy(smoothing: float, weights: torch.Tensor | None) -> Pointwise:
    """Cross-entropy with its target smoothed, each choice times the weight (C,) of its true class."""

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return weighed(smoothed_cross_entropy(logits, targets, smoothing), targets, weights)

    return loss


def focal(gamma: float, weights: torch.Tensor | None) -> Pointwise:
    """Focal loss, each choice times the weight (C,) of its true class."""

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return weighed(focused_cross_entropy(logits, targets, gamma), targets, weights)

    return loss


def weighed(values: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Each value (S,) times the weight of its class (`targets` (S,) of `weights` (C,))."""
    return values if weights is None else values * weights.to(values)[targets]
