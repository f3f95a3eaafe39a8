"""The page of a comparison: one HTML file that needs nothing else, in the look of the page of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from burnish.core.errors import count, disk_errors
from burnish.core.rundir import write_text
from burnish.report import wording
from burnish.report.comparison import sections
from burnish.report.samples import Card, SamplesView, answer, card, identity, samples_of
from burnish.report.templates import resource, template, writable
from burnish.report.versus import charts, courses, rows, tables, words
from burnish.report.versus.reading import Cell, System, Versus, read

MOST_WRITTEN = 8
"""Prompts whose answers by several systems are laid side by side."""


@dataclass(frozen=True)
class RunLine:
    """A line of the table of runs."""

    system: str
    seed: str
    metric: str
    seconds: str
    memory: str
    state: str
    failed: bool
    link: str
    """The run's own page, from the page of the comparison; empty where there is none."""


def write(folder: Path, output: Path | None = None) -> Path:
    """Writes `COMPARISON/report/index.html` (or `OUTPUT/index.html`) from whatever the comparison in `folder` holds by now, and returns its
    path.

    Raises RunError where `folder` holds no comparison, or the disk refuses.
    """
    versus = read(folder)
    target = (output or folder / "report") / "index.html"
    page = render(versus, target.parent.absolute())
    with disk_errors(f"Writing {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, page)
    return target


def render(versus: Versus, place: Path) -> str:
    """The page as text. `place` is the folder that it will lie in, from which it links to the pages of its runs."""
    drawings = {
        "every": present([charts.seeds_figure(versus), charts.forest_figure(versus)]),
        "costs": present([charts.cost_figure(versus, cost) for cost in charts.COSTS]),
        "courses": present(courses.course_figures(versus)),
    }
    page = template("versus/page.html.jinja").render(
        versus=versus,
        style=Markup(resource("page.css") + resource("versus/page.css")),
        headline=words.headline(versus),
        origin=words.origin(versus),
        reading=words.reading(versus),
        warnings=warnings(versus),
        results=tables.results(versus),
        unit=tables.difference_unit(versus),
        figures=drawings,
        views=present([tables.metrics_table(versus), tables.classes_table(versus)]),
        disagreements=rows.disagreements(versus),
        written=written(versus),
        lines=[line_of(versus, system, cell, place) for system in versus.systems for cell in system.cells],
        configured=tables.configured(versus),
        parts=tables.data_parts(versus),
        machine=tables.environments(versus),
        commands=commands(versus),
    )
    return writable(page)


def present(found: Sequence[Any]) -> list[Any]:
    return [entry for entry in found if entry is not None]


def warnings(versus: Versus) -> list[str]:
    """What the comparison warns of, which runs have failed, and what is not there yet."""
    failed = [(system.name, cell) for system in versus.systems for cell in system.failed]
    told = [f"{name}, seed {cell.seed} failed: {cell.failure}" for name, cell in failed]
    missing = versus.expected - versus.counted - len(failed)
    if missing > 0:
        told.append(f"{count(missing, 'run')} {'is' if missing == 1 else 'are'} not there yet: the same command goes on where it stopped.")
    return [*versus.warnings, *told]


def line_of(versus: Versus, system: System, cell: Cell, place: Path) -> RunLine:
    """The table's line of one run."""
    page = cell.path / "report" / "index.html"
    link = quote(os.path.relpath(page.absolute(), place).replace(os.sep, "/")) if page.is_file() else ""
    return RunLine(
        system=system.name,
        seed=wording.NONE if cell.seed is None else str(cell.seed),
        metric=wording.decimal(cell.metrics.get(versus.metric)),
        seconds=wording.duration(cell.seconds),
        memory=wording.memory(cell.peak_memory),
        state=cell.failure or ("not there yet" if not cell.metrics else "taken from before" if cell.reused else "trained"),
        failed=bool(cell.failure),
        link=link,
    )


def written(versus: Versus) -> SamplesView | None:
    """Texts that several systems wrote after the same prompts, each system's first run; None where fewer than two wrote any."""
    found: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for system in versus.systems:
        record = next((cell.record for cell in system.done if cell.record), None)
        results = [result for result in record.results if result.get("part") == versus.part] if record else []
        told = {identity(sample): sample for result in results for content in sections(result) for sample in samples_of(content)}
        if told:
            found[system.name] = told
    if len(found) < 2:
        return None
    shared = [key for key in next(iter(found.values())) if all(key in told for told in found.values())]
    cards: list[Card] = []
    for key in shared[:MOST_WRITTEN]:
        answers = [answer(name, told[key]) for name, told in found.items()]
        cards.append(card(next(iter(found.values()))[key], answers))
    return SamplesView("What they write", cards, "The first run of each system, after the same prompts.", len(shared) - len(cards))


def commands(versus: Versus) -> list[str]:
    """The command of the comparison where it is known, else those of its runs."""
    if versus.command:
        return [versus.command]
    environments = [cell.record.environment for system in versus.systems for cell in system.cells if cell.record]
    return list(dict.fromkeys(text for environment in environments if (text := wording.command_line(environment.get("command")))))
