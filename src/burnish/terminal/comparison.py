"""What a comparison came to: its sentences, the table, every seed on one axis, and quality against cost, in plain characters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from burnish.report.versus.reading import Estimate, System, Versus, read
from burnish.report.versus.words import BETTER, WORSE, headline, level, signed, verdict_of
from burnish.report.wording import NONE, decimal, duration, integer, memory, scaled, spoken
from burnish.terminal.plot import cell

AXIS = 60
HEIGHT = 10
SEED, MEAN, RANGE = "o", "|", "-"
COLORS = {BETTER: "green", WORSE: "red"}


def show_comparison(console: Console, folder: Path) -> bool:
    """Prints the comparison in `folder`, and says whether all of its runs gave a result."""
    versus = read(folder)
    console.print()
    for sentence in headline(versus):
        console.print(Text(sentence, "bold"), soft_wrap=True)
    console.print(table(versus))
    for line in [*seeds_plot(versus), *cost_plot(versus)]:
        console.print(Text(line), soft_wrap=True)
    for warning in versus.warnings:
        console.print(Text("warning: ", "yellow").append(warning, "none"), soft_wrap=True)
    failed = [(system.name, cell) for system in versus.systems for cell in system.failed]
    for name, run in failed:
        console.print(
            Text("failed: ", "bold red").append(f"{name}, seed {run.seed}: {run.failure.splitlines()[0]}", "none"), soft_wrap=True
        )
    console.print(f"comparison: {folder}\nreport: {folder / 'report' / 'index.html'}", highlight=False, markup=False, soft_wrap=True)
    return not failed


def table(versus: Versus) -> Table:
    """A row for each system: quality with its interval, the difference to the baseline, and what it cost."""
    unit = " (points)" if versus.points else ""
    found = Table(title=title(versus), title_justify="left")
    found.add_column("system")
    for name in (spoken(versus.metric), "sd", level(versus), f"minus {versus.baseline}{unit}", level(versus)):
        found.add_column(name, justify="right")
    found.add_column("")
    measured = [name for name, of in COSTS.items() if any(getattr(system, of).mean is not None for system in versus.systems)]
    for name in ("learns", *measured):
        found.add_column(name, justify="right")
    for system in versus.systems:
        estimate = system.metrics.get(versus.metric, Estimate())
        found.add_row(
            Text(system.name + (" *" if system.name in versus.front else "")),
            decimal(estimate.mean), decimal(estimate.sd), ends(estimate.low, estimate.high), *apart(versus, system),
            integer(system.trainable), *(cost(system, name) for name in measured),
        )  # fmt: skip
    found.caption = "* no other is both better and quicker to train; time and memory are means of a run"
    found.caption_justify = "left"
    return found


COSTS = {"time": "seconds", "memory": "peak_memory", "energy": "energy"}
WRITE = {"time": duration, "memory": memory, "energy": lambda value: scaled(value, "J", 1000, ("", "k", "M"))}


def cost(system: System, name: str) -> str:
    return WRITE[name](getattr(system, COSTS[name]).mean)


def title(versus: Versus) -> str:
    rows = f"{versus.rows:,} {versus.part} rows" if versus.rows else f"{versus.part} rows"
    return f"{versus.name}: {rows}, seeds {', '.join(map(str, versus.seeds))}".replace("[", r"\[")


def apart(versus: Versus, system: System) -> tuple[str | Text, str | Text, str | Text]:
    """The difference to the baseline, its interval, and what that allows to say."""
    difference = system.difference
    if difference is None:
        return ("", "", "baseline" if system.name == versus.baseline else NONE)
    verdict = verdict_of(difference)
    interval = f"{signed(versus, difference.low)} to {signed(versus, difference.high)}" if difference.low is not None else NONE
    return signed(versus, difference.mean), interval, Text(verdict, COLORS.get(verdict, "none"))


def ends(low: float | None, high: float | None) -> str:
    return f"{decimal(low)} to {decimal(high)}" if low is not None and high is not None else NONE


def seeds_plot(versus: Versus) -> list[str]:
    """A line for each system on one axis: every seed, the mean, and the interval of the mean as far as the axis goes.

    The axis spans the seeds of all systems and their means' intervals.
    """
    shown = [(system, values) for system in versus.systems if (values := scores(versus, system))]
    if not shown:
        return []
    bounds = [value for system, values in shown for value in (*values, *known(system.metrics.get(versus.metric, Estimate())))]
    low, high, name = min(bounds), max(bounds), max(len(system.name) for system, _ in shown)
    lines = [f"{system.name:>{name}} {on_axis(values, system.metrics[versus.metric], (low, high))}".rstrip() for system, values in shown]
    foot = f"{'':>{name}} {decimal(low)}{decimal(high):>{AXIS - len(decimal(low))}}"
    return ["", f"{spoken(versus.metric)} of each seed ({SEED}), mean ({MEAN}) and its {level(versus)} interval ({RANGE})", *lines, foot]


def scores(versus: Versus, system: System) -> list[float]:
    return [run.metrics[versus.metric] for run in system.done if versus.metric in run.metrics] if versus.metric in system.metrics else []


def known(estimate: Estimate) -> list[float]:
    return [value for value in (estimate.low, estimate.high) if value is not None]


def on_axis(values: Sequence[float], estimate: Estimate, bounds: tuple[float, float]) -> str:
    """Interval, mean and seeds in one line, seeds on top; a cell that several seeds share tells how many."""
    line = [" "] * AXIS
    if estimate.low is not None and estimate.high is not None:
        first, last = (cell(value, *bounds, AXIS) for value in (estimate.low, estimate.high))
        line[first : last + 1] = RANGE * (last + 1 - first)
    if estimate.mean is not None:
        line[cell(estimate.mean, *bounds, AXIS)] = MEAN
    places = [cell(value, *bounds, AXIS) for value in values]
    for place in set(places):
        number = places.count(place)
        line[place] = SEED if number == 1 else str(min(number, 9))
    return "".join(line)


def cost_plot(versus: Versus) -> list[str]:
    """Systems by number where quality (up) and time to train (right) put them, those of the front with a star."""
    shown = [system for system in versus.systems if versus.mean(system) is not None and system.seconds.mean is not None]
    if len(shown) < 2:
        return []
    times, means = [system.seconds.mean or 0.0 for system in shown], [versus.mean(system) or 0.0 for system in shown]
    grid = [[" "] * AXIS for _ in range(HEIGHT)]
    for number, (time, mean) in enumerate(zip(times, means, strict=True), start=1):
        row = cell(mean if versus.higher else -mean, *limits(means, versus.higher), HEIGHT)
        mark(grid[row], cell(time, min(times), max(times), AXIS - 3), f"{number}{'*' if shown[number - 1].name in versus.front else ''}")
    top, bottom = (max(means), min(means)) if versus.higher else (min(means), max(means))
    names = {HEIGHT - 1: decimal(top), 0: decimal(bottom)}
    margin = max(map(len, names.values()))
    lines = [f"{names.get(row, ''):>{margin}} |{''.join(grid[row])}".rstrip() for row in reversed(range(HEIGHT))]
    left, right = duration(min(times)), f"{duration(max(times))} to train"
    foot = f"{'':>{margin}}  {left}{right:>{AXIS - len(left)}}"
    legend = ", ".join(f"{number} {system.name}" for number, system in enumerate(shown, start=1))
    return [
        "",
        f"{spoken(versus.metric)} against time; * no other is both better and quicker",
        *lines,
        f"{'':>{margin}} +{'-' * AXIS}",
        foot,
        legend,
    ]


def limits(values: Sequence[float], higher: bool) -> tuple[float, float]:
    return (min(values), max(values)) if higher else (-max(values), -min(values))


def mark(line: list[str], place: int, text: str) -> None:
    """Writes a mark into a line, to the right of what stands there already."""
    while place < len(line) and line[place] != " ":
        place += 1
    line[place : place + len(text)] = text[: max(0, len(line) - place)]
