"""What goes through a model at the moment: the parts of the fast path read it, the engine sets it around forward and backward.

Legend: B examples in a micro-batch, T tokens of the longest, N tokens of all without padding, n rows of a hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from burnish.core.protocols import Batch, Key
from burnish.models.fast.layout import Crossing, Layout, Rows


@dataclass
class Passing:
    """One micro-batch on its way through a model.

    `slots` are the places of its examples in the global batch, which do not depend on how that is cut; `key` is (seed, step).
    `lengths` are the examples' tokens. `layout` says how they lie where they are packed, None where they are padded; where an encoder
    stands beside the decoder that is read, `source` says it of the encoder's, whose modules have the places `encoder`, and `crossing` how
    the one looks at the other. `known` are
    the sets of rows that hidden states may have on the way: all tokens, and those that the head reads. In the last block keys and
    values are first captured, of all tokens, and then asked by those that are read. `closing` puts things back when the pass is over.
    `visits` counts how often each place where something is drawn at random was gone through.
    """

    batch: Batch
    slots: Sequence[int]
    key: Key
    lengths: Sequence[int] = ()
    layout: Layout | None = None
    source: Layout | None = None
    encoder: frozenset[int] = frozenset()
    known: list[Rows] = field(default_factory=list)
    capturing: bool = False
    captured: tuple[torch.Tensor, torch.Tensor] | None = None
    crossing: Crossing | None = None
    closing: ExitStack = field(default_factory=ExitStack)
    visits: dict[int, int] = field(default_factory=dict)

    def layout_at(self, place: int) -> Layout | None:
        """How the tokens lie that go through the module at a place: an encoder's, or those that are read in the end.

        It is asked by place and not by how far the pass has come, for a block that is computed again in backward asks too.
        """
        return self.source if place in self.encoder else self.layout

    def rows_of(self, count: int, place: int) -> Rows | None:
        """Which tokens `count` rows are of, by place and number (one set holds the other, so that sets of one size are the same)."""
        if self.source is not None and place in self.encoder:
            return self.source.all_rows if count == len(self.source.all_rows) else None
        return next((rows for rows in self.known if len(rows) == count), None)

    def key_at(self, place: int) -> tuple[int, ...]:
        """What is drawn at a place depends on this: (seed, step), and from the second visit on its number.

        Some modules are gone through several times: by blocks that share their weights (ALBERT), at both ends of T5's stacks. To capture
        keys and values is no visit, for the block is then computed.
        """
        visit = self.visits.get(place, 0)
        if not self.capturing:
            self.visits[place] = visit + 1
        return self.key if visit == 0 else (*self.key, visit)


class Revisiting:
    """Around a block that is computed again: it finds the counts of visits that its first computation found."""

    def __init__(self, now: Passing) -> None:
        self.now, self.found = now, dict(now.visits)

    def __enter__(self) -> None:
        self.outside, self.now.visits = self.now.visits, dict(self.found)

    def __exit__(self, *error: object) -> None:
        self.now.visits = self.outside


class Passage:
    """Where the modules of one model find the micro-batch that goes through it; `now` is None outside of a pass.

    `keyed` says whether dropout is drawn by key, or by torch's generator. `encoder` are the places of an encoder that stands beside a
    decoder, `crossing` those of the decoder's attention to it.
    """

    def __init__(self) -> None:
        self.now: Passing | None = None
        self.keyed = False
        self.encoder: frozenset[int] = frozenset()
        self.crossing: frozenset[int] = frozenset()

    @contextmanager
    def of(self, batch: Batch, slots: Sequence[int], key: Key) -> Iterator[Passing]:
        """Within, `batch` goes through: forward, and backward too, for blocks may be computed again there."""
        mask = batch.inputs.get("attention_mask")
        lengths = [] if mask is None else mask.sum(dim=1).tolist()
        before, self.now = self.now, (now := Passing(batch, slots, key, lengths, encoder=self.encoder))
        try:
            with now.closing:
                yield now
        finally:
            self.now = before

    def computed_twice(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What stands around a block that is about to be computed, and around the same block when backward computes it again."""
        return nullcontext(), nullcontext() if self.now is None else Revisiting(self.now)
