"""Tables of a comparison: results, every metric, every class, every run, what is configured. Cells are texts already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.report.collect import Record, finite, mapping, sequence
from burnish.report.configured import settings
from burnish.report.sections import Column, TableView
from burnish.report.versus.courses import shown_metrics
from burnish.report.versus.reading import Estimate, System, Versus
from burnish.report.versus.words import MINUS, bare, signed, tone_of, verdict_of
from burnish.report.wording import NONE, decimal, duration, integer, memory, percent, scaled, spoken

MOST_CLASSES = 60


@dataclass(frozen=True)
class Result:
    """A line of the table of results."""

    name: str
    about: str
    runs: int
    failed: int
    mean: str
    sd: str
    interval: str
    difference: str
    difference_interval: str
    mcnemar: str
    verdict: str
    tone: str
    trainable: str
    share: str
    seconds: str
    memory: str
    energy: str
    front: bool
    baseline: bool


def results(versus: Versus) -> list[Result]:
    """A line for each system, in the order of the comparison."""
    return [result_of(versus, system) for system in versus.systems]


def result_of(versus: Versus, system: System) -> Result:
    """The line of one system; what is unknown is a dash, or nothing where it would stand below a number."""
    estimate = system.metrics.get(versus.metric, Estimate())
    difference, base = system.difference, system.name == versus.baseline
    return Result(
        name=system.name,
        about=apart(versus, system),
        runs=len(system.done),
        failed=len(system.failed),
        mean=decimal(estimate.mean),
        sd=decimal(estimate.sd),
        interval=between(decimal(estimate.low), decimal(estimate.high)),
        difference=signed(versus, difference.mean) if difference else NONE,
        difference_interval=between(signed(versus, difference.low), signed(versus, difference.high)) if difference else "",
        mcnemar=p_value(difference.mcnemar) if difference else "",
        verdict="baseline" if base else verdict_of(difference) if difference else "not compared",
        tone=tone_of(verdict_of(difference)) if difference else "muted",
        trainable=integer(system.trainable),
        share=percent(system.trainable / system.total) if system.trainable is not None and system.total else "",
        seconds=duration(system.seconds.mean),
        memory=memory(system.peak_memory.mean),
        energy=energy(system.energy.mean),
        front=system.name in versus.front,
        baseline=base,
    )


def apart(versus: Versus, system: System) -> str:
    """What sets a system apart: its changes to the recipe but for those that all have, where its name does not say it already."""
    told = " ".join(change for change in system.overrides if change not in common(versus))
    return "" if told.partition("=")[2] == system.name else told


def common(versus: Versus) -> list[str]:
    """Changes to the recipe that all systems have."""
    every = [set(system.overrides) for system in versus.systems]
    return [change for change in versus.systems[0].overrides if all(change in own for own in every)] if len(every) > 1 else []


def between(low: str, high: str) -> str:
    """`0.85 to 0.89`; nothing where an end is unknown."""
    return "" if NONE in (low, high) else f"{low} to {high}".replace("-", MINUS)


def p_value(value: float | None) -> str:
    """`p = 0.012`, never 0."""
    return "" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def energy(joules: float | None) -> str:
    """Energy in the unit that suits it: `1.2 kJ`."""
    return scaled(joules, "J", 1000, ("", "k", "M", "G"))


def metrics_table(versus: Versus) -> TableView | None:
    """Mean and standard deviation of every metric by system."""
    names = shown_metrics(versus)
    if not names:
        return None
    rows = [[system.name, *(with_deviation(system.metrics.get(name, Estimate())) for name in names)] for system in versus.systems]
    columns = [Column("system", "text"), *(Column(spoken(name), "number") for name in names)]
    return TableView("Every metric", columns, rows, "Mean over runs ± standard deviation.")


def with_deviation(estimate: Estimate) -> str:
    """`0.871 ± 0.012`"""
    return decimal(estimate.mean) + (f" ± {decimal(estimate.sd)}" if estimate.sd is not None else "")


def classes_table(versus: Versus) -> TableView | None:
    """The score of each class by system, a mean over runs: F1 where there is one, else the last share that the tasks' table gives."""
    found = {system.name: scores for system in versus.systems if (scores := class_scores(system, versus.part))}
    if not found:
        return None
    labels = list(dict.fromkeys(label for _, scores in found.values() for label in scores))
    if len(labels) < 2:
        return None
    score = next(iter(found.values()))[0]
    rows = [[label, *(decimal(scores.get(label)) for _, scores in found.values())] for label in labels[:MOST_CLASSES]]
    columns = [Column("class", "text"), *(Column(name, "number") for name in found)]
    return TableView(f"{spoken(score)} of each class", columns, rows, "Mean over runs.", max(0, len(labels) - MOST_CLASSES))


