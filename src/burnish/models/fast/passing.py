"""What goes through a model at the moment: the parts of the fast path read it, the engine sets it around forward and backward.

Legend: B examples in a micro-batch, N their tokens without padding, n rows of a hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from burnish.core.protocols import Batch


@dataclass(frozen=True)
class Rows:
    """Which token each of n rows of a hidden state is of: `slots` (n,) places in the global batch, `positions` (n,) within the example."""

    slots: torch.Tensor
    positions: torch.Tensor

    def __len__(self) -> int:
        return len(self.slots)

    def taken(self, indices: torch.Tensor) -> Rows:
        return Rows(self.slots[indices], self.positions[indices])


@dataclass
class Passing:
    """One micro-batch on its way through a model.

    `slots` are the places of its examples in the global batch, which do not depend on how that is cut; `key` is (seed, step).
    `rows` says of which tokens the hidden states are that are being computed: it changes on the way (all tokens, then those that
    the head reads). `lengths` are the examples' tokens, counted before anything was moved to a GPU.
    """

    batch: Batch
    slots: Sequence[int]
    key: tuple[int, int]
    lengths: Sequence[int] = field(default=())
    rows: Rows | None = None


class Passage:
    """Where the modules of one model find the micro-batch that goes through it; None outside of a pass."""

    def __init__(self) -> None:
        self.now: Passing | None = None

    @contextmanager
    def of(self, batch: Batch, slots: Sequence[int], key: tuple[int, int]) -> Iterator[Passing]:
        """Within, `batch` goes through: forward, and backward too, for blocks may be computed again there."""
        mask = batch.inputs.get("attention_mask")
        lengths = [] if mask is None else mask.sum(dim=1).tolist()
        before, self.now = self.now, Passing(batch, slots, key, lengths)
        try:
            yield self.now
        finally:
            self.now = before
