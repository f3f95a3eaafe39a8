"""The recipe's side of Lion; the update itself is in `updates/lion.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.optim.optimizers import Beta

if TYPE_CHECKING:
    import torch


@register("optimizer")
class Lion(Spec):
    """Only the sign of a mean of gradients counts: every weight moves by exactly lr, and one value of state a weight suffices (Adam: two).

    u = sign(b1 m + (1 - b1) g);  w = w - lr (u + weight_decay w);  m = b2 m + (1 - b2) g.
    Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", arXiv:2302.06675, algorithm 2. A sign is noisier than Adam's
    update: take a learning rate 3 to 10 times smaller than for adamw, and a weight decay as many times larger.
    """

    name: Literal["lion"] = "lion"

    by_weight: ClassVar[bool] = True

    decoupled: ClassVar[bool] = True

    lr: float = Field(default=1e-5, gt=0)
    """Peak learning rate, the distance each weight moves; 3e-6 to 3e-5, 3 to 10 times less than for adamw."""

    betas: tuple[Beta, Beta] = (0.9, 0.99)
    """Weight of the running mean in the update, and its own decay."""

    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled decay of weights, never of biases and norms; 0 to 1, 3 to 10 times that of adamw."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        from burnish.optim.updates.lion import Lion

        return Lion(groups, self.lr, self.betas, self.weight_decay)
