"""A text of which some stretches have to stay as they are: what is handed to whoever puts it in other words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stretch:
    """Consecutive characters of a text: free to be put in other words, or `fixed` (an entity, an answer)."""

    text: str
    fixed: bool = False


Passage = tuple[Stretch, ...]
"""Free and fixed stretches in turn: the first and the last are free, and any free one may be empty."""

Change = Callable[[Passage], Passage]
"""Puts a passage in other words: as many stretches come back, and the fixed ones are the same."""

Extent = tuple[int, int]
"""The characters `start:end` of a text."""


def around(text: str, extents: Iterable[Extent] = ()) -> Passage:
    """The text with everything free but `extents`, which are in order and do not overlap.

    >>> around("in Paris", [(3, 8)])
    (Stretch(text='in ', fixed=False), Stretch(text='Paris', fixed=True), Stretch(text='', fixed=False))
    """
    stretches, reached = list[Stretch](), 0
    for start, end in extents:
        stretches += [Stretch(text[reached:start]), Stretch(text[start:end], fixed=True)]
        reached = end
    return (*stretches, Stretch(text[reached:]))


def written(passage: Passage) -> str:
    """The whole text."""
    return "".join(stretch.text for stretch in passage)


def fixed_extents(passage: Passage) -> list[Extent]:
    """Where the fixed stretches stand in the whole text, in order."""
    found, reached = list[Extent](), 0
    for stretch in passage:
        if stretch.fixed:
            found.append((reached, reached + len(stretch.text)))
        reached += len(stretch.text)
    return found


def merged(extents: Sequence[Extent]) -> list[Extent]:
    """The same characters in extents that are in order and do not overlap.

    >>> merged([(5, 9), (0, 2), (6, 12)])
    [(0, 2), (5, 12)]
    """
    found = list[Extent]()
    for start, end in sorted(extents):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
