"""What was foretold before the first step, beside what was measured: seconds by part of the run, and memory."""

from __future__ import annotations

from typing import Any

from burnish.report.collect import Record, finite, mapping
from burnish.report.sections import Column, TableView
from burnish.report.wording import NONE, duration, memory

NAMES = {
    "start": "libraries",
    "loading": "loading",
    "forecast": "the forecast itself",
    "before": "the model before training",
    "steps": "steps",
    "evaluation": "validation",
    "saving": "checkpoints and model",
    "test": "test",
}
"""Parts of a run in words, in their order."""
WHOLE, MEMORY = "all of these", "peak memory"
"""The lines below those of the parts."""


def table(record: Record) -> TableView | None:
    """A line for each part, for the whole, and for memory; None where nothing was foretold or the run has not ended."""
    found = mapping(mapping(record.summary).get("forecast"))
    seconds = mapping(found.get("seconds"))
    rows = [line(name, seconds[part], duration) for part, name in NAMES.items() if part in seconds]
    if not rows:
        return None
    rows.append(line(WHOLE, found.get("total"), duration))
    if mapping(found.get("memory")):
        rows.append(line(MEMORY, found.get("memory"), memory))
    forms = {"": "text", "foretold": "number", "measured": "number", "foretold by measured": "number"}
    how = mapping(record.plan.get("forecast")).get("how")
    note = f"Foretold before the first step, at rates {how}." if isinstance(how, str) else ""
    return TableView("Foretold and measured", [Column(name, form) for name, form in forms.items()], rows, note)


def told(record: Record) -> list[str]:
    """How far the forecast was off, in a sentence; nothing where there was none."""
    found = mapping(mapping(record.summary).get("forecast"))
    known = [(what, finite(mapping(found.get(key)).get("ratio"))) for what, key in (("time", "total"), ("memory", "memory"))]
    ratios = [f"{ratio:.2f} of the {what} that was measured" for what, ratio in known if ratio is not None]
    return [f"Foretold before the first step: {' and '.join(ratios)}."] if ratios else []


def line(name: str, pair: Any, write: Any) -> list[str]:
    """A name, both values, and their ratio."""
    values = mapping(pair)
    ratio = finite(values.get("ratio"))
    return [name, write(values.get("predicted")), write(values.get("measured")), NONE if ratio is None else f"{ratio:.2f}"]
