"""How far the weights moved, for the page: a map of places and roles, and what low-rank updates came to. From movement.json."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.report.collect import Record, finite, mapping, sequence
from burnish.report.figures import Line, Panel
from burnish.report.sections import MOST_ROWS, STRONG, Cell, Column, TableView
from burnish.report.wording import integer, parameters, percent, plain, short

COLUMNS = ("embeddings", "attention", "cross-attention", "feed-forward", "position bias", "norms", "added by the method", "head")
"""Roles in the order in which they are shown; others follow."""
MOST_LINES = 48
"""Single updates that are drawn of a model with more of them, evenly chosen."""


@dataclass(frozen=True)
class HeatMap:
    """Cells by row and column, the stronger the color, the larger the value (in decades); `note` says what is shown."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    corner: tuple[str, str]
    note: str

    @property
    def upright(self) -> bool:
        """Whether column names are turned to stand, because they are many or long."""
        return len(self.columns) > 6 or sum(len(column) for column in self.columns) > 60


def movement_map(record: Record) -> HeatMap | None:
    """Relative change by place and role; None where it was not measured."""
    grouped = cells_of(record)
    if not grouped:
        return None
    values = {key: relative(group) for key, group in grouped.items()}
    known = [value for value in values.values() if value]
    columns = in_order({column for _, column in grouped})
    rows = [
        (place, [heat(values.get((place, column)), known, told(grouped.get((place, column)), place, column)) for column in columns])
        for place in dict.fromkeys(place for place, _ in grouped)
    ]
    note = (
        "‖after − before‖ / ‖before‖ over all weights of a cell; 0 where nothing learned. Before is where training began: the pretrained "
        "weights, or for what was fresh the values that it was drawn with. The strength of the color grows with the logarithm."
    )
    return HeatMap("Relative change of the weights", columns, rows, ("place", "role"), note)


def movement_table(record: Record) -> TableView | None:
    """Norms before and after of each place and role that learned; None where nothing is known."""
    cells = [cell for cell in map(mapping, sequence(record.movement.get("cells"))) if finite(cell.get("learning"))]
    rows = [
        [
            plain(cell.get("place")),
            plain(cell.get("role")),
            integer(cell.get("parameters")),
            integer(cell.get("learning")),
            *(short(cell.get(key)) for key in ("before", "after", "change")),
            percent(cell.get("relative")),
        ]
        for cell in cells
    ]
    forms = {"place": "text", "role": "text"} | dict.fromkeys(
        ("weights", "learn", "norm before", "norm after", "norm of the change", "relative"), "number"
    )
    columns = [Column(name, form) for name, form in forms.items()]
    return TableView("Norms before and after training", columns, rows[:MOST_ROWS], "", max(0, len(rows) - MOST_ROWS)) if rows else None


def cells_of(record: Record) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The cells of movement.json by (row, column) of the map."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in map(mapping, sequence(record.movement.get("cells"))):
        place, role = plain(cell.get("place")), plain(cell.get("role"))
        key = (place, column_of(place, role)) if place != "head" or role == "final norm" else (role, "head")
        grouped.setdefault(key, []).append(cell)
    return grouped


def in_order(columns: Iterable[str]) -> list[str]:
    """Columns as they are shown."""
    return sorted(columns, key=lambda name: COLUMNS.index(name) if name in COLUMNS else len(COLUMNS))


def by_column(record: Record) -> dict[str, float | None]:
    """The relative change of each column of the map, over all places together; None where it began at nothing."""
    columns: dict[str, list[dict[str, Any]]] = {}
    for (_, column), group in cells_of(record).items():
        columns.setdefault(column, []).extend(group)
    return {column: relative(columns[column]) for column in in_order(columns)}


def column_of(place: str, role: str) -> str:
    """The column of a role: tables of tokens, positions and types are all embeddings."""
    if role in ("norms", "final norm"):
        return "norms"
    return "embeddings" if place == "embeddings" and role != "added by the method" else role


def relative(group: Sequence[dict[str, Any]]) -> float | None:
    """The relative change of several cells together; None where they began at nothing, or hold nothing that is known."""
    changes = [finite(cell.get("change")) or 0.0 for cell in group]
    before = [finite(cell.get("before")) or 0.0 for cell in group]
    change, start = math.hypot(*changes), math.hypot(*before)
    return 0.0 if change == 0 else change / start if start else None


