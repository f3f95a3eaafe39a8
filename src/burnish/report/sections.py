"""Sections of an evaluation as the page shows them. Nothing here knows a task: tables and matrices come as they are recorded.

A table becomes columns that are numeric or text; a matrix becomes a heat map. A matrix with too many labels to be read
becomes a table of its most frequent confusions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.report.collect import finite, mapping, sequence
from burnish.report.samples import SamplesView, samples_view
from burnish.report.wording import NONE, decimal, integer, percent, plain

MOST_ROWS = 200
MOST_CHARACTERS = 1500
"""Of one cell; the whole text stands in the JSON file of the evaluation."""
MOST_LABELS = 40
MOST_CONFUSIONS = 60
PROSE = 28
"""A text column with a longer cell than this is given room to wrap."""
STRONG = 0.8
"""The opacity of a cell from which its number is written in the inverse color."""


@dataclass(frozen=True)
class Column:
    """A column of a table, and how its cells are set: `number` (right-aligned), `text`, or `prose` (wide, wraps)."""

    name: str
    form: str


@dataclass(frozen=True)
class TableView:
    """A table whose cells are texts already."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    note: str = ""
    left_out: int = 0
    """Rows that the page does not show."""
    kind: str = "table"


@dataclass(frozen=True)
class Cell:
    """One count of a matrix. `opacity` is 0 for none, else grows with the share of the row."""

    text: str = ""
    opacity: float = 0.0
    hint: str = ""
    hit: bool = False
    strong: bool = False


@dataclass(frozen=True)
class MatrixView:
    """A heat map: a line of cells for each label, and the number of its rows."""

    title: str
    labels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell], str]]
    row_name: str
    column_name: str
    kind: str = "matrix"

    @property
    def upright(self) -> bool:
        """Whether column names are turned to stand, because they are many or long."""
        return len(self.labels) > 6 or sum(len(label) for label in self.labels) > 48


@dataclass(frozen=True)
class OtherView:
    """A section of a kind that this page does not know: shown as it was recorded."""

    title: str
    text: str
    kind: str = field(default="other")


def view(section: Any, most_labels: int = MOST_LABELS) -> TableView | MatrixView | SamplesView | OtherView:
    """The view of one recorded section. A matrix of more than `most_labels` labels is a table of its confusions."""
    content = mapping(section)
    if content.get("kind") == "matrix":
        return matrix_view(content, most_labels)
    if content.get("kind") == "table":
        return table_view(content)
    if content.get("kind") == "samples":
        return samples_view(content)
    recorded = json.dumps(section, indent=1, ensure_ascii=False)
    return OtherView(plain(content.get("title") or "Section"), recorded[: 20 * MOST_CHARACTERS])


def table_view(content: dict[str, Any]) -> TableView:
    """A recorded table. Rows that are shorter than the others are filled up; a column without a name keeps its cells."""
    rows = [sequence(row) for row in sequence(content.get("rows"))]
    names = [plain(name) for name in sequence(content.get("columns"))]
    width = max([len(names), *(len(row) for row in rows)])
    names += [""] * (width - len(names))
    shown = [row + [None] * (width - len(row)) for row in rows[:MOST_ROWS]]
    columns, cells = [], []
    for place, name in enumerate(names):
        form, texts = column_of([row[place] for row in shown])
        columns.append(Column(name, form))
        cells.append(texts)
    lines = [list(line) for line in zip(*cells, strict=True)]
    return TableView(plain(content.get("title") or "Table"), columns, lines, plain(content.get("note") or ""), len(rows) - len(shown))


def column_of(values: Sequence[Any]) -> tuple[str, list[str]]:
    """The form of a column and its texts: one float among numbers makes all of them decimals, so that they line up."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        write = decimal if any(isinstance(value, float) for value in known) else integer
        return "number", [write(value) for value in values]
    texts = [clipped(plain(value)) for value in values]
    return ("prose" if any(len(text) > PROSE for text in texts) else "text"), texts


def clipped(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"


def matrix_view(content: dict[str, Any], most_labels: int = MOST_LABELS) -> MatrixView | TableView:
    """A recorded matrix as a heat map, or as a table of confusions where it has more than `most_labels` labels."""
    labels = [plain(label) for label in sequence(content.get("labels"))]
    lines = [[finite(value) or 0.0 for value in sequence(line)] for line in sequence(content.get("counts"))]
    counts = [[line[place] if place < len(line) else 0.0 for place in range(len(labels))] for line in lines[: len(labels)]]
    title = plain(content.get("title") or "Matrix")
    row_name, column_name = plain(content.get("row_name") or "row"), plain(content.get("column_name") or "column")
    if len(labels) > most_labels:
        return confusions(title, labels, counts, (row_name, column_name))
    rows = []
    for place, (label, line) in enumerate(zip(labels, counts, strict=False)):
        total = sum(line)
        counted = enumerate(zip(line, labels, strict=True))
        cells = [cell(count, total, (label, other), place == column) for column, (count, other) in counted]
        rows.append((label, cells, integer(total)))
    return MatrixView(title, labels, rows, row_name, column_name)


def cell(count: float, total: float, names: tuple[str, str], hit: bool) -> Cell:
    """A cell of the heat map. Opacity grows faster than the share at first, so that a rare confusion is still seen."""
    if count <= 0 or total <= 0:
        return Cell(hit=hit)
    share = count / total
    opacity = round(0.08 + 0.84 * share**0.7, 2)
    hint = f"{names[0]} → {names[1]}: {integer(count)} of {integer(total)} ({percent(share)})"
    return Cell(integer(count), opacity, hint, hit, opacity >= STRONG)


def confusions(title: str, labels: Sequence[str], counts: Sequence[Sequence[float]], names: tuple[str, str]) -> TableView:
    """The off-diagonal counts of a large matrix, the most frequent first."""
    pairs = [
        (count, labels[row], labels[column], count / sum(line))
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if row != column and count > 0
    ]
    pairs.sort(key=lambda pair: -pair[0])
    columns = [Column(names[0], "text"), Column(names[1], "text"), Column("rows", "number"), Column(f"share of {names[0]}", "number")]
    rows = [[first, second, integer(count), percent(share)] for count, first, second, share in pairs[:MOST_CONFUSIONS]]
    note = f"{len(labels)} labels are too many for a readable matrix: these are its most frequent confusions."
    return TableView(f"{title}: most frequent pairs", columns, rows or [[NONE] * 4], note, max(0, len(pairs) - MOST_CONFUSIONS))
