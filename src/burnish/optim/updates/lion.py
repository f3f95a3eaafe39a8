"""Lion: the sign of a mean of gradients. Chen et al. 2023, arXiv:2302.06675, algorithm 2.

Weights, gradients and means are tensors of one shape, any one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def lion(
    weight: torch.Tensor, gradient: torch.Tensor, mean: torch.Tensor, lr: float, betas: tuple[float, float], decay: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight and the running mean after one update: u = sign(b1 m + (1 - b1) g), w' = w - lr (u + decay w), m' = b2 m + (1 - b2) g."""
    update = torch.sign(betas[0] * mean + (1 - betas[0]) * gradient)
    return weight - lr * (update + decay * weight), betas[1] * mean + (1 - betas[1]) * gradient


class Lion(torch.optim.Optimizer):
    """`lion` for every parameter that has a gradient; keeps its running mean as `mean`, from zero."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update. `closure`, where torch's callers give one, computes loss and gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["mean"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
                moved, mean = lion(weight, weight.grad, state["mean"], group["lr"], group["betas"], group["weight_decay"])
                weight.copy_(moved)
                state["mean"].copy_(mean)
        return loss
