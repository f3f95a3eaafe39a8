"""How the tokens of a micro-batch lie one after another, and how they are spread out again where attention needs it.

Legend: B examples, N their tokens that are computed, M all of their tokens (more than N where some are shared), S rows that are read,
b examples of a group, T tokens of a group's longest, n rows of a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from burnish.models.fast.shared import Prefixes

WASTE = 0.25
"""Padding of a group at most, as a share of its own b T^2, beyond `SPARE`."""

SPARE = 2**13
"""b T^2 of padding that a group may have in any case: a group of its own costs about as much."""

LARGEST = 2**18
"""b T^2 of a group at most, so that the scores of one head stay in the processor's caches."""


@dataclass(frozen=True)
class Rows:
    """Which token each of n rows of a hidden state is of: `slots` (n,) places in the global batch, `positions` (n,) within the example."""

    slots: torch.Tensor
    positions: torch.Tensor

    def __len__(self) -> int:
        return len(self.slots)

    def taken(self, indices: torch.Tensor) -> Rows:
        return Rows(self.slots[indices], self.positions[indices])


@dataclass(frozen=True)
class Side:
    """The rows of queries, or of keys and values: `lengths` of each example, and the `positions` (n,) of the rows within their examples."""

    lengths: Sequence[int]
    positions: torch.Tensor

    @cached_property
    def starts(self) -> list[int]:
        found = [0]
        for length in self.lengths:
            found.append(found[-1] + length)
        return found


@dataclass(frozen=True)
class Spread:
    """A group's rows as a padded block: `index` (b T) rows to take (padding takes any), `back` (n) where each row then stands, `real`
    (b, T) which of the block are rows; these three are None where no padding is needed. `positions` (b, T) within the examples."""

    examples: range
    size: tuple[int, int]
    first: int
    last: int
    positions: torch.Tensor
    index: torch.Tensor | None = None
    back: torch.Tensor | None = None
    real: torch.Tensor | None = None
    made: dict[tuple[Any, ...], torch.Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, side: Side, group: range) -> Spread:
        lengths = [side.lengths[example] for example in group]
        first, last, longest = side.starts[group.start], side.starts[group.stop], max(lengths)
        size, own = (len(lengths), longest), side.positions[first:last]
        if all(length == longest for length in lengths):
            return cls(group, size, first, last, own.view(size))
        real = torch.arange(longest) < torch.tensor(lengths)[:, None]  # (b, T)
        back = real.flatten().nonzero()[:, 0]
        index = torch.zeros(real.numel(), dtype=torch.long)
        index[back] = torch.arange(last - first)
        index, back, real = (one.to(own.device, non_blocking=True) for one in (index, back, real))
        return cls(group, size, first, last, own[index].view(size), index, back, real)

    def spread(self, rows: torch.Tensor) -> torch.Tensor:
        """(b, T, ...) of all rows (n, ...)."""
        part = rows[self.first : self.last]
        padded = part if self.index is None else Padding.apply(part, self.index, self.back)
        return padded.view(*self.size, *rows.shape[1:])

    def from_rows(self, heads: int, times: int) -> torch.Tensor:
        """(b H T,) the places among the heads of the group's rows (n G) from which the heads of a padded block come, each `times` over."""
        if (asked := ("rows", heads, times)) not in self.made:
            assert self.index is not None, "a block with padding"
            own = torch.arange(heads, device=self.index.device).repeat_interleave(times)[None, :, None]
            self.made[asked] = (self.index.view(self.size[0], 1, -1) * heads + own).flatten()
        return self.made[asked]

    def from_heads(self, heads: int) -> torch.Tensor:
        """(n H,) the places among the heads of a padded block (b H T) from which the heads of the group's rows come."""
        if (asked := ("heads", heads)) not in self.made:
            assert self.back is not None, "a block with padding"
            example, position = self.back // self.size[1], self.back % self.size[1]
            own = torch.arange(heads, device=self.back.device)
            self.made[asked] = ((example[:, None] * heads + own) * self.size[1] + position[:, None]).flatten()
        return self.made[asked]

    def joined(self, block: torch.Tensor) -> torch.Tensor:
        """The group's rows, in order, of (b, T, ...)."""
        flat = block.reshape(-1, *block.shape[2:])
        return flat if self.back is None else Unpadding.apply(flat, self.back)


