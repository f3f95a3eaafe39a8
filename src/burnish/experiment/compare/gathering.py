"""A comparison of runs that are there already: systems are what differs between their recipes in anything but the seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.core.errors import BurnishError, RunError, listing
from burnish.core.rundir import RunFolder, write_text
from burnish.experiment.cells import Cell, identity, seeded
from burnish.experiment.compare.comparing import SHELF, require_own, texts
from burnish.experiment.compare.plan import FILE, Plan
from burnish.experiment.compare.record import Entry, record
from burnish.experiment.compare.systems import System, baseline_of, metric_of, part_of, short_names, unfair
from burnish.recipe import Recipe
from burnish.run import Run
from burnish.run.identity import identity_of

LONGEST = 48
"""Characters of a name that is made of what differs; where there is more of that, systems are called by their folders."""


def gather(paths: Sequence[Path], output: Path | None = None, baseline: str | None = None, metric: str | None = None) -> Path:
    """Compares finished runs as far as they can be compared, and gives the folder: comparison.json and the texts of the rows.

    Nothing is trained, and no test rows are opened. The same runs are written to the same folder again. Raises RunError where a path is
    no run, or not finished, and BurnishError where the runs do not measure the same thing.
    """
    runs = [RunFolder.open(path) for path in dict.fromkeys(Path(path).absolute() for path in paths)]
    unfinished = [str(run.path) for run in runs if not run.finished]
    if unfinished:
        raise RunError(listing("only finished runs can be compared; these are not (`burnish resume RUN` goes on with one)", unfinished))
    found, entries = grouped(runs)
    plan = plan_of(found, entries, baseline, metric)
    folder = RunFolder(place(plan, runs, output))
    require_own(folder)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_lines("rows.jsonl", texts(runs[0], plan.part))
    content = {**record(plan, folder.path, entries, concluded=True), "runs": [str(run.path) for run in runs]}
    write_text(folder.path / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return folder.path


def grouped(runs: Sequence[RunFolder]) -> tuple[list[System], list[Entry]]:
    """The systems that runs are of, and the runs as their entries. Raises BurnishError where two are the same run twice."""
    recipes = [Run(run).recipe for run in runs]
    keys = [json.dumps(bare(recipe), sort_keys=True) for recipe in recipes]
    firsts = dict(reversed(list(zip(keys, recipes, strict=True))))
    order = list(dict.fromkeys(keys))
    first_runs = dict(reversed(list(zip(keys, runs, strict=True))))
    called = names([json.loads(key) for key in order])
    if any(len(name) > LONGEST for name in called):
        called = short_names([str(first_runs[key].path) for key in order])
    systems = {key: System(name, first_runs[key].recipe, (), seeded(firsts[key], 0)) for key, name in zip(order, called, strict=True)}
    entries: dict[tuple[str, int], Entry] = {}
    for run, recipe, key in zip(runs, recipes, keys, strict=True):
        cell = Cell(systems[key].name, recipe.train.seed, recipe)
        other = entries.get((cell.system, cell.seed))
        if other is not None and other.folder is not None:
            raise BurnishError(f"{other.folder.path} and {run.path} are the same run twice ({cell.title}): leave one out.")
        entries[cell.system, cell.seed] = Entry(cell, identity_of(run) or identity(recipe), run)
    return list(systems.values()), list(entries.values())


def plan_of(found: Sequence[System], entries: Sequence[Entry], baseline: str | None, metric: str | None) -> Plan:
    """What is compared. Where a run was not measured on the test rows, all are compared on validation rows, and that is told."""
    warnings: list[str] = []
    part = part_of(found)
    lacking = [entry.cell.title for entry in entries if entry.folder and entry.folder.read(f"evaluations/{part}.json") is None]
    if lacking:
        closed = [entry for entry in entries if entry.folder and entry.folder.read("evaluations/validation.json") is None]
        if part != "test" or closed:
            raise RunError(f"{lacking[0]} has not been measured on {part} rows: `burnish evaluate RUN --part {part}` does that.")
        part = "validation"
        warnings.append(
            f"{lacking[0]} has not been measured on test rows (`burnish evaluate RUN --part test`): compared on validation rows, "
            "which flatters whatever was chosen by them"
        )
    warnings += unfair(found, part)
    chosen, _ = metric_of(found, metric)
    seeds = sorted({entry.cell.seed for entry in entries})
    name = "-".join([*dict.fromkeys(system.recipe.task.name for system in found), *first_of([system.folder for system in found])])
    return Plan(name, found, seeds, baseline_of(found, baseline), chosen, found[0].recipe.task.metrics, part, warnings)


def first_of(folders: Sequence[str]) -> list[str]:
    """As many names as stay short together, at least part of the first, and the number of the others.

    >>> first_of(["a" * 30, "b" * 30, "c"])
    ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'and-2-more']
    """
    kept = [folders[0][:LONGEST].strip("-")]
    for folder in folders[1:]:
        if len("-".join([*kept, folder])) > LONGEST:
            break
        kept.append(folder)
    left = len(folders) - len(kept)
    return [*kept, f"and-{left}-more"] if left else kept


def place(plan: Plan, runs: Sequence[RunFolder], output: Path | None) -> Path:
    """`output`, else `report-NAME-1` below the shelf of runs, or the first that is free or holds these very runs."""
    number, wanted = 1, [str(run.path) for run in runs]
    while output is None:
        folder = RunFolder(SHELF / f"report-{plan.name}-{number}")
        if not folder.path.exists() or (folder.read(FILE) or {}).get("runs") == wanted:
            output = folder.path
        number += 1
    return Path(output).expanduser().absolute()


def bare(recipe: Recipe) -> dict[str, Any]:
    """A recipe without what does not set a system apart: its seed, its folder, who follows it, whether its cost was foretold."""
    content = recipe.model_dump(mode="json", exclude={"run", "sweep", "track"})
    content["train"].pop("seed", None)
    content["engine"].pop("forecast", None)
    return content


def names(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """A short name for each of several recipes, of what differs between them: `lora`, `full lr=0.001`; numbered where there is no telling them apart.

    >>> names([{"method": {"name": "lora", "r": 8}}, {"method": {"name": "lora", "r": 4}}, {"method": {"name": "full"}}])
    ['lora r=8', 'lora r=4', 'full']
    """
    flat = [flattened(recipe) for recipe in recipes]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if differs(key, flat)]
    own = [str(one.get("method.name") or one.get("task.name") or "run") for one in flat]
    told = [" ".join(word(key, one[key]) for key in keys if one.get(key) is not None) or name for one, name in zip(flat, own, strict=True)]
    numbers = Counter[str]()
    made = []
    for name in told:
        numbers[name] += 1
        made.append(name if told.count(name) == 1 else f"{name} ({numbers[name]})")
    return made


def differs(key: str, flat: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a key has several values among recipes that have the same thing there: the rank of LoRA is no difference to `full`."""
    parent = f"{key.rpartition('.')[0]}.name"
    kinds: dict[str, set[str]] = {}
    for one in flat:
        kind = "" if key == parent else str(one.get(parent))
        kinds.setdefault(kind, set()).add(json.dumps(one.get(key), sort_keys=True))
    return any(len(values) > 1 for values in kinds.values())


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`"""
    found: dict[str, Any] = {}
    for key, value in content.items():
        inner = flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        found.update(inner)
    return found


def word(key: str, value: Any) -> str:
    """How a name tells a value: by itself where it is a name, else with the last part of its key."""
    last = key.rpartition(".")[2]
    if last == "name" and isinstance(value, str):
        return Path(value).name
    return f"{last}={Path(value).name if isinstance(value, str) and '/' in value else json.dumps(value) if not isinstance(value, str) else value}"
