"""The lowest blocks, where nothing learns: how many they are, and how they are kept still. Imports no torch, for the recipe does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from burnish.core.protocols import Anatomy

if TYPE_CHECKING:
    from torch import nn


def first_stack(anatomy: Anatomy) -> int:
    """How many blocks stand in the first list: all of them, or an encoder-decoder's encoder."""
    lists = [name.rpartition(".")[0] for name in anatomy.block_modules]
    return lists.count(lists[0]) if lists else 0


def frozen_blocks(model: nn.Module, anatomy: Anatomy) -> int:
    """How many of the lowest blocks (of the first stack) give the same for the same tokens however long is trained.

    Nothing learns in them, in what a method hung into them, or in the embeddings. Gradual unfreezing lets everything learn, sooner or
    later, and so has none.
    """
    learning = {anatomy.role(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    if "embeddings" in learning:
        return 0
    stack = first_stack(anatomy)
    return next((below for below in range(stack) if f"block {below + 1}" in learning), stack)


@dataclass(frozen=True)
class Still:
    """A module's `train` that leaves it in evaluation mode whatever is asked: it drops nothing, and makes no noise of another kind."""

    module: nn.Module

    def __call__(self, mode: bool = True) -> nn.Module:
        return type(self.module).train(self.module, False)


def hold_still(model: Any, anatomy: Anatomy, blocks: int) -> None:
    """Keeps the lowest `blocks` of the model itself (not wrapped by its method) in evaluation mode, from now on."""
    for name in anatomy.block_modules[:blocks]:
        block = model.get_submodule(name)
        block.train = Still(block)
        block.train()