def class_scores(system: System, part: str) -> tuple[str, dict[str, float]] | None:
    """Name of the score, and its mean over a system's runs for each class; None where no run has a table of classes."""
    gathered: dict[str, list[float]] = {}
    score = ""
    for cell in system.done:
        for record_score, label, value in class_values(cell.record, part):
            score = score or record_score
            gathered.setdefault(label, []).append(value)
    return (score, {label: sum(values) / len(values) for label, values in gathered.items()}) if gathered else None


def class_values(record: Record | None, part: str) -> Iterator[tuple[str, str, float]]:
    """(score, class, value) of a run's first table whose lines are classes: it has a column `f1` or `recall` after a text."""
    for result in record.results if record else []:
        for section in sequence(result.get("sections")) if result.get("part") == part else []:
            content = mapping(section)
            columns = [str(name) for name in sequence(content.get("columns"))]
            score = next((name for name in ("f1", "recall", "accuracy") if name in columns[1:]), None)
            if content.get("kind") != "table" or score is None or "row" in columns:
                continue
            place = columns.index(score)
            for line in sequence(content.get("rows")):
                if isinstance(line, list) and len(line) > place and (value := finite(line[place])) is not None:
                    yield score, str(line[0]), value
            return


def configured(versus: Versus) -> list[tuple[str, str]]:
    """What all runs share, as configured: (name, value), those that are known."""
    records = [cell.record for system in versus.systems for cell in system.cells if cell.record is not None]
    plans, recipes = [record.plan for record in records], [dict(settings(record.recipe)) for record in records]
    kept = (
        ("Task", "task"), ("Model", "model"), ("Duration", "duration"), ("Steps", "steps"),
        ("Batch size", "batch_size"), ("Longest text", "max_length"), ("Precision", "precision"), ("Device", "device"),
    )  # fmt: skip
    changes = [("Changed for all", " ".join(common(versus)))] if common(versus) else []
    found = [(name, value) for name, key in kept if (value := shared([plan.get(key) for plan in plans]))]
    names = dict.fromkeys(name for recipe in recipes for name in recipe if name != "Seed")
    return [*found, *((name, shared([recipe.get(name, NONE) for recipe in recipes], " | ")) for name in names), *changes]


def shared(values: Sequence[Any], between: str = ", ") -> str:
    """One value where all agree, else all of them; nothing where none is known."""
    known = list(dict.fromkeys(integer(value) if isinstance(value, int) else str(value) for value in values if value is not None))
    return between.join([*known[:6], *(["…"] if len(known) > 6 else [])])


def data_parts(versus: Versus) -> dict[str, Mapping[str, Any]]:
    """Rows and fingerprint of each part of the data, from the first run that has recorded them, the test rows from whichever opened them."""
    found: dict[str, Mapping[str, Any]] = {}
    for system in versus.systems:
        for cell in system.cells:
            for part, facts in mapping(cell.record.data.get("parts") if cell.record else None).items():
                found.setdefault(part, mapping(facts))
    return found


def environments(versus: Versus) -> list[tuple[str, str]]:
    """Versions and machine of the runs; more than one value where they differ."""
    records = [cell.record.environment for system in versus.systems for cell in system.cells if cell.record is not None]
    keys = dict.fromkeys(key for environment in records for key, value in environment.items() if value is not None)
    left = {"command", "started"}
    memory_of = {"memory_bytes": "memory"}
    made = []
    for key in keys:
        values = [environment.get(key) for environment in records]
        if key not in left:
            text = ", ".join(dict.fromkeys(memory(value) for value in values)) if key in memory_of else shared(values)
            made.append((memory_of.get(key, spoken(key)), text))
    return made


def difference_unit(versus: Versus) -> str:
    """The unit of the column of differences."""
    return "points" if versus.points else spoken(versus.metric)


def smallest_shown(versus: Versus) -> str:
    """Half the width of the narrowest interval of a difference: what this comparison could have shown at best."""
    halves = [
        (system.difference.high - system.difference.low) / 2
        for system in versus.others
        if system.difference and system.difference.low is not None and system.difference.high is not None
    ]
    return f"{bare(versus, min(halves))} {difference_unit(versus)}" if halves else ""
