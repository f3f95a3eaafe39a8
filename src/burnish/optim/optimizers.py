"""Optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from burnish.core.registry import register
from burnish.core.spec import Spec

if TYPE_CHECKING:
    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]


@register("optimizer")
class AdamW(Spec):
    """Adam with decoupled weight decay, in torch's fused kernel.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w = w - lr (m^ / (sqrt(v^) + eps) + weight_decay w).
    Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", arXiv:1711.05101, algorithm 2.
    """

    name: Literal["adamw"] = "adamw"

    lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate; 1e-5 to 1e-4 for full fine-tuning, 1e-4 to 1e-3 for LoRA or a head alone."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of the running mean and of the running square of the gradient."""

    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator; 1e-8 to 1e-6."""

    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled decay of weights, never of biases and norms; 0 to 0.1."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True)
