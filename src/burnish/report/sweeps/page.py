"""The page of a sweep: one HTML file that needs nothing else, in the look of the page of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from burnish.core.errors import RunError, disk_errors
from burnish.core.rundir import RunFolder, write_text
from burnish.report import wording
from burnish.report.sections import Column, TableView
from burnish.report.sweeps import charts, words
from burnish.report.templates import resource, template, writable


def write(folder: Path) -> Path:
    """Writes `SWEEP/index.html` from sweep.json, and returns its path. Raises RunError where there is none, or the disk refuses."""
    facts = RunFolder(folder).read("sweep.json")
    if facts is None:
        raise RunError(f"{folder} holds no sweep.json: go on with `burnish sweep`, which writes it")
    target = folder / "index.html"
    with disk_errors(f"Writing {target}"):
        write_text(target, render(facts))
    return target


def render(facts: Mapping[str, Any]) -> str:
    """The page as text."""
    found = charts.figures(facts)
    page = template("sweeps/page.html.jinja").render(
        facts=facts,
        style=Markup(resource("page.css")),
        headline=words.headline(facts),
        worth=words.best_lines(facts) if facts["best"] else [],
        numbers=numbers(facts),
        figures=found[:2],
        slices=found[2:],
        importances=list(facts["importances"].items()),
        trials=trials_table(facts),
        runs=runs_table(facts),
        settings=settings(facts),
    )
    return writable(page)


def numbers(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What stands largest: fresh seeds on test and validation, then the flattered best of the search."""
    proof, metric = facts.get("proof") or {}, wording.spoken(facts["metric"])
    found = [(f"{metric}, {part}, fresh seeds", wording.decimal(proof[part]["mean"])) for part in ("test", "validation") if proof.get(part)]
    return [*found, (f"{metric}, validation, best of the search", wording.decimal(facts["best"]["value"]))] if facts["best"] else found


def trials_table(facts: Mapping[str, Any]) -> TableView:
    """All trials from the best on."""
    keys = [(parameter["name"], parameter["kind"]) for parameter in facts["parameters"]]
    columns = [Column("trial", "number"), Column(facts["metric"], "number")]
    columns += [Column(name, "text" if kind == "choice" else "number") for name, kind in keys]
    columns += [Column("seconds", "number"), Column("state", "text")]
    rows = [
        [
            str(trial["number"]),
            wording.decimal(trial["value"]),
            *(words.shown(trial["parameters"].get(name)) for name, _ in keys),
            wording.short(trial["seconds"]),
            words.reached(trial),
        ]
        for trial in words.ranked(facts)
    ]
    return TableView("Trials", columns, rows, "A run that was stopped early has the value of its last evaluation.")


def runs_table(facts: Mapping[str, Any]) -> TableView | None:
    """The best recipe with each fresh seed."""
    proof, metric = facts.get("proof"), facts["metric"]
    if not proof:
        return None
    columns = [
        Column("seed", "number"),
        Column("validation", "number"),
        Column("test", "number"),
        Column("seconds", "number"),
        Column("run", "text"),
    ]
    rows = [
        [
            str(run["seed"]),
            *(wording.decimal(run.get(part, {}).get(metric)) for part in ("validation", "test")),
            wording.short(run.get("seconds")),
            run.get("path") or f"failed: {run.get('reason')}",
        ]
        for run in proof["runs"]
    ]
    return TableView(f"{wording.spoken(metric)} by seed", columns, rows)


def settings(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was searched and how."""
    found = [(parameter["name"], parameter["written"]) for parameter in facts["parameters"]]
    return [*found, *((key, wording.plain(facts[key])) for key in ("recipe", "sampler", "pruner", "seed", "storage"))]
