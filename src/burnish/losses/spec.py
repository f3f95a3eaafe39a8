"""The recipe's `loss` section: what is counted where a model chooses wrongly. Imports no torch.

Legend: S choices, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from burnish.core.registry import register
from burnish.core.spec import Spec

if TYPE_CHECKING:
    import torch

    from burnish.losses.likelihood import Pointwise


class Loss(Protocol):
    """The recipe's side of a loss: `class_weights` says how much each class counts, `build` gives the loss of single choices."""

    class_weights: Literal["balanced", "effective"] | Mapping[str, float] | None

    def build(self, weights: torch.Tensor | None) -> Pointwise:
        """`weights` (C,) are the classes' weights, None where all count the same."""
        ...


@register("loss")
class CrossEntropy(Spec):
    """-log of the probability of what is right: the likelihood itself."""

    name: Literal["cross_entropy"] = "cross_entropy"

    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes; 0.05 to 0.2 against overconfidence."""

    class_weights: Literal["balanced", "effective"] | dict[str, float] | None = None
    """How much each class counts: balanced (inversely to its rows), effective (more gently), or a number for each label."""

    def build(self, weights: torch.Tensor | None) -> Pointwise:
        from burnish.losses.weighted import cross_entropy

        return cross_entropy(self.smoothing, weights)
