"""What a run turned on the way (learning rate, dropout, weight decay): numbered marks in its curves, and a table that explains them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.report.collect import Record, finite
from burnish.report.sections import Column, TableView
from burnish.report.wording import plain, short

Mark = tuple[float, str]
MOST_LABELS = 20
"""With more moves than this their marks are drawn without numbers."""


def marks(record: Record) -> list[Mark]:
    """(step, number) of each step at which something was turned."""
    steps = numbered(record.moves)
    return [(step, str(number) if len(steps) <= MOST_LABELS else "") for step, number in steps.items()]


def table(record: Record) -> TableView | None:
    """Every move: its number in the curves, its step, what went from where to where, and why; None where there are none."""
    if not record.moves:
        return None
    numbers = numbered(record.moves)
    rows = [
        [
            str(numbers[float(move["step"])]),
            short(move["step"]),
            plain(move.get("what")),
            f"{amount(move, 'before')} → {amount(move, 'after')}",
            plain(move.get("why")),
        ]
        for move in record.moves
    ]
    names = {"mark": "number", "step": "number", "what": "text", "turned": "text", "why": "prose"}
    note = "Learning rate and weight decay are multiplied, a dropout is added to each probability."
    return TableView("Moves", [Column(name, form) for name, form in names.items()], rows, note)


def numbered(moves: Sequence[dict[str, Any]]) -> dict[float, int]:
    """Step -> number, counted from 1; what is turned at one step is one move."""
    return {step: number for number, step in enumerate(sorted({float(move["step"]) for move in moves}), start=1)}


def amount(move: dict[str, Any], key: str) -> str:
    """A factor as `×0.5`, something added as `+0.05`."""
    sign = "+" if move.get("what") == "dropout" else "×"
    return f"{sign}{short(finite(move.get(key)))}"
