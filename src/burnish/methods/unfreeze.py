"""Gradual unfreezing: the head learns first, and from epoch to epoch another block below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy, Course, Technique
from burnish.core.registry import register
from burnish.methods.select import OwnParameters, train_only

if TYPE_CHECKING:
    from torch import nn


@register("method")
class Unfreeze(OwnParameters):
    """At first only the head learns; every `every` epochs `blocks` more blocks do, from the top, and the embeddings last.

    Keeps a random head from washing out what the lower blocks know. Give the run more epochs than it takes to reach the bottom, or
    only the upper part will have learned. Howard and Ruder 2018, "ULMFiT", arXiv:1801.06146, section 3.3.
    """

    name: Literal["unfreeze"] = "unfreeze"

    every: float = Field(default=1.0, gt=0)
    """Epochs from one unfreezing to the next; 0.25 to 1."""

    blocks: int = Field(default=1, ge=1)
    """Blocks that begin to learn each time; 1 to 4."""

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        """All learn sooner or later, so that the optimizer knows them all; `techniques` holds back those whose time has not come."""
        if not anatomy.head:
            raise ModelError(
                "`method`: unfreeze begins with the head, and this model's output is tied to its embeddings. Use freeze, lora or full."
            )
        return train_only(model, (name for name, _ in model.named_parameters()))

    def techniques(self, model: nn.Module, anatomy: Anatomy, course: Course) -> list[Technique]:
        return [Thaw(model, self.stages(anatomy), max(1, round(self.every * course.steps_per_epoch)))]

    def stages(self, anatomy: Anatomy) -> list[set[str]]:
        """What begins to learn at each stage: the head, blocks from the top, the embeddings."""
        top_down = list(reversed(anatomy.blocks))
        groups = [top_down[start : start + self.blocks] for start in range(0, len(top_down), self.blocks)]
        return [set(anatomy.head), *({name for block in group for name in block} for group in groups), set(anatomy.embeddings)]


class Thaw(Technique):
    """Lets each stage learn from its step on: a pure function of the step, so that a resumed run needs no memory of it.

    A parameter that waits has no gradient, and optimizers leave such ones alone, decay included.
    """

    def __init__(self, model: nn.Module, stages: list[set[str]], steps: int) -> None:
        waiting = {name: stage for stage, names in enumerate(stages) for name in names}
        self.begins = [(parameter, waiting.get(name, 0) * steps) for name, parameter in model.named_parameters() if parameter.requires_grad]

    def before(self, step: int) -> None:
        for parameter, begins in self.begins:
            parameter.requires_grad_(step >= begins)
