"""Logits that are not there yet: a language model's scores over its whole vocabulary, computed in chunks when somebody needs them.

A micro-batch of 4,096 tokens over a vocabulary of 128,000 has two gigabytes of logits in fp32, and a loss over them makes as much again,
twice. What is wanted of each row is a number or a few, so that rows go through head and loss in chunks, of which one is there at a time;
each chunk's gradient is computed right away (`core/fused.py`).

Legend: B examples, T tokens, S rows, s rows of a chunk, D width, C classes (the vocabulary).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from burnish.core.errors import BurnishError

if TYPE_CHECKING:
    import torch

KEPT = 2**22
"""Logits of a micro-batch that are kept for backward, at most: of more, each chunk's gradient is computed while its logits are there."""

CHUNK = 9 * 2**20
"""Logits of a chunk, at least: 36 MiB in fp32.

Blocks of memory over 32 MiB are given back to the system at once. Smaller ones the C library keeps, and (glibc 2.36, whose aligned blocks
do not fit where one like them has been) scatters: 2,000 rows over 50,000 tokens then take 990 MiB in the third step, instead of 240.
"""

FEWEST, MOST = 96, 16
"""Rows that a chunk has at least, and chunks that there are at most, whatever the vocabulary.

Every chunk reads and writes the sum of the head's gradients, as large as the head: with 64 rows in each, a step takes an eighth longer
than with 96 or 128 (width 320 over 128,000 tokens, one core).
"""


@dataclass(frozen=True)
class Deferred:
    """Logits (S, C) = `head`(`hidden`, *`marks`) of rows (S, D) that a model has computed, and of which nothing has been scored yet.

    `head` gives (s, `size`) of any (s, D), row by row: what it makes of a row must not depend on the others. It is called anew for each
    chunk, and perhaps again in backward; what it draws at random is then drawn the same, by torch's generator or by what
    `marks` (S,) say of each row (which token it is of).
    """

    hidden: torch.Tensor
    head: Callable[..., torch.Tensor]
    size: int
    marks: tuple[torch.Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.hidden)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.size

    @property
    def device(self) -> torch.device:
        return self.hidden.device

    def __getitem__(self, chosen: torch.Tensor | slice) -> Deferred:
        """Some of the rows, by a mask (S,), by their indices, or a stretch of them."""
        return Deferred(self.hidden[chosen], self.head, self.size, tuple(mark[chosen] for mark in self.marks))

    def split(self, rows: int) -> list[Deferred]:
        """As torch's: parts of `rows` rows, the last of which may be shorter."""
        parts = zip(*(one.split(rows) for one in (self.hidden, *self.marks)), strict=True)
        return [Deferred(hidden, self.head, self.size, tuple(marks)) for hidden, *marks in parts]

    def whole(self) -> torch.Tensor:
        """(S, C) all of them at once."""
        return self.head(self.hidden, *self.marks)

    def through(self, function: Callable[..., torch.Tensor], *beside: torch.Tensor | Deferred) -> torch.Tensor:
        """`function`(logits (s, C), *each of `beside` (s, ...)) -> (s, ...) over all rows, of which logits are there for a chunk at a time.

        What stands `beside` has a row for each of ours: targets, a teacher's logits, deferred or not. Gradients are those of the whole.
        """
        import torch

        from burnish.core.fused import scored

        def computed(hidden: torch.Tensor, place: slice) -> torch.Tensor:
            return function(self.head(hidden, *(mark[place] for mark in self.marks)), *(whole(one[place]) for one in beside))

        if torch.is_grad_enabled():
            few = len(self) * self.size <= KEPT
            return computed(self.hidden, slice(None)) if few else scored(computed, self.hidden, self.chunk())
        starts, rows = range(0, max(1, len(self)), self.chunk()), self.chunk()
        return torch.cat([computed(self.hidden[start : start + rows], slice(start, start + rows)) for start in starts])

    def chunk(self) -> int:
        """Rows of a chunk, so that all are about equally large; at least one, also where there are no rows."""
        least = max(math.ceil(CHUNK / self.size), FEWEST, math.ceil(len(self) / MOST))
        number = max(1, len(self) // least)
        return max(1, math.ceil(len(self) / number))


@dataclass(frozen=True)
class DeferredGrid:
    """Logits (B, T, C) of which only those at `read` (B, T) can be had: what a model gives in place of a tensor.

    `rows` are those of the positions that are read, example by example and from left to right.
    """

    read: torch.Tensor
    rows: Deferred

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.read.shape[0], self.read.shape[1], self.rows.size

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def __getitem__(self, asked: torch.Tensor) -> Deferred:
        """The rows at a mask (B, T), in the order that a tensor would give them. The mask `read` itself costs nothing.

        Raises BurnishError where `asked` marks a position that is not read.
        """
        if asked is self.read:
            return self.rows
        if bool((asked & ~self.read).any()):
            number = int((asked & ~self.read).sum())
            raise BurnishError(
                f"a task looks at {number:,} of {int(asked.sum()):,} positions that it had not marked, and whose logits were never computed: "
                "its `collate` has to mark in `Batch.read` every position that `choices` and `outputs` look at."
            )
        return self.rows[asked[self.read]]


def whole(logits: torch.Tensor | Deferred) -> torch.Tensor:
    """(S, C) logits, whether they are there or not."""
    return logits.whole() if isinstance(logits, Deferred) else logits


def through(function: Callable[..., torch.Tensor], logits: torch.Tensor | Deferred, *beside: Any) -> torch.Tensor:
    """`function`(logits (S, C), *beside) -> (S, ...), in chunks where the logits are not there yet (see `Deferred.through`)."""
    return logits.through(function, *beside) if isinstance(logits, Deferred) else function(logits, *map(whole, beside))
