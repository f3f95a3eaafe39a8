"""All texts of data files, whatever task they are for: what a tokenizer is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from burnish.core.errors import DataError, nearest
from burnish.data import sources


def texts_of(files: Sequence[str], columns: Sequence[str] | None = None) -> list[str]:
    """The texts in `columns` of all rows, or in every column; also those inside lists and objects, such as messages.

    Raises DataError where a file has none of the columns, or no text at all.
    """
    found: list[str] = []
    for file in files:
        rows, before = sources.read(file), len(found)
        names = list(rows[0].values)
        missing = [column for column in columns or [] if column not in names]
        if missing:
            raise DataError(f"{file} has no column `{missing[0]}`{nearest(missing[0], names)} (its columns: {', '.join(names)})")
        for row in rows:
            for column in columns or names:
                found.extend(texts_in(row.values.get(column)))
        if len(found) == before:
            raise DataError(f"{file} holds no text in {', '.join(columns or names)}.")
    return found


def texts_in(value: Any) -> Iterator[str]:
    """The texts in a value, outermost first."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts_in(inner)
