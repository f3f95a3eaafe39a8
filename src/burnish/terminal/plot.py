"""Curves in the terminal, in plain characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from burnish.report.wording import short

CURVE, MARK = "*", "|"


def plot(
    points: Sequence[tuple[float, float]], x_labels: tuple[str, str], mark: float | None = None, width: int = 72, height: int = 14
) -> list[str]:
    """Lines of text: the curve through `points` (x rising), with a column of bars at x = `mark`.

    Points are joined, and what a column shares is drawn from its lowest to its highest, so that no spike is lost. `x_labels` say
    what stands at the left end and at the right end.

    >>> print("\\n".join(plot([(0, 0.0), (1, 1.0), (2, 2.0)], ("0", "2"), width=3, height=3)))
    2 |  *
      | *
    0 |*
      +---
       0 2
    """
    xs, ys = [x for x, _ in points], [y for _, y in points]
    columns = [cell(x, min(xs), max(xs), width) for x in xs]
    rows = [cell(y, min(ys), max(ys), height) for y in ys]
    grid = [[" "] * width for _ in range(height)]
    if mark is not None:
        for line in grid:
            line[cell(mark, min(xs), max(xs), width)] = MARK
    for column, low, high in strokes(columns, rows):
        for row in range(low, high + 1):
            grid[row][column] = CURVE
    names = {height - 1: short(max(ys)), 0: short(min(ys))}
    margin = max(map(len, names.values()))
    drawn = [f"{names.get(row, ''):>{margin}} |{''.join(grid[row])}".rstrip() for row in reversed(range(height))]
    left, right = x_labels
    return [*drawn, " " * margin + " +" + "-" * width, " " * (margin + 2) + left + right.rjust(width - len(left))]


def cell(value: float, low: float, high: float, size: int) -> int:
    """Which of `size` equal cells between `low` and `high` a value falls into."""
    return 0 if high <= low else min(size - 1, round((value - low) / (high - low) * (size - 1)))


def strokes(columns: Sequence[int], rows: Sequence[int]) -> list[tuple[int, int, int]]:
    """(column, lowest row, highest row) of each column that the curve passes, neighbors touching."""
    passed = range(columns[0], columns[-1] + 1)
    own = {column: [row for place, row in zip(columns, rows, strict=True) if place == column] for column in passed}
    between = {column: round(float(np.interp(column, columns, rows))) for column in passed if not own[column]}
    spans = {column: (min(own[column]), max(own[column])) if own[column] else (between[column],) * 2 for column in passed}
    for column, after in pairwise(passed):
        (low, high), (next_low, next_high) = spans[column], spans[after]
        spans[column] = (min(low, next_high + 1) if next_high < low else low, max(high, next_low - 1) if next_low > high else high)
    return [(column, *spans[column]) for column in passed]
