"""What the methods of peft that change layers share: small parameters are hung into the layers, and everything else stays."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from burnish.core.errors import ModelError, nearest
from burnish.core.protocols import Anatomy, Course, Technique
from burnish.core.spec import Spec
from burnish.methods.folders import base_of, keep_adapter

if TYPE_CHECKING:
    from torch import nn


class Injected(Spec):
    """A method of peft that changes layers of the model. A head that starts at random learns in full.

    Saved as a small peft folder; `burnish merge` gives plain weights.
    """

    target: list[str] | None = Field(default=None, min_length=1)
    """Names of layers to adapt, or their last parts, such as query; by default those of the blocks that the method is made for."""

    takes_quantized: ClassVar[tuple[str, ...]] = ("nf4", "int8")

    opens_quantized: ClassVar[tuple[str, ...]] = ("nf4", "int8")

    within: ClassVar[str] = ""
    """The folder of the weights under the adapter, within the model's: `base` where transformers cannot open the adapter by itself."""

    @property
    def positions(self) -> int:
        return 0

    @abstractmethod
    def config(self, model: Any, anatomy: Anatomy) -> Any:
        """peft's configuration of the method for this model."""

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        import peft

        with refused(self, model):
            return peft.get_peft_model(model, self.config(model, anatomy))

    def faults(self, train: Any) -> list[str]:
        return []

    def techniques(self, model: nn.Module, anatomy: Anatomy, course: Course) -> list[Technique]:
        return []

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        keep_adapter(model, folder, base, self.within)

    def open(self, folder: Path, load: Callable[[Path], Any]) -> nn.Module:
        import peft

        with base_of(folder) as plain, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model: nn.Module = peft.PeftModel.from_pretrained(load(plain), str(folder))
        return model

    def merged(self, folder: Path, load: Callable[[Path], Any]) -> Any:
        """Each changed layer as one matrix, W' = W + update, of which peft makes sure that it is finite."""
        model: Any = self.open(folder, load)
        unwrap_heads(model)
        with refused(self, model.get_base_model()):
            return model.merge_and_unload(safe_merge=True)

    def targets(self, anatomy: Anatomy, usual: Sequence[str] | None = None) -> list[str]:
        """Full names of the layers to adapt: those that the recipe names, else the `usual` ones, else every linear layer of the blocks.

        Raises ModelError where there are none, or none of that name.
        """
        if not anatomy.linears:
            raise ModelError(
                f"`method`: {self.name} changes linear layers, and the blocks of this model have none. Use full, freeze, bitfit or norms."  # type: ignore[attr-defined]
            )
        if self.target is None:
            return list(anatomy.linears if usual is None else usual)
        return chosen(self.target, anatomy.linears, "linear layer")


def chosen(wanted: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """Those of the `known` modules that are wanted. Raises ModelError where a wanted name is not in the model."""
    last = {name.rpartition(".")[2] for name in known}
    for want in wanted:
        if not any(named(name, want) for name in known):
            raise ModelError(f"`method.target`: no {what} is named {want!r}{nearest(want, last)} (known: {', '.join(sorted(last))})")
    return [name for name in known if any(named(name, want) for want in wanted)]


def unwrap_heads(model: nn.Module) -> None:
    """Puts modules that learned in full in the place of their originals; of what peft merges, only single layers could be that."""
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, module.modules_to_save["default"])


def named(name: str, want: str) -> bool:
    return name == want or name.endswith("." + want)


def fresh_heads(anatomy: Anatomy) -> list[str] | None:
    """Modules that have to learn in full, since no pretrained weights filled them."""
    return list(anatomy.head_modules) if set(anatomy.fresh) & set(anatomy.head) else None


def require_no_new_tokens(method: str, anatomy: Anatomy) -> None:
    """Raises ModelError where the task added tokens, whose embeddings the method cannot let learn."""
    if anatomy.new_tokens:
        raise ModelError(
            f"`method`: the task adds {len(anatomy.new_tokens)} tokens to the vocabulary, and {method} cannot let their embeddings learn: "
            "they would stay noise. Use lora, dora, rslora or full, or a tokenizer that has these tokens."
        )


@contextmanager
def refused(method: Any, model: Any) -> Iterator[None]:
    """What peft cannot do with a model, as a ModelError that says so."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on what peft sets right by itself (GPT-2's transposed layers) or does as wished
            yield
    except (ValueError, TypeError, NotImplementedError, AttributeError, KeyError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"`method`: peft cannot apply {method.name} to {type(model).__name__} ({reason}). Use another method, such as lora."
        ) from error
