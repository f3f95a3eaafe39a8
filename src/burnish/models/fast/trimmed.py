"""The last block only for the rows that are read: keys and values of all tokens, everything else of those rows.

Legend: N tokens, S rows that are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from burnish.core.protocols import Anatomy
from burnish.models.fast.attention import CapturedKeys
from burnish.models.fast.passing import Passage

QUERY = re.compile(r"(^|[._])(q|query|wq)(_proj|_lin)?$")
"""What architectures call the linear layer that makes queries, where it makes nothing else."""

WORTH = 0.8
"""Share of the tokens that are read, above which the second pass costs more than it saves."""


class Trimmed:
    """The forward of the last block, in two passes.

    The first goes over all N tokens and ends as soon as attention has its keys and values. The second goes over the S rows that are
    read: their queries meet those keys, and the rest of the block (attention's output, norms, feed-forward) is computed for them alone.
    The block of an encoder that is read at one position of 25 so costs about a fifth of itself. With `spread`, the rows are put back
    among the N (zeros elsewhere), for models that go on to count their tokens (GPT-2).
    """

    def __init__(self, block: nn.Module, queries: Sequence[nn.Module], passage: Passage, spread: bool) -> None:
        self.forward, self.queries, self.passage, self.spread = block.forward, queries, passage, spread

    def __call__(self, hidden: torch.Tensor, *args: Any, **named: Any) -> Any:
        now = self.passage.now
        if now is None or now.layout is None or now.layout.read is None:
            return self.forward(hidden, *args, **named)
        read, total = now.layout.read, hidden.shape[1]
        now.capturing = True
        try:
            with without_queries(self.queries):
                self.forward(hidden, *args, **named)
        except CapturedKeys as keys:
            now.captured = (keys.key, keys.value)
        finally:
            now.capturing = False
        if now.captured is None:
            raise RuntimeError("the last block attends to nothing")
        try:
            chosen = [of_rows(one, read, total) for one in (hidden, *args)]
            found = self.forward(*chosen, **{name: of_rows(one, read, total) for name, one in named.items()})
            return put_back(found, read, total) if self.spread else found
        finally:
            now.captured = None


def of_rows(value: Any, read: torch.Tensor, total: int) -> Any:
    """What belongs to the rows that are read, of whatever holds something for each of `total` tokens (rotations, positions)."""
    if isinstance(value, torch.Tensor) and value.dim() >= 2 and value.shape[1] == total:
        return value.index_select(1, read)
    if isinstance(value, tuple):
        return tuple(of_rows(one, read, total) for one in value)
    if isinstance(value, Mapping) and type(value) is dict:
        return {name: of_rows(one, read, total) for name, one in value.items()}
    return value


def put_back(found: Any, read: torch.Tensor, total: int) -> Any:
    """Rows (1, S, D), or the first of several things that a block gives, among `total` rows that are zero elsewhere."""
    if isinstance(found, tuple):
        return (put_back(found[0], read, total), *found[1:])
    return found.new_zeros(1, total, found.shape[-1]).index_copy(1, read, found)


@contextmanager
def without_queries(queries: Sequence[nn.Module]) -> Iterator[None]:
    """Within, layers that make queries give zeros that take no memory: nobody asks in the first pass."""

    def nothing(layer: nn.Module) -> Any:
        width = int(getattr(layer, "out_features", 0))
        return lambda hidden, *args, **named: hidden.new_zeros(()).expand(*hidden.shape[:-1], width)

    before = [vars(layer).get("forward") for layer in queries]
    for layer in queries:
        layer.forward = nothing(layer)
    try:
        yield
    finally:
        for layer, own in zip(queries, before, strict=True):
            if own is None:
                del layer.forward
            else:
                layer.forward = own


def trim(model: Any, anatomy: Anatomy, passage: Passage, spread: bool) -> None:
    """Gives the last block of a model that forward."""
    block: nn.Module = model.get_submodule(anatomy.block_modules[-1])
    queries = [layer for name, layer in block.named_modules() if QUERY.search(name) and hasattr(layer, "out_features")]
    block.forward = Trimmed(block, queries, passage, spread)
