"""Reads a run folder into a `Record`: whatever is there, in the shapes that the page expects, and a note on what is damaged.

A report is wanted most when a run went wrong, so nothing here fails because a file is missing, half or odd. Only a
folder that is no run at all is an error, the one that `RunFolder.open` raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from burnish.core.errors import RunError
from burnish.core.rundir import RunFolder

T = TypeVar("T")

FIRST_PARTS = ("test", "validation")
"""The parts of the data whose evaluations are shown first, in this order."""
BEFORE = "before"
"""The evaluation of the weights that training began with."""


@dataclass(frozen=True)
class Record:
    """What a run folder holds. Missing files are empty dictionaries and lists; `summary` is None until the run is finished."""

    name: str
    started: datetime
    recipe: str
    environment: dict[str, Any]
    data: dict[str, Any]
    plan: dict[str, Any]
    steps: list[dict[str, Any]]
    """Lines of metrics.jsonl with kind `step`, by ascending step, one for each step."""
    evaluations: list[dict[str, Any]]
    """Lines of metrics.jsonl with kind `evaluation`, by ascending step."""
    moves: list[dict[str, Any]]
    """Lines of metrics.jsonl with kind `move`, by ascending step: what was turned on the way."""
    before: dict[str, Any]
    """evaluations/before.json: what the model gave before the first step; empty where it was not tried."""
    results: list[dict[str, Any]]
    """The other evaluations/*.json: test first, then validation, then the others by name."""
    movement: dict[str, Any]
    """movement.json: how far the weights moved; empty where it was not measured."""
    uncertainty: dict[str, Any]
    """uncertainty.json: standard errors over rows by part and metric; empty where they are not known."""
    summary: dict[str, Any] | None
    problems: list[str]
    """What could not be read, a sentence each."""

    @property
    def last_step(self) -> int:
        """The last step that is recorded; 0 where none is."""
        return int(self.steps[-1]["step"]) if self.steps else 0


def collect(path: Path) -> Record:
    """The run at `path`. Raises RunError where `path` is no run."""
    folder = RunFolder.open(path)
    problems: list[str] = []

    def read(name: str) -> dict[str, Any]:
        return mapping(attempt(lambda: folder.read(name), None, f"{name} cannot be read and is left out", problems))

    none: list[dict[str, Any]] = []
    lines = attempt(folder.read_metrics, none, "metrics.jsonl cannot be read and is left out", problems)
    summary, environment = read("summary.json"), read("environment.json")
    return Record(
        name=folder.path.name,
        started=start_of(folder, environment),
        recipe=folder.recipe.read_text(encoding="utf-8", errors="replace"),
        environment=environment,
        data=read("data.json"),
        plan=read("plan.json"),
        steps=list({line["step"]: line for line in by_step(lines, "step")}.values()),
        evaluations=by_step(lines, "evaluation"),
        moves=by_step(lines, "move"),
        before=read(f"evaluations/{BEFORE}.json"),
        results=[result for name in result_names(folder) if mapping((result := read(name)).get("metrics"))],
        movement=read("movement.json"),
        uncertainty=read("uncertainty.json"),
        summary=summary if summary or folder.finished else None,
        problems=problems,
    )


def start_of(folder: RunFolder, environment: dict[str, Any]) -> datetime:
    """When the run began: as it noted itself, else when its recipe was written."""
    try:
        return datetime.fromisoformat(str(environment.get("started")))
    except ValueError:
        return datetime.fromtimestamp(folder.recipe.stat().st_mtime).astimezone()


def attempt(reader: Callable[[], T], otherwise: T, problem: str, problems: list[str]) -> T:
    """What `reader` returns; where the file is damaged, `otherwise`, and the problem is noted."""
    try:
        return reader()
    except (OSError, ValueError, RunError) as error:
        problems.append(f"{problem}: {error}")
        return otherwise


def by_step(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The lines of one kind that say at which step they were written, in that order."""
    chosen = [line for line in lines if isinstance(line, dict) and line.get("kind") == kind and finite(line.get("step")) is not None]
    return sorted(chosen, key=lambda line: float(line["step"]))


def result_names(folder: RunFolder) -> list[str]:
    """Names of the evaluation files of trained weights, those of `FIRST_PARTS` before the others."""
    stems = sorted(path.stem for path in folder.evaluations.glob("*.json") if path.stem != BEFORE)
    first = [part for part in FIRST_PARTS if part in stems]
    return [f"evaluations/{stem}.json" for stem in [*first, *(stem for stem in stems if stem not in first)]]


def mapping(value: Any) -> dict[str, Any]:
    """`value` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """`value` where it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def finite(value: Any) -> float | None:
    """`value` as a float where it is a finite number. Booleans, texts, NaN and infinities are None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
