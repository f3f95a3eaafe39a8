"""Slides on how far the weights moved, and on what was foretold of the cost beside what was measured: of a run, and of each system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.report import foretold
from burnish.report.collect import Record, finite, mapping
from burnish.report.sections import Cell
from burnish.report.slides.outline import DISCUSSION, RESULTS, Grid, Slide
from burnish.report.versus.reading import Versus
from burnish.report.weights import HeatMap, by_column, in_order, movement_map, updates_of
from burnish.report.wording import NONE, integer, percent

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


def systems_weights(versus: Versus) -> list[Slide]:
    """How far each system moved the weights, by role, in its first run that tells; nothing where none does."""
    first = (
        (system.name, next((cell.record for cell in system.done if cell.record and cell.record.movement), None))
        for system in versus.systems
    )
    found = {name: by_column(record) for name, record in first if record}
    columns = in_order({column for moved in found.values() for column in moved})
    if not columns:
        return []
    rows = [[name, *(share(moved, column) for column in columns)] for name, moved in found.items()]
    text = ["Relative change of the weights by role, ‖after − before‖ / ‖before‖, in the first run of each; 0 where nothing learned."]
    grid = Grid(["system", *columns], rows, numbers=frozenset(range(1, 1 + len(columns))))
    return [Slide("weights", RESULTS, "How far the weights moved", text, grid)]


def share(moved: Mapping[str, float | None], column: str) -> str:
    """A relative change as a cell: empty where there are no such weights."""
    if column not in moved:
        return ""
    return "from 0" if moved[column] is None else percent(moved[column]) if moved[column] else "0"


def systems_foretold(versus: Versus) -> list[Slide]:
    """What was foretold of each system's time and memory, as a share of what was measured; nothing where nothing was."""
    rows = []
    for system in versus.systems:
        found = [mapping(mapping(cell.record.summary).get("forecast")) for cell in system.done if cell.record]
        means = [
            mean_of([ratio for one in found if (ratio := finite(mapping(one.get(key)).get("ratio"))) is not None])
            for key in ("total", "memory")
        ]
        if any(mean is not None for mean in means):
            rows.append([system.name, *(NONE if mean is None else f"{mean:.2f}" for mean in means)])
    text = ["What was foretold before the first step, divided by what was measured, mean over runs: 1 is exact."]
    grid = Grid(["system", "time", "peak memory"], rows, numbers=frozenset({1, 2}))
    return [Slide("foretold", DISCUSSION, "Foretold and measured", text, grid)] if rows else []


def mean_of(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


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
