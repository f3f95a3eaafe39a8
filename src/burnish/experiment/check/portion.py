"""How much of many or long rows is turned into tokens: a sample that tells the same, in seconds instead of minutes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from burnish import build
from burnish.core.protocols import Row
from burnish.experiment.check.subject import Read

CHARACTERS, HELD = 10_000_000, 0.25
"""Characters of training that are encoded at most, beyond which a sample of whole rows is; and the share of it for a held-out part."""

FEWEST = 16
"""Rows that are encoded in any case, however long they are."""


def portion(read: Read) -> tuple[build.Gathered, dict[str, float]]:
    """The rows with long parts replaced by samples that are the same each time, and the share of the characters of each part that is left."""
    gathered, shares = read.gathered, dict[str, float]()
    rows = {}
    for name, own in gathered.rows.items():
        lengths = np.array([size(read, row) for row in own])
        kept = drawn(lengths, CHARACTERS if name == "train" else int(HELD * CHARACTERS))
        rows[name] = own if len(kept) == len(own) else [own[index] for index in kept]
        shares[name] = 1.0 if len(kept) == len(own) else float(lengths[kept].sum() / lengths.sum())
    return replace(gathered, rows=rows), shares


def size(read: Read, row: Row) -> int:
    """Characters of a row."""
    return sum(map(len, (*read.text(row), *read.truth(row))))


def drawn(lengths: np.ndarray, budget: int) -> np.ndarray:
    """Indices of rows drawn at random, in order, until their `lengths` come to `budget`; all where they do not."""
    if lengths.sum() <= budget or len(lengths) <= FEWEST:
        return np.arange(len(lengths))
    order = np.random.default_rng(0).permutation(len(lengths))
    number = int(np.searchsorted(np.cumsum(lengths[order]), budget, "right"))
    return np.sort(order[: max(number, FEWEST)])
