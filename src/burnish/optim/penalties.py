"""Penalties on the weights: what they add to the loss, and their gradients, in closed form.

They act once an update, on the gradient of the whole batch: how the batch is cut into micro-batches cannot change them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy, Technique
from burnish.optim.groups import learning, undecayed

if TYPE_CHECKING:
    import torch
    from torch import nn

Pull = Callable[["torch.Tensor"], tuple["torch.Tensor", "torch.Tensor"]]
"""A penalty: from a weight to its value (a scalar) and its gradient, of the weight's shape."""


def lasso(weight: torch.Tensor, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """strength |w|_1, with gradient strength sign(w) (0 at 0). Tibshirani 1996."""
    return strength * weight.abs().sum(), strength * weight.sign()


def ridge(weight: torch.Tensor, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """strength / 2 |w|^2, with gradient strength w."""
    return strength / 2 * weight.square().sum(), strength * weight


def tether(weight: torch.Tensor, start: torch.Tensor, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """strength / 2 |w - start|^2, with gradient strength (w - start). Li et al. 2018, arXiv:1802.01483, eq. 2."""
    return ridge(weight - start, strength)


@dataclass
class Penalty(Technique):
    """Adds pulls on parameters to their gradients. A parameter without a gradient (not unfrozen yet) is left alone.

    Nothing is kept in checkpoints: a starting point is the pretrained weight, which a resumed run loads again.
    """

    pulls: Sequence[tuple[nn.Parameter, Pull]]

    def differentiated(self) -> float:
        import torch

        values = []
        with torch.no_grad():
            for weight, pull in self.pulls:
                if weight.grad is not None:
                    value, gradient = pull(weight.float())
                    weight.grad += gradient
                    values.append(value)
        return float(torch.stack(values).sum()) if values else 0.0


def lessened(model: nn.Module, l1: float, l2: float) -> list[tuple[nn.Parameter, Pull]]:
    """L1 and L2 on the weights that learn, biases and norms left out. Raises ModelError where nothing else learns."""
    spared = undecayed(model)
    weights = [parameter for name, parameter in learning(model).items() if name not in spared]
    if not weights and (l1 or l2):
        raise ModelError(
            f"`selective.{'l1' if l1 else 'l2'}`: only biases and norms learn under this method, on which no penalty falls. Leave it out."
        )
    pulls: list[tuple[nn.Parameter, Pull]] = []
    for form, strength in ((lasso, l1), (ridge, l2)):
        pulls += [(weight, partial(form, strength=strength)) for weight in weights if strength]
    return pulls


def held(model: nn.Module, anatomy: Anatomy, alpha: float, beta: float) -> list[tuple[nn.Parameter, Pull]]:
    """L2-SP, before the first update: pretrained parameters are held to where they stand now, all others to zero.

    Raises ModelError where no pretrained parameter learns.
    """
    own = {name for names in (anatomy.embeddings, *anatomy.blocks, anatomy.head) for name in names} - set(anatomy.fresh)
    pretrained = {name: weight for name, weight in learning(model).items() if anatomy.own_name(name) in own}
    if alpha and not pretrained:
        raise ModelError(
            "`selective.l2_sp`: no pretrained parameter learns here, so that there is no starting point to hold to. Leave it out: "
            "weight_decay draws what the method added toward zero, and with it the model toward the pretrained one."
        )
    pulls: list[tuple[nn.Parameter, Pull]] = [
        (weight, partial(tether, start=weight.detach().float().clone(), strength=alpha)) for weight in pretrained.values() if alpha
    ]
    others = [weight for name, weight in learning(model).items() if name not in pretrained and beta]
    return pulls + [(weight, partial(ridge, strength=beta)) for weight in others]