def told(group: Sequence[dict[str, Any]] | None, place: str, column: str) -> str:
    """What a cell says when it is pointed at: norms before and after, and how many weights there are."""
    if not group:
        return ""
    total = sum(finite(cell.get("parameters")) or 0 for cell in group)
    norms = {key: math.hypot(*(finite(cell.get(key)) or 0.0 for cell in group)) for key in ("before", "after", "change")}
    moved = f"norm {short(norms['before'])} before, {short(norms['after'])} after, of the change {short(norms['change'])}"
    return f"{place}, {column}: {moved if norms['change'] else 'did not move'}; {parameters(total)} weights"


def heat(value: float | None, known: Sequence[float], hint: str) -> Cell:
    """A cell whose color grows with the logarithm of its value, from the least of the `known` values to the largest."""
    if not hint:
        return Cell()
    if value is None:
        return Cell("from 0", 0.0, hint, True)
    if not value:
        return Cell("0", 0.0, hint, True)
    low, high = min(known), max(known)
    share = math.log(value / low) / math.log(high / low) if high > low else 1.0
    opacity = round(0.1 + 0.82 * share, 2)
    return Cell(percent(value), opacity, hint, True, opacity >= STRONG)


def spectrum_panel(record: Record) -> Panel | None:
    """Singular values of the low-rank updates, each over its place, and their median; None where there are no updates."""
    updates = [numbers for update in updates_of(record) if len(numbers := values_of(update)) > 1]
    if not updates:
        return None
    every = max(1, -(-len(updates) // MOST_LINES))
    lines = [
        Line(f"each of {len(updates[::every])} layers" if number == 0 else "", points(values), faint=True)
        for number, values in enumerate(updates[::every])
    ]
    longest = max(map(len, updates))
    middle = [
        statistics.median(found) for place in range(longest) if (found := [values[place] for values in updates if place < len(values)])
    ]
    alt = (
        f"Singular values of {integer(len(updates))} low-rank updates, largest first: the median falls from {short(middle[0])} "
        f"to {short(middle[-1])} at the {integer(longest)}th."
    )
    return Panel("Spectrum of the updates", "singular value", "size", [*lines, Line("median", points(middle), "contrast", dots=True)], alt)


def points(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(place), value) for place, value in enumerate(values, start=1)]


def updates_of(record: Record) -> list[dict[str, Any]]:
    return [mapping(update) for update in sequence(record.movement.get("updates"))]


def values_of(update: dict[str, Any]) -> list[float]:
    return [number for value in sequence(update.get("values")) if (number := finite(value)) is not None]


def rank_map(record: Record) -> HeatMap | None:
    """The effective rank of each update by block and layer; None where there are no updates."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for update in updates_of(record):
        rank, whole = finite(update.get("effective_rank")), finite(update.get("rank"))
        if rank is not None and whole:
            module, place = plain(update.get("module")), plain(update.get("place"))
            found.setdefault(place, {})[within(module)] = (rank, whole)
    if not found:
        return None
    columns = list(dict.fromkeys(name for layers in found.values() for name in layers))
    rows = [(place, [rank_cell(layers.get(name), place, name) for name in columns]) for place, layers in found.items()]
    note = (
        "exp(−Σ p ln p) of the singular values s, p = s / Σ s (Roy and Vetterli 2007): how many directions an update really uses. "
        "Where it is near the rank that was given, a larger r might learn more; where it is far below, a smaller one would do."
    )
    return HeatMap("Effective rank of the updates", columns, rows, ("block", "layer"), note)


def within(module: str) -> str:
    """A layer by what stands after the number of its block: `encoder.layer.0.attention.self.query` -> `attention.self.query`."""
    steps = module.split(".")
    numbered = [place for place, step in enumerate(steps) if step.isdigit()]
    return ".".join(steps[numbered[0] + 1 :]) if numbered else module


def rank_cell(ranks: tuple[float, float] | None, place: str, name: str) -> Cell:
    if ranks is None:
        return Cell()
    rank, whole = ranks
    opacity = round(0.1 + 0.82 * min(1.0, rank / whole), 2)
    return Cell(f"{rank:.1f}", opacity, f"{place}, {name}: {rank:.2f} of {integer(whole)}", True, opacity >= STRONG)
