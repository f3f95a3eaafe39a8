"""comparison.json: what was compared, every run, and what the numbers allow to say."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.core.errors import count
from burnish.core.rundir import RunFolder
from burnish.core.secrets import redacted
from burnish.experiment.cells import Cell
from burnish.experiment.compare.plan import Plan
from burnish.experiment.compare.results import LEVEL, Aligned, aligned, front, results, spread
from burnish.experiment.compare.systems import System

MACHINE = ("cpu", "threads", "gpu")
"""What of a run's environment decides how long it takes."""


@dataclass
class Entry:
    """A run of a comparison: where it is, or why there is none; `lasting` failures would only come again."""

    cell: Cell
    identity: str
    folder: RunFolder | None = None
    failure: str = ""
    lasting: bool = False


def record(plan: Plan, folder: Path, entries: Sequence[Entry], concluded: bool) -> dict[str, Any]:
    """The content of comparison.json. Before it is concluded it says which runs are there, and nothing of what they come to."""
    found = {
        system.name: {entry.cell.seed: entry.folder for entry in entries if entry.cell.system == system.name and entry.folder}
        for system in plan.systems
    }
    made = [
        described(system, [entry for entry in entries if entry.cell.system == system.name], folder, plan.part) for system in plan.systems
    ]
    warnings, rows = [*plan.warnings], None
    if concluded:
        together = aligned(found, plan.part)
        told = results(together, plan.baseline, plan.metric, plan.metrics)
        made = [{**system, **told[system["name"]]} for system in made]
        warnings += [*together.warnings, *cautions(plan, together, entries)]
        rows = together.rows
    return {
        "kind": "comparison",
        "name": plan.name,
        "key": plan.key,
        "task": plan.systems[0].recipe.task.name,
        "metric": plan.metric,
        "higher_is_better": plan.higher,
        "part": plan.part,
        "rows": rows,
        "baseline": plan.baseline,
        "seeds": list(plan.seeds),
        "level": LEVEL,
        "systems": made,
        "front": front(made, plan.metric, plan.higher),
        "warnings": warnings,
        "finished": concluded,
        "command": redacted(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
    }


def described(system: System, entries: Sequence[Entry], folder: Path, part: str) -> dict[str, Any]:
    """A system and its runs."""
    runs = [run_of(entry, folder, part) for entry in entries]
    facts = next((entry.folder.read("plan.json") for entry in entries if entry.folder), None) or {}
    parameters = facts.get("parameters", {})
    return {
        "name": system.name,
        "recipe": str(system.source),
        "overrides": list(system.overrides),
        "trainable": parameters.get("trainable"),
        "total": parameters.get("total"),
        "runs": [run for run in runs if run],
        "metrics": {},
        "seconds": spread([run.get("seconds") for run in runs]),
        "peak_memory": spread([run.get("peak_memory") for run in runs]),
        "energy": spread([run.get("energy") for run in runs]),
        "difference": None,
    }


def run_of(entry: Entry, folder: Path, part: str) -> dict[str, Any]:
    """A run as it is listed; nothing where it has not been made yet."""
    known = {"seed": entry.cell.seed, "identity": entry.identity}
    if entry.folder is None:
        return {**known, "failed": entry.failure, "lasting": entry.lasting} if entry.failure else {}
    run, path = entry.folder, entry.folder.path
    inside = path.is_relative_to(folder)
    summary, energy = run.read("summary.json") or {}, run.read("energy.json") or {}
    return {
        **known,
        "path": str(path.relative_to(folder) if inside else path),
        "metrics": (run.read(f"evaluations/{part}.json") or {}).get("metrics", {}),
        "seconds": summary.get("seconds"),
        "peak_memory": summary.get("peak_memory"),
        "energy": energy.get("joules"),
        "reused": not inside,
    }


def cautions(plan: Plan, found: Aligned, entries: Sequence[Entry]) -> list[str]:
    """What a reader has to know before believing the numbers."""
    told = []
    failed = [entry.cell.title for entry in entries if entry.failure]
    if failed:
        told.append(
            f"{count(len(failed), 'run')} failed ({', '.join(failed)}): means are over the others, differences over the seeds that both have"
        )
    if len(plan.seeds) == 1:
        told.append(
            "one seed: how much results vary from seed to seed is unknown, so that intervals hold for these very models on other rows, "
            "and say nothing of the systems trained once more"
        )
    folders = [entry.folder for entry in entries if entry.folder]
    machines = {tuple((folder.read("environment.json") or {}).get(name) for name in MACHINE) for folder in folders}
    if len(machines) > 1:
        told.append("runs were made on different machines or numbers of threads: their times do not compare")
    undefined = [f"{name}, seed {run.seed}" for name, runs in found.runs.items() for run in runs if run.score(plan.metric) is None]
    if undefined:
        told.append(f"{plan.metric} is no number for {', '.join(undefined)}: nothing is compared by it (--metric names another)")
    elif not all(run.sums(plan.metric) for runs in found.runs.values() for run in runs):
        told.append(f"{plan.metric} is not known row by row: intervals are over seeds alone, on these rows")
    if plan.metric in ("loss", "perplexity") and len({system.recipe.model.name for system in plan.systems}) > 1:
        told.append(f"{plan.metric} counts each model's own tokens: with different tokenizers it does not compare")
    return told + overlaps(folders, plan.part)


def overlaps(folders: Sequence[RunFolder], part: str) -> list[str]:
    """Warnings of the runs that rows to measure on also stand in training."""
    found: list[Mapping[str, Any]] = [folder.read("data.json") or {} for folder in folders]
    told = [warning for data in found for warning in data.get("warnings", []) if f"{part} row" in warning and "training" in warning]
    return list(dict.fromkeys(told))