class Padding(torch.autograd.Function):
    """Rows at `index`; backward takes each row's gradient where it stands, and none of padding's."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, index: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(back)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


class Unpadding(torch.autograd.Function):
    """The rows that stand at `back`; backward leaves zeros for padding."""

    @staticmethod
    def forward(ctx: Any, padded: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(back)
        ctx.length = len(padded)
        return padded.index_select(0, back)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        whole = gradient.new_zeros(ctx.length, *gradient.shape[1:])
        return whole.index_copy_(0, ctx.saved_tensors[0], gradient), None


class Layout:
    """The packed tokens of B examples of `lengths`, of which the rows at `read` (S,) are read at the end (None: all).

    `source` (N,) are their places in the padded (B T). Each token asks (`rows`) and is seen (`keys`); in the last block, where it is
    trimmed, only those that are read ask (`queries`). Where examples have first tokens `shared` with the one before them, these are
    rows of that one alone, and `complete` gives them to every example.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        width: int,
        slots: Sequence[int],
        device: torch.device,
        read: torch.Tensor | None,
        shared: Sequence[int] | None = None,
    ) -> None:
        self.width = width
        self.lengths, self.shared = list(lengths), list(shared or [0] * len(lengths))
        self.prefixes = Prefixes(self.lengths, self.shared, device) if any(self.shared) else None
        common = torch.tensor(self.shared)
        sizes = torch.tensor(self.lengths) - common
        owners = torch.repeat_interleave(torch.arange(len(lengths)), sizes)  # (N,)
        starts = sizes.cumsum(0) - sizes - common
        positions = torch.arange(len(owners)) - starts[owners]
        self.owners, self.positions = owners.to(device), positions.to(device)
        self.source = (owners * width + positions).to(device)
        self.slots = torch.tensor(list(slots))[owners].to(device)
        self.rows = Side(sizes.tolist(), self.positions)
        self.keys = self.rows if self.prefixes is None else Side(self.lengths, self.complete(self.positions))
        self.read = read if read is None else read.to(device)
        self.made: dict[tuple[Any, ...], list[torch.Tensor | None]] = {}
        self.queries = self.rows
        if read is not None:
            counts = torch.bincount(owners[read.cpu()], minlength=len(self.lengths)).tolist()
            self.queries = Side(counts, self.positions[self.read])

    def complete(self, rows: torch.Tensor) -> torch.Tensor:
        """(M, ...) of rows (N, ...): every token of every example."""
        return rows if self.prefixes is None else self.prefixes.complete(rows)

    def computed(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, ...) of (M, ...): each token once."""
        return tokens if self.prefixes is None else tokens.index_select(0, self.prefixes.own)

    @cached_property
    def ends(self) -> torch.Tensor:
        """(B + 1,) 0, and where each example ends."""
        return torch.tensor(self.keys.starts, dtype=torch.int32).to(self.source.device)

    @cached_property
    def all_rows(self) -> Rows:
        return Rows(self.slots, self.positions)

    @cached_property
    def groups(self) -> list[range]:
        """Runs of examples that attend together, padded to the longest of them."""
        return runs(self.lengths) if self.prefixes is None else runs(self.lengths, self.rows.lengths)

    @cached_property
    def whole(self) -> list[tuple[Spread, Spread]]:
        """Queries and keys of each group, where every token asks."""
        if self.prefixes is not None:
            return [(Spread.of(self.rows, group), Spread.of(self.keys, group)) for group in self.groups]
        return [(one, one) for one in (Spread.of(self.keys, group) for group in self.groups)]

    def masks(self, trimmed: bool, causal: bool, window: tuple[int, int] | None) -> list[torch.Tensor | None]:
        """What may be seen in each group, made once for all blocks that attend alike."""
        asked = (trimmed, causal, window)
        if asked not in self.made:
            pairs = self.trimmed if trimmed else self.whole
            self.made[asked] = [allowed(asking, seen, causal, window) for asking, seen in pairs]
        return self.made[asked]

    @cached_property
    def trimmed(self) -> list[tuple[Spread, Spread]]:
        """The same where only the rows that are read ask; a group in which none is read has no part."""
        pairs = zip(self.groups, self.whole, strict=True)
        return [(Spread.of(self.queries, group), keys) for group, (_, keys) in pairs if any(self.queries.lengths[one] for one in group)]


class Crossing:
    """How a decoder's packed tokens look at an encoder's: at all of their own text."""

    def __init__(self, asking: Layout, seen: Layout) -> None:
        self.asking, self.seen = asking, seen

    @cached_property
    def pairs(self) -> list[tuple[Spread, Spread]]:
        """Queries and keys of each group of examples whose texts are of like length on both sides."""
        groups = runs(self.asking.lengths, self.seen.lengths)
        return [(Spread.of(self.asking.rows, group), Spread.of(self.seen.rows, group)) for group in groups]

    @cached_property
    def masks(self) -> list[torch.Tensor | None]:
        return [allowed(asking, seen, False, None) for asking, seen in self.pairs]


def runs(*sides: Sequence[int]) -> list[range]:
    """Runs of examples that may attend together, by their lengths on every side."""
    found, first = list[range](), 0
    for end in range(1, len(sides[0]) + 1):
        if end == len(sides[0]) or not all(fits(side[first : end + 1]) for side in sides):
            found.append(range(first, end))
            first = end
    return found


def fits(lengths: Sequence[int]) -> bool:
    """Whether examples of these lengths may attend as one padded block."""
    taken, own = len(lengths) * max(lengths) ** 2, sum(length**2 for length in lengths)
    return taken <= LARGEST and taken - own <= max(SPARE, WASTE * own)


def allowed(asking: Spread, seen: Spread, causal: bool, window: tuple[int, int] | None) -> torch.Tensor | None:
    """(b, 1, Q, T) which keys a query may see, None where it is all of them (or all before it, which attention knows by itself)."""
    longest = seen.size[1]
    narrow = window is not None and longest > min(window)
    partly = asking.last - asking.first < seen.last - seen.first  # some tokens do not ask: they are trimmed, or another's
    padded = seen.index is not None and not (causal and not partly)  # what a query sees stands before the padding
    if not narrow and not padded and not (causal and partly):
        return None
    positions = torch.arange(longest, device=seen.positions.device)
    behind = asking.positions[:, :, None] - positions  # (b, Q, T) how far back each key stands
    mask = behind >= 0 if causal else torch.ones_like(behind, dtype=torch.bool)
    if narrow and window is not None:
        mask = mask & (behind < window[0]) & (behind > -window[1])
    if seen.index is not None:
        assert seen.real is not None, "a block with padding knows what is real"
        mask = mask & seen.real[:, None, :]
        mask = mask | (~mask.any(dim=-1, keepdim=True))  # padding that asks sees something, or its softmax would be no number
    return mask[:, None]
