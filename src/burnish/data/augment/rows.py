"""The examples of a step, some of them made anew of rows in other words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from burnish.core.errors import DataError
from burnish.core.passage import Change, Passage, written
from burnish.core.protocols import Row
from burnish.data.augment.material import Drawn
from burnish.data.encode import Encoded

Reword = Callable[[Row, Change], Row]
"""A task's way to have the texts of a row changed."""

Encode = Callable[[Sequence[Row]], Encoded]


def texts_of(rows: Sequence[Row], reword: Reword) -> list[str]:
    """Every text of the rows that may be changed, once each."""
    found: dict[str, None] = {}

    def noted(passage: Passage) -> Passage:
        found[written(passage)] = None
        return passage

    for row in rows:
        reword(row, noted)
    return list(found)


@dataclass(frozen=True)
class Rewording:
    """Makes the examples of a step: a share of them from rows in other words, the others as they were encoded.

    What is drawn for an example depends on (seed, step, example) alone, and where it stands several times in a step on which of these
    it is: so neither micro-batches nor a resumed run change anything.
    """

    examples: Encoded
    rows: Sequence[Row]
    reword: Reword
    encode: Encode
    changes: Sequence[Drawn]
    share: float
    seed: Sequence[int]

    def __call__(self, indices: Sequence[int], step: int) -> tuple[Encoded, Sequence[int]]:
        """Examples, and which of them make the step: one for each of `indices`, in their order."""
        turns, wanted = Counter[int](), dict[int, Row]()
        for place, index in enumerate(indices):
            row = self.reworded(int(index), step, turns[index])
            turns[index] += 1
            if row is not None:
                wanted[place] = row
        parts = self.encoded(wanted)
        made = [place for places, _ in parts for place in places]
        if not made:
            return self.examples, indices
        kept = [place for place in range(len(indices)) if place not in set(made)]
        found = [examples for _, examples in parts] + ([self.examples.taken([indices[place] for place in kept])] if kept else [])
        order = {place: position for position, place in enumerate([*made, *kept])}
        owners = np.asarray(self.examples.rows)[[indices[place] for place in order]]
        return replace(Encoded.joined(found, [0] * len(found)), rows=owners), [order[place] for place in range(len(indices))]

    def reworded(self, index: int, step: int, turn: int) -> Row | None:
        """The row of an example in other words; None where it stays as it is."""
        owner = int(self.examples.rows[index])
        draw = np.random.default_rng([*self.seed, step, index, turn])
        if draw.random() >= self.share or self.windows[owner] != 1:
            return None
        for number in draw.permutation(len(self.changes)):
            row = self.changed(self.rows[owner], self.changes[number], draw)
            if row is not None:
                return row
        return None

    def changed(self, row: Row, change: Drawn, draw: np.random.Generator) -> Row | None:
        """The row after one change of its texts; None where that found nothing to change."""
        touched = False

        def noted(passage: Passage) -> Passage:
            nonlocal touched
            found = change(passage, draw)
            touched = touched or found != passage
            return found

        made = self.reword(row, noted)
        return made if touched else None

    def encoded(self, wanted: Mapping[int, Row]) -> list[tuple[list[int], Encoded]]:
        """Places and the examples of their rows. Rows of which several examples are made, or none to learn from, are left out."""
        if not wanted:
            return []
        try:
            found = self.encode(list(wanted.values()))
        except DataError:  # one of them has become too long, or cannot be written by its template
            return [part for alone, row in wanted.items() for part in self.encoded({alone: row})] if len(wanted) > 1 else []
        owners, places = np.asarray(found.rows), list(wanted)
        single = (np.bincount(owners, minlength=len(wanted)) == 1)[owners] & (np.asarray(found.weights) > 0)
        chosen = np.flatnonzero(single).tolist()
        return [([places[owners[at]] for at in chosen], found.taken(chosen))] if len(chosen) else []

    @cached_property
    def windows(self) -> np.ndarray:
        """(R,) examples that each row gave."""
        return np.bincount(np.asarray(self.examples.rows), minlength=len(self.rows))
