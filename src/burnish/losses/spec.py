"""The recipe's `loss` section: what is counted where a model chooses wrongly. Imports no torch.

Legend: S choices, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import Field, model_validator

from burnish.core.protocols import Chosen
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.losses.classes import ClassWeights, Weighing

if TYPE_CHECKING:
    import torch

    from burnish.losses.likelihood import Pointwise


CHOSEN = {"labels": "yes or no for each of several labels", "token": "tokens of a whole vocabulary", "place": "places in a text"}
"""What a model chooses where it is not one of a few labels, in words."""


class Loss(Protocol):
    """The recipe's side of a loss: `class_weights` says how much each class counts, `build` gives the loss of single choices."""

    class_weights: Weighing | None
    beta: float | None

    def build(self, weights: torch.Tensor | None) -> Pointwise:
        """`weights` (C,) are the classes' weights, None where all count the same."""
        ...


@register("loss")
class CrossEntropy(Spec):
    """-log of the probability of what is right: the likelihood itself, -log p(target), in nats.

    Smoothing takes its target for (1 - s) certain and spreads s evenly over all classes (Szegedy et al. 2016, arXiv:1512.00567): for
    models that grow too sure of themselves, or labels that are sometimes wrong.
    """

    name: Literal["cross_entropy"] = "cross_entropy"

    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes; 0.05 to 0.2 against overconfidence."""

    class_weights: Annotated[Weighing | None, ClassWeights()] = None
    """How much each class counts: balanced (inversely to its rows), effective (more gently), or a number for each label."""

    beta: float | None = Field(default=None, ge=0, lt=1)
    """How far effective weights go, from 0 (all alike) towards 1 (inversely to the rows); 0.9 to 0.9999, by default 0.999."""

    @model_validator(mode="after")
    def beta_is_used(self) -> CrossEntropy:
        require_effective(self)
        return self

    def build(self, weights: torch.Tensor | None) -> Pointwise:
        from burnish.losses.weighted import cross_entropy

        return cross_entropy(self.smoothing, weights)


@register("loss")
class Focal(Spec):
    """Cross-entropy of which choices that are well made count less: -(1 - p)^gamma log p of the probability p of what is right.

    Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, eq. 4, and with class weights eq. 5. With gamma 2 a
    choice at p = 0.9 counts a hundredth. It helps where easy choices are so many that they drown the hard ones: tagging, where nearly
    every word is O, or a rare label. Probabilities become less sure; with few noisy rows it chases the noise.
    """

    name: Literal["focal"] = "focal"

    gamma: float = Field(default=2.0, ge=0)
    """How much less easy choices count; 0 is cross-entropy, usual are 0.5 to 5."""

    class_weights: Annotated[Weighing | None, ClassWeights()] = None
    """How much each class counts (alpha): balanced (inversely to its rows), effective (more gently), or a number for each label."""

    beta: float | None = Field(default=None, ge=0, lt=1)
    """How far effective weights go, from 0 (all alike) towards 1 (inversely to the rows); 0.9 to 0.9999, by default 0.999."""

    @model_validator(mode="after")
    def beta_is_used(self) -> Focal:
        require_effective(self)
        return self

    def build(self, weights: torch.Tensor | None) -> Pointwise:
        from burnish.losses.weighted import focal

        return focal(self.gamma, weights)


def loss_fault(loss: Loss, chosen: Chosen) -> str | None:
    """Why a task cannot learn by this loss, or None."""
    if chosen == "number" and loss != CrossEntropy():
        return (
            "the task predicts a number by squared error and chooses nothing, so that there are no probabilities to smooth, focus or "
            "weigh: leave `loss` out"
        )
    if loss.class_weights is not None and chosen not in ("row", "word"):
        return (
            f"`class_weights` are for tasks with one label a row or word (classify, tag); this one chooses {CHOSEN[chosen]}: leave them out"
        )
    return None


def require_effective(loss: Loss) -> None:
    """Raises ValueError where `beta` is given and nothing asks for it."""
    if loss.beta is not None and loss.class_weights != "effective":
        raise ValueError("`beta` belongs to class_weights=effective; leave it out otherwise")
