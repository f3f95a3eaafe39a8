"""Negative log-likelihoods, one value an example.

Legend: B examples, C classes or labels, D target dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log softmax(logits)[target], in nats. `logits` (B, C), `targets` (B,) of class ids -> (B,)."""
    return F.cross_entropy(logits.float(), targets, reduction="none")


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over labels of -t log sigmoid(z) - (1 - t) log sigmoid(-z), in nats. `logits`, `targets` (B, C) -> (B,)."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none").mean(dim=-1)


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over dimensions of (y - t)^2, the Gaussian likelihood up to a constant. `outputs`, `targets` (B, D) -> (B,)."""
    return F.mse_loss(outputs.float(), targets.float(), reduction="none").mean(dim=-1)
