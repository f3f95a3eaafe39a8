"""Training rows from several sources: what they are called, and how they are told apart."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.core.protocols import Row, Task
from burnish.data import sources

Train = str | Mapping[str, float]
"""One source of rows, or several with their weights."""


def each(train: Train) -> list[str]:
    """The sources."""
    return [train] if isinstance(train, str) else list(train)


def titled(train: Train) -> str:
    """What training rows come from, for people: the source itself, or `2 of reviews.csv + 1 of news.csv`."""
    if isinstance(train, str):
        return train
    names = names_of(train)
    return " + ".join(f"{weight:g} of {names[source]}" for source, weight in train.items())


def fingerprint(train: Train) -> str:
    """sha256 of a source; of several that of their own, with their weights."""
    if isinstance(train, str):
        return sources.fingerprint(train)
    whole = [[sources.fingerprint(source), weight] for source, weight in train.items()]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def names_of(train: Train) -> dict[str, str]:
    """Each source -> the shortest end of its path by which it differs from the others."""
    found = each(train)
    for depth in range(1, 1 + max(len(Path(source).parts) for source in found)):
        names = {source: source if ":" in source else "/".join(Path(source).parts[-depth:]) for source in found}
        if len(set(names.values())) == len(found):
            return names
    return {source: source for source in found}


def marked(rows: list[Row], train: Train, source: str) -> list[Row]:
    """The rows of a source; of one of several, their file told by a name that no other source has."""
    if not isinstance(train, str) and source in train:
        name = names_of(train)[source]
        for row in rows:
            row.file = name
    return rows


def stratum(row: Row, task: Task, train: Train) -> Hashable:
    """What a split keeps the shares of: the task's stratum, of several sources within each."""
    return task.stratum(row) if isinstance(train, str) else (row.file, task.stratum(row))


def facts(train: Mapping[str, float], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each source its weight, its fingerprint, and how many of the training rows are from it."""
    counts = Counter(row.file for row in rows)
    return [
        {
            "source": source,
            "weight": train[source],
            "sha256": sources.fingerprint(source),
            "rows": counts[name],
        }
        for source, name in names_of(train).items()
    ]
