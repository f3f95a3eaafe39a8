"""Methods that train some of the model's own parameters and leave the others as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy, Course, Technique
from burnish.core.registry import register
from burnish.core.spec import Spec

if TYPE_CHECKING:
    from torch import nn


def train_only(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Lets exactly the parameters `names` learn, but for those that the architecture itself holds fixed (sinusoidal positions).

    Raises ModelError where nothing is left to learn.
    """
    fixed = {f"{name}." for name, module in model.named_modules() if "Sinusoidal" in type(module).__name__}
    chosen = {name for name in names if not name.startswith(tuple(fixed))}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(
            "this method leaves nothing to learn: the model has no parameters of its own above its last block (its output is tied "
            "to its embeddings). Use method=freeze, lora or full."
        )
    return model


class OwnParameters(Spec):
    """A method whose result is an ordinary model."""

    def techniques(self, model: nn.Module, anatomy: Anatomy, course: Course) -> list[Technique]:
        return []

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        model.save_pretrained(folder)


@register("method")
class Full(OwnParameters):
    """Every parameter learns. The strongest with enough rows; costs four times the weights' memory with AdamW."""

    name: Literal["full"] = "full"

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        return train_only(model, (name for name, _ in model.named_parameters()))


@register("method")
class Head(OwnParameters):
    """Only what stands above the last block learns (pooler, classifier): a linear probe of the frozen features."""

    name: Literal["head"] = "head"

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        return train_only(model, anatomy.head)


@register("method")
class Freeze(OwnParameters):
    """The lowest blocks stay as they are; the upper ones and the head learn. Cheaper, and steadier on few rows."""

    name: Literal["freeze"] = "freeze"

    blocks: int = Field(ge=0)
    """Number of blocks to freeze, counted from the bottom; half of them is a good start."""

    embeddings: bool = True
    """Whether the embeddings stay frozen too."""

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        if self.blocks > len(anatomy.blocks):
            raise ModelError(f"`method.blocks`: {self.blocks} blocks cannot be frozen, the model has {len(anatomy.blocks)}.")
        free = [name for block in anatomy.blocks[self.blocks :] for name in block]
        below = [] if self.embeddings else anatomy.embeddings
        return train_only(model, [*below, *free, *anatomy.head])
