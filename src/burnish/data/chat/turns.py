"""An encoded conversation, and how it is made shorter without losing the response."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

KEPT_AT_EACH_END = 8
"""Tokens of a stretch that are never taken: they hold the role headers, the BOS and the generation prompt."""


@dataclass(frozen=True)
class Turns:
    """Token ids of a conversation, and which of them are learned."""

    ids: list[int]
    mask: list[bool]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Cut:
    """Tokens that were taken out: of what is only read, and of what was to be learned."""

    prompt: int = 0
    response: int = 0


def shorten(turns: Turns, max_length: int, keep_end: bool = True) -> tuple[Turns, Cut]:
    """A conversation of at most `max_length` tokens, and what was taken out of it.

    The longest stretches that are only read lose their middle first, down to 8 tokens at each end, so that the response stays whole
    and still follows a proper prompt. Only where that is not enough, or nothing is only read, the conversation is cut at its
    end. Without `keep_end` it is cut there at once, as most trainers do.
    """
    excess = len(turns) - max_length
    if excess <= 0:
        return turns, Cut()
    stretches = list(unlearned(turns.mask)) if keep_end else []
    dropped: set[int] = set()
    for (start, end), number in zip(stretches, shares([end - start for start, end in stretches], excess)):
        middle = start + (end - start - number) // 2
        dropped.update(range(middle, middle + number))
    kept = [at for at in range(len(turns)) if at not in dropped]
    beyond = kept[max_length:]
    response = sum(turns.mask[at] for at in beyond)
    kept = kept[:max_length]
    shorter = Turns([turns.ids[at] for at in kept], [turns.mask[at] for at in kept])
    return shorter, Cut(prompt=len(dropped) + len(beyond) - response, response=response)


def unlearned(mask: list[bool]) -> Iterator[tuple[int, int]]:
    """(start, end) of each stretch of tokens that are only read."""
    at = 0
    for learned, group in groupby(mask):
        length = len(list(group))
        if not learned:
            yield at, at + length
        at += length


def shares(lengths: list[int], excess: int) -> list[int]:
    """How many tokens each stretch gives, `excess` in all if they have them: all are brought down to one level, the longest first."""
    floor = 2 * KEPT_AT_EACH_END
    low, high = floor, max([floor, *lengths])
    while low < high:  # the highest level at which enough is given
        level = (low + high + 1) // 2
        low, high = (level, high) if sum(max(0, length - level) for length in lengths) >= excess else (low, level - 1)
    given = [max(0, length - low) for length in lengths]
    surplus = max(0, sum(given) - excess)
    for index, number in enumerate(given):
        back = min(surplus, 1, number)
        given[index], surplus = number - back, surplus - back
    return given
