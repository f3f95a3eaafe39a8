"""Optimizers that keep their running means in 8 bits, through bitsandbytes: 2 bytes of state a parameter in place of 8, or 1 of 4."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from burnish.core.packages import lacking
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.optim.optimizers import Beta

if TYPE_CHECKING:
    import torch


class EightBit(Spec):
    """State in blocks of 256 values, each block scaled by its largest and rounded to one of 256 steps, finer near zero.

    Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861. The weights themselves keep their format.
    """

    min_8bit_size: int = Field(default=4096, ge=1)
    """Parameters with fewer elements keep their state in 32 bits, which costs little and is steadier; 4096 or more."""

    by_weight: ClassVar[bool] = False

    decoupled: ClassVar[bool] = True

    def fault(self) -> str | None:
        """What this machine lacks to train with it: bitsandbytes is no part of Burnish itself."""
        return "needs bitsandbytes: pip install 'burnish[quantize]'" if lacking("bitsandbytes") else None


@register("optimizer")
class AdamW8bit(EightBit):
    """AdamW whose running mean m and square v are held in 8 bits: the curve of AdamW at a quarter of its state, slower on a CPU.

    m = q(b1 m + (1 - b1) g);  v = q(b2 v + (1 - b2) g^2);  w = w - lr (m^ / (sqrt(v^) + eps) + weight_decay w), q rounding by blocks.
    """

    name: Literal["adamw8bit"] = "adamw8bit"

    lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate, as for adamw; 1e-5 to 1e-4 for full fine-tuning, 1e-4 to 1e-3 for LoRA."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of the running mean and of the running square of the gradient."""

    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator; 1e-8 to 1e-6."""

    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled decay of weights, never of biases and norms; 0 to 0.1."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        optimizers = bitsandbytes_optimizers()

        settings = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}
        optimizer: torch.optim.Optimizer = optimizers.AdamW8bit(groups, **settings, min_8bit_size=self.min_8bit_size)
        return optimizer


@register("optimizer")
class Lion8bit(EightBit):
    """Lion whose running mean is held in 8 bits: 1 byte of state a parameter, the least of all optimizers with momentum.

    w = w - lr (sign(b1 m + (1 - b1) g) + weight_decay w);  m = q(b2 m + (1 - b2) g). Chen et al. 2023, arXiv:2302.06675, algorithm 2.
    """

    name: Literal["lion8bit"] = "lion8bit"

    lr: float = Field(default=1e-5, gt=0)
    """Peak learning rate, a third to a tenth of AdamW's, for every step has full length; 1e-6 to 3e-5 for full fine-tuning."""

    betas: tuple[Beta, Beta] = (0.9, 0.99)
    """Weight of the mean in the step, and decay of the mean."""

    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled decay of weights, three to ten times AdamW's, for it is scaled by the smaller lr; 0 to 1."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        optimizers = bitsandbytes_optimizers()

        settings = {"lr": self.lr, "betas": self.betas, "weight_decay": self.weight_decay}
        optimizer: torch.optim.Optimizer = optimizers.Lion8bit(groups, **settings, min_8bit_size=self.min_8bit_size)
        return optimizer


def bitsandbytes_optimizers() -> Any:
    """The library's optimizers, without its remarks on kernels that it could use besides."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from bitsandbytes import optim

    return optim
