"""Slides on how far the weights of a run moved, and on what was foretold of its cost beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.report import foretold
from burnish.report.collect import Record, finite
from burnish.report.sections import Cell
from burnish.report.slides.outline import DISCUSSION, RESULTS, Grid, Slide
from burnish.report.weights import HeatMap, movement_map, updates_of
from burnish.report.wording import integer

MOST_PLACES = 9
"""Rows of the table of movement: of more blocks some are shown, evenly chosen, the first and the last among them."""


def weights_slide(record: Record) -> list[Slide]:
    """The relative change by place and role; nothing where it was not measured."""
    found = movement_map(record)
    if found is None:
        return []
    rows = chosen(found)
    shades = {(line, 1 + place): cell.opacity for line, (_, cells) in enumerate(rows) for place, cell in enumerate(cells) if cell.opacity}
    grid = Grid(
        ["", *found.columns],
        [[label, *(cell.text for cell in cells)] for label, cells in rows],
        numbers=frozenset(range(1, 1 + len(found.columns))),
        shades=shades,
    )
    text = ["Relative change by place and role, ‖after − before‖ / ‖before‖; 0 where nothing learned.", "{ranks}"]
    return [Slide("weights", RESULTS, "How far the weights moved", text, grid)]


def chosen(found: HeatMap) -> list[tuple[str, Sequence[Cell]]]:
    """The rows of a map, of many blocks some."""
    blocks = [place for place, (label, _) in enumerate(found.rows) if "block" in label]
    room = MOST_PLACES - (len(found.rows) - len(blocks))
    if len(found.rows) <= MOST_PLACES or room < 2:
        return list(found.rows)
    kept = {blocks[place * (len(blocks) - 1) // (room - 1)] for place in range(room)}
    return [row for place, row in enumerate(found.rows) if place not in blocks or place in kept]


def ranks(record: Record) -> list[str]:
    """How many directions low-rank updates use, in a sentence; nothing where there are none."""
    found = [
        (rank, whole) for update in updates_of(record) if (rank := number(update, "effective_rank")) and (whole := number(update, "rank"))
    ]
    if not found:
        return []
    used, given = [rank for rank, _ in found], max(whole for _, whole in found)
    return [
        f"{integer(len(found))} low-rank updates of rank {integer(given)}: they use {min(used):.1f} to {max(used):.1f} directions "
        f"(effective rank), {sum(used) / len(used):.1f} on average."
    ]


def number(update: dict[str, Any], key: str) -> float | None:
    return finite(update.get(key))


def foretold_slide(record: Record) -> list[Slide]:
    """Time by part and memory, foretold before the first step and measured; nothing where that was not done."""
    found = foretold.table(record)
    if found is None:
        return []
    columns = [column.name for column in found.columns]
    numbers = frozenset(place for place, column in enumerate(found.columns) if column.form == "number")
    last = frozenset(place for place, row in enumerate(found.rows) if row[0] in (foretold.WHOLE, foretold.MEMORY))
    return [Slide("foretold", DISCUSSION, found.title, ["{foretold}"], Grid(columns, found.rows, numbers=numbers, strong=last))]
