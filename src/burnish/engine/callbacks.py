"""Listeners that every run has."""

from __future__ import annotations

import json
from dataclasses import asdict

from burnish.core.errors import disk_errors
from burnish.core.rundir import RunFolder, finite
from burnish.engine.events import Evaluated, Event, Moved, Noted, Stepped
from burnish.engine.norms import is_recorded


class Recorder:
    """Appends a line to metrics.jsonl for each step, evaluation, move and note."""

    def __init__(self, run: RunFolder, step: int = 0) -> None:
        self.run = run
        self.step = step

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self.step = event.step
            self.append({"kind": "step", **facts_of(event)})
        elif isinstance(event, Evaluated):
            self.append({"kind": "evaluation", **asdict(event)})
        elif isinstance(event, Moved):
            self.append({"kind": "move", **asdict(event)})
        elif isinstance(event, Noted):
            self.append({"kind": "note", "step": self.step, "message": event.message})

    def append(self, line: dict[str, object]) -> None:
        text = json.dumps(finite(line), ensure_ascii=False) + "\n"
        hint = "Earlier checkpoints are intact; free some space, then resume."
        with disk_errors(f"Writing {self.run.metrics}", hint), self.run.metrics.open("a", encoding="utf-8") as stream:
            stream.write(text)


def facts_of(step: Stepped) -> dict[str, object]:
    """A step as a line holds it: norms by place in four digits, and of a long run only those of some steps."""
    facts = asdict(step)
    norms = facts.pop("block_norms")
    return {**facts, "block_norms": [float(f"{norm:.4g}") for norm in norms]} if norms and is_recorded(step.step) else facts
