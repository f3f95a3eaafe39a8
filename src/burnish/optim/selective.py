"""The recipe's `selective` section: learning rates, decay and penalties that are not the same for every parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from burnish.core.errors import count
from burnish.core.protocols import Anatomy, Technique
from burnish.core.spec import Spec

if TYPE_CHECKING:
    from torch import nn

Factor = Annotated[float, Field(gt=0)]
Strength = Annotated[float, Field(ge=0)]


class StartingPoint(Spec):
    """L2-SP: alpha / 2 |w - w0|^2 for parameters that were pretrained, w0 being what they were, and beta / 2 |w|^2 for all others.

    On few rows it forgets less than decay toward zero does. Li, Grandvalet and Davoine 2018, arXiv:1802.01483, eq. 2.
    """

    alpha: Strength = 0.01
    """Pull of pretrained parameters toward the values that they came with; 1e-3 to 1e-1."""

    beta: Strength = 0.01
    """Pull of fresh parameters (the new head) toward zero; 1e-3 to 1e-1."""


class Selective(Spec):
    """What differs between parameters: learning rates, decay, and penalties on the weights. Factors on a rate multiply.

    A penalty adds to the gradient of the whole batch, once an update, and so goes through momentum and scaling (it is *coupled*);
    the optimizer's own weight_decay is decoupled in adamw, adafactor and lion. Its value is told as `penalty`, beside the loss.
    """

    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor on the rate for each block that lies above: lr * decay^k in the k-th block from the top, embeddings lowest; 0.65 to 0.95."""

    embeddings: Factor = 1.0
    """Factor on the learning rate of the embeddings; 0.1 to 1."""

    head: Factor = 1.0
    """Factor on the learning rate of what stands above the blocks; 1 to 10, for it starts at random."""

    rates: dict[str, Factor] = {}
    """Factors on learning rates, by patterns of parameter names such as {"*.attention.*": 0.5}."""

    decay: dict[str, Strength] = {}
    """Weight decay by kind (weights, biases, norms, embeddings, head) or by patterns of names; 0 to 0.1. The last pattern that fits counts."""

    l1: Strength = 0.0
    """Strength of l1 * |w|, which drives weights to zero; never on biases and norms; 1e-6 to 1e-4."""

    l2: Strength = 0.0
    """Strength of l2 / 2 * |w|^2, coupled weight decay; never on biases and norms; 1e-5 to 1e-2."""

    l2_sp: StartingPoint | None = None
    """Penalty on the distance from the pretrained weights: {alpha: 0.01, beta: 0.01}."""

    def groups(self, model: nn.Module, anatomy: Anatomy, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer. Raises ModelError for a pattern that fits no parameter that learns."""
        from burnish.optim.groups import lr_factors, parameter_groups, weight_decays

        of_roles = {"embeddings": self.embeddings, "head": self.head}
        factors = lr_factors(model, anatomy, 1.0 if self.layer_decay is None else self.layer_decay, of_roles, self.rates)
        return parameter_groups(model, lr, weight_decay, factors, weight_decays(model, anatomy, self.decay, weight_decay))

    def techniques(self, model: nn.Module, anatomy: Anatomy) -> list[Technique]:
        """The penalties. Raises ModelError where there is nothing that one could act on."""
        from burnish.optim.penalties import Penalty, held, lessened

        pulls = lessened(model, self.l1, self.l2)
        if self.l2_sp is not None:
            pulls += held(model, anatomy, self.l2_sp.alpha, self.l2_sp.beta)
        return [Penalty(pulls)] if pulls else []

    def notes(self, groups: Sequence[Mapping[str, Any]]) -> list[str]:
        """A sentence on what differs between parameters, for header and report; nothing where nothing does."""
        if self == Selective():
            return []
        told = [count(len(groups), "group of parameters", "groups of parameters")]
        for key, name in (("initial_lr", "learning rate"), ("weight_decay", "weight decay")):
            values = sorted({group[key] for group in groups})
            told.append(
                f"{count(len(values), name)} from {values[0]:.3g} to {values[-1]:.3g}" if len(values) > 1 else f"{name} {values[0]:.3g}"
            )
        acting = [key for key in ("l1", "l2", "l2_sp") if getattr(self, key)]
        return [f"selective: {', '.join(told)}" + (f"; penalties: {', '.join(acting)}" if acting else "")]
