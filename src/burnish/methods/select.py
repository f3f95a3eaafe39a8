"""Methods that train some of the model's own parameters and leave the others as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from burnish.core.errors import ModelError, nearest
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

    takes_quantized: ClassVar[tuple[str, ...]] = ()

    opens_quantized: ClassVar[tuple[str, ...]] = ("nf4", "int8")

    @property
    def positions(self) -> int:
        return 0

    def faults(self, train: Any) -> list[str]:
        return []

    def techniques(self, model: nn.Module, anatomy: Anatomy, course: Course) -> list[Technique]:
        return []

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        model.save_pretrained(folder)

    def open(self, folder: Path, load: Callable[[Path], Any]) -> nn.Module:
        model: nn.Module = load(folder)
        return model

    def merged(self, folder: Path, load: Callable[[Path], Any]) -> Any:
        raise ModelError(f"there is nothing to merge: {folder} holds plain weights already, as transformers opens them.")


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

    takes_quantized: ClassVar[tuple[str, ...]] = ("nf4", "int8")

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        return train_only(model, anatomy.head)


@register("method")
class Freeze(OwnParameters):
    """The lowest blocks, or parameters of the names given, stay as they are; all others learn. Cheaper, and steadier on few rows."""

    name: Literal["freeze"] = "freeze"

    blocks: int | None = Field(default=None, ge=0)
    """Number of blocks to freeze, counted from the bottom; null for half of them (for none where `names` says what to freeze)."""

    names: list[str] = []
    """Parameters to freeze beside those blocks, as patterns of their names, such as "*.attention.*" or "*.bias"."""

    embeddings: bool = True
    """Whether the embeddings stay frozen too."""

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        usual = 0 if self.names else len(anatomy.blocks) // 2
        blocks = usual if self.blocks is None else self.blocks
        if blocks > len(anatomy.blocks):
            raise ModelError(f"`method.blocks`: {blocks} blocks cannot be frozen, the model has {len(anatomy.blocks)}.")
        free = [name for block in anatomy.blocks[blocks:] for name in block]
        below = [] if self.embeddings else anatomy.embeddings
        frozen = self.matching([name for name, _ in model.named_parameters()])
        learning = [name for name in [*below, *free, *anatomy.head] if name not in frozen]
        if not learning:
            raise ModelError(
                "`method`: freeze leaves nothing to learn: its blocks, names and embeddings hold every parameter that the model has "
                "(an output that is tied to the embeddings is embeddings). Freeze fewer."
            )
        return train_only(model, learning)

    def matching(self, parameters: Sequence[str]) -> set[str]:
        """The parameters that the patterns name. Raises ModelError where a pattern names none."""
        found: set[str] = set()
        for pattern in self.names:
            own = {name for name in parameters if fnmatchcase(name, pattern)}
            if not own:
                raise ModelError(
                    f"`method.names`: no parameter matches {pattern!r}{nearest(pattern, parameters)}; the first is {parameters[0]}."
                )
            found |= own
        return found


@register("method")
class BitFit(OwnParameters):
    """Only biases and the head learn: a thousandth of the parameters, near full fine-tuning on few rows.

    Wants a learning rate of 1e-4 to 1e-3. Ben Zaken et al. 2021, "BitFit", arXiv:2106.10199.
    """

    name: Literal["bitfit"] = "bitfit"

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        biases = [
            name for name, _ in model.named_parameters() if name.rpartition(".")[2].endswith("bias") and name not in set(anatomy.head)
        ]
        if not biases:
            raise ModelError(
                f"`method`: bitfit trains biases, and {type(model).__name__} has none (as llama and t5 have not). Use norms, ia3 or lora."
            )
        return train_only(model, [*biases, *anatomy.head])


@register("method")
class Norms(OwnParameters):
    """Only the norms (scale and shift) and the head learn: fewer parameters still than the biases, and every architecture has them.

    Wants a learning rate of 1e-4 to 1e-2. Qi et al. 2022, arXiv:2210.10692; Zhao et al. 2023, arXiv:2312.11420.
    """

    name: Literal["norms"] = "norms"

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        norms = [
            f"{name}.{inner}"
            for name, module in model.named_modules()
            if "norm" in type(module).__name__.lower()
            for inner, _ in module.named_parameters(recurse=False)
        ]
        return train_only(model, [*norms, *anatomy.head])
