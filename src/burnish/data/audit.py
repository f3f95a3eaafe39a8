"""Looks at rows before anything is trained on them: missing columns, unusable rows, rows that stand in two parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from burnish.core.errors import DataError, count, listing, nearest
from burnish.core.protocols import Row


def missing_columns(names: Sequence[str], wanted: Sequence[str], origin: str) -> list[str]:
    """A sentence for each wanted column that is not among `names`."""
    return [
        f"{origin} has no column `{column}`{nearest(column, names)} (its columns: {', '.join(names)})"
        for column in wanted
        if column not in names
    ]


def require_columns(rows: Sequence[Row], wanted: Sequence[str]) -> None:
    """Raises DataError where a row lacks a wanted column."""
    problems = missing_columns(list(rows[0].values), wanted, rows[0].file)
    if not problems:
        problems = [
            f"{row.place}: it has no `{column}`{nearest(column, row.values)}"
            for row in rows
            for column in wanted
            if column not in row.values
        ]
    if problems:
        raise DataError(listing(f"{rows[0].file}: {count(len(problems), 'fault')}", problems))


def usable(rows: Sequence[Row], fault: Callable[[Row], str | None], drop: bool) -> tuple[list[Row], list[str]]:
    """The rows without a fault, and the sentences about the others.

    Raises DataError for all of them at once unless `drop`, and where no row is left.
    """
    kept, problems = [], []
    for row in rows:
        reason = fault(row)
        if reason is None:
            kept.append(row)
        else:
            problems.append(f"{row.place}: {reason}")
    title = f"{rows[0].file}: {count(len(problems), 'row')} of {len(rows):,} cannot be used"
    if problems and not drop:
        raise DataError(listing(title, problems) + "\nMend them, or leave them out with data.bad_rows=drop.")
    if not kept:
        raise DataError(listing(title + ": none is left", problems))
    return kept, problems


def overlap(rows: Sequence[Row], seen: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    """The rows whose `columns` (none for all of them) are those of a row in `seen`, white space and case aside."""
    known = {key(row, columns) for row in seen}
    return [row for row in rows if key(row, columns) in known]


def overlap_warning(rows: Sequence[Row], seen: Sequence[Row], columns: Sequence[str], part: str) -> str | None:
    """A sentence that counts the rows of `part` that also stand in training, and names the first."""
    twice = overlap(rows, seen, columns)
    if not twice:
        return None
    first = ", ".join(row.place for row in twice[:3])
    verb = "stands" if len(twice) == 1 else "stand"
    return (
        f"{count(len(twice), f'{part} row')} of {len(rows):,} also {verb} in training ({first}{', ...' if len(twice) > 3 else ''}): "
        f"the {part} score is flattered"
    )


def key(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(" ".join(str(row.values.get(column, "")).split()).casefold() for column in columns or row.values)
