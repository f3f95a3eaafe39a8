"""The lowest blocks of a model give what they gave before: kept when examples first go through, put in place of computing it later.

Legend: B examples in a micro-batch, T tokens of the longest, N tokens of all, S rows that are read, n rows of a hidden state, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from burnish.core.protocols import Batch
from burnish.models.fast.passing import Passage
from burnish.models.fast.store import Filling, Store
from burnish.models.fast.trimmed import Trimmed


class Enough(Exception):
    """The highest of the blocks has given its output: what stands above it is not wanted in this pass."""


class Kept:
    """The forward of a block: its own, or what it gave before. Of the blocks below the `highest` nobody then asks anything."""

    def __init__(self, block: nn.Module, replay: Replay, highest: bool) -> None:
        self.forward, self.replay, self.highest = block.forward, replay, highest

    def __call__(self, *args: Any, **named: Any) -> Any:
        replay = self.replay
        if replay.replaying:
            hidden = args[0] if args else named["hidden_states"]
            return replay.shaped(replay.replayed(hidden) if self.highest else hidden)
        found = self.forward(*args, **named)
        if self.highest and replay.filling is not None:
            replay.record(found)
        return found


class Replay:
    """The lowest blocks of a model, and what the highest of them gave. In evaluation they are computed as ever.

    `whole` says that they are all blocks of the model, so that of the highest only what the head reads has to be kept. What it gives
    is kept while there is a `filling`, and given again while there is a `store`; with `stopping`, a pass ends there.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[nn.Module], whole: bool, passage: Passage) -> None:
        self.model, self.blocks, self.whole, self.passage = model, blocks, whole, passage
        self.store: Store | None = None
        self.filling: Filling | None = None
        self.stopping = False
        self.arity: int | None = None
        self.spread = whole and spreads(blocks[-1].forward)
        self.place = int(getattr(blocks[-1], "place", 0))
        for block in blocks:
            block.forward = Kept(block, self, block is blocks[-1])

    def remove(self) -> None:
        """Puts the blocks' own forwards back."""
        for block in self.blocks:
            kept: Any = block.forward
            block.forward = kept.forward

    @property
    def replaying(self) -> bool:
        return self.store is not None and self.filling is None and self.passage.now is not None and self.model.training

    def shaped(self, hidden: torch.Tensor) -> Any:
        """A hidden state as these blocks give it: alone, or the first of several things."""
        return hidden if self.arity is None else (hidden, *[None] * (self.arity - 1))

    def record(self, found: Any) -> None:
        """Keeps the output of the micro-batch that goes through: (B, T, D) padded, (1, N, D) packed, (1, S, D) trimmed."""
        now, filling = self.passage.now, self.filling
        assert now is not None and filling is not None, "a pass is announced while something is kept"
        self.arity = len(found) if isinstance(found, tuple) else None
        hidden = found[0] if isinstance(found, tuple) else found
        rows, layout = hidden.reshape(-1, hidden.shape[-1]), now.layout_at(self.place)
        if layout is None:
            counts, positions, source = real_tokens(now.batch, hidden)
            rows = rows[source]
        elif self.whole and layout.read is not None:
            counts, positions = list(layout.queries.lengths), layout.positions[layout.read]
            rows = rows[layout.read] if self.spread else rows
        else:
            rows, counts, positions = layout.complete(rows), layout.lengths, layout.keys.positions
        filling.add(now.batch.examples, rows, counts, positions)
        if self.stopping:
            raise Enough

    def replayed(self, below: torch.Tensor) -> torch.Tensor:
        """What was kept of the micro-batch that goes through, laid out like the hidden state `below`, trimmed where the pass is.

        Where only the rows that the head reads were kept, and the pass has room for all, zeros stand in the place of the others.
        """
        now, store = self.passage.now, self.store
        assert now is not None and store is not None, "only within a pass is something given again"
        kept, counts, positions = store.taken(now.batch.examples)
        kept, layout = kept.to(below.device, non_blocking=True), now.layout_at(self.place)  # (n, D)
        read = layout.read if layout is not None and self.whole and not self.spread else None
        if layout is not None and read is not None and counts == list(layout.queries.lengths):
            return kept[None]
        lengths, _, source = real_tokens(now.batch, below) if layout is None else (layout.lengths, None, None)
        if counts != lengths:
            kept = self.among_all(kept, counts, positions, lengths)  # (N, D)
        if source is not None:
            size = below.shape[:2]
            return kept.new_zeros(size.numel(), kept.shape[1]).index_copy(0, source, kept).view(*size, -1)
        kept = kept if layout is None else layout.computed(kept)
        return (kept if read is None else kept.index_select(0, read))[None]

    def among_all(self, kept: torch.Tensor, counts: Sequence[int], positions: np.ndarray, lengths: Sequence[int]) -> torch.Tensor:
        """(N, D) the rows (n, D) of some tokens among zeros."""
        if not self.whole:
            raise RuntimeError("the examples are no longer those whose hidden states were kept")
        starts = np.repeat(np.cumsum(lengths) - lengths, counts)
        places = torch.from_numpy(starts + positions).to(kept.device)
        return kept.new_zeros(sum(lengths), kept.shape[1]).index_copy(0, places, kept)


def real_tokens(batch: Batch, hidden: torch.Tensor) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Of a padded hidden state (B, T, D): how many real tokens each example has; (N,) their positions in it, and their places in (B T)."""
    mask = batch.inputs.get("attention_mask")
    real = torch.ones(hidden.shape[:2], device=hidden.device) if mask is None else mask  # (B, T)
    positions = (real.cumsum(dim=1) - 1)[real.bool()].long()
    return [int(length) for length in real.sum(dim=1).tolist()], positions, real.flatten().nonzero()[:, 0]


def spreads(forward: Any) -> bool:
    """Whether a trimmed block puts the rows that it computes back among the others; other things may be wrapped around it."""
    while forward is not None and not isinstance(forward, Trimmed):
        forward = getattr(forward, "forward", None)
    return forward is not None and forward.spread
