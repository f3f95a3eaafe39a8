"""Learning curves of systems side by side: the mean over seeds, with a band from the lowest to the highest of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from burnish.report import figures
from burnish.report.collect import Record, finite, mapping
from burnish.report.curves import MOST_POINTS
from burnish.report.figures import SERIES, Line, Panel
from burnish.report.series import Point, points_of, smoothed, thinned, window_for
from burnish.report.versus.charts import Figure
from burnish.report.versus.reading import System, Versus
from burnish.report.wording import short, spoken

SIZES = ((900, 310), (420, 280))
SMALL = (280, 190)
"""Width and height of one of many small panels."""

Course = tuple[list[Point], list[tuple[float, float, float]]]
"""The mean by step, and (step, lowest, highest)."""


def evaluated(metric: str) -> Callable[[Record], list[Point]]:
    """Reads a metric of the validation rows, by step."""

    def points(record: Record) -> list[Point]:
        found = [(float(line["step"]), line) for line in record.evaluations if line.get("part") == "validation"]
        values = [(step, finite(mapping(line.get("metrics")).get(metric))) for step, line in found]
        return [(step, value) for step, value in values if value is not None]

    return points


def training(record: Record) -> list[Point]:
    """The loss of the training steps, smoothed."""
    raw = points_of(record.steps, "loss")
    return smoothed(raw, window_for(len(raw)))


def course(system: System, points: Callable[[Record], list[Point]]) -> Course:
    """Mean and range over a system's runs, at the steps that all of them that have any have reached."""
    curves = [dict(found) for cell in system.cells if cell.record is not None and (found := points(cell.record))]
    if not curves:
        return [], []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = [[curve[step] for curve in curves] for step in steps]
    mean = [(step, sum(found) / len(found)) for step, found in zip(steps, values, strict=True)]
    band = [(step, min(found), max(found)) for step, found in zip(steps, values, strict=True)] if len(curves) > 1 else []
    return mean, band


def courses(versus: Versus, metric: str) -> dict[str, Course]:
    """The course of each system that has one; `metric` is one of the validation rows, or `training loss`."""
    reader = training if metric == TRAINING else evaluated(metric)
    found = {system.name: course(system, reader) for system in versus.systems}
    return {name: (mean, band) for name, (mean, band) in found.items() if len(mean) > 1}


TRAINING = "training loss"


def course_figures(versus: Versus) -> list[Figure]:
    """The deciding metric and the loss on validation rows, and the training loss; those that were not recorded are left out.

    Of more systems than there are colors only the first of these is drawn, a panel for each.
    """
    made = []
    for place, metric in enumerate(dict.fromkeys((versus.metric, "loss", TRAINING))):
        found = courses(versus, metric)
        if len(found) > len(SERIES):
            return [apart(title_of(metric), found, f"course{place}")]
        if found:
            made.append(together(title_of(metric), found, f"course{place}"))
    return made


def title_of(metric: str) -> str:
    """The heading of a panel: `Validation accuracy`."""
    return "Training loss" if metric == TRAINING else f"Validation {spoken(metric)}"


def together(title: str, found: dict[str, Course], prefix: str) -> Figure:
    """All systems in one panel, told apart by color."""
    lines = [line_of(name, course, color) for (name, course), color in zip(found.items(), SERIES, strict=False)]
    alt = told(title, found)
    panel = Panel(title, "step", title.lower(), lines, alt, last_step(found))
    drawings = [figures.svg(panel, *size, prefix + suffix) for size, suffix in zip(SIZES, ("w", "n"), strict=True)]
    return Figure(title, [(line.color, line.name) for line in lines], drawings[0], drawings[1])


def apart(title: str, found: dict[str, Course], prefix: str) -> Figure:
    """A small panel for each of many systems, on the same axes, before the others in gray."""
    panels = []
    low = min(value for mean, band in found.values() for value in [*(v for _, v in mean), *(v for _, v, _ in band)])
    high = max(value for mean, band in found.values() for value in [*(v for _, v in mean), *(v for _, _, v in band)])
    for place, (name, course) in enumerate(found.items()):
        others = [Line(other, mean, "muted", faint=True) for other, (mean, _) in found.items() if other != name]
        panel = Panel(
            name, "step", "", [*others, line_of(name, course, "accent")], told(f"{title}, {name}", {name: course}), last_step(found)
        )
        panels.append((name, figures.svg(panel, *SMALL, f"{prefix}-{place}")))
    note = f"One panel for each system, all from {short(low)} to {short(high)}; the others in gray."
    return Figure(title, (), "", "", note, panels)


def line_of(name: str, course: Course, color: str) -> Line:
    mean, band = course
    kept = {step for step, _ in thinned(mean, MOST_POINTS)}
    return Line(name, thinned(mean, MOST_POINTS), color, dots=True, band=[entry for entry in band if entry[0] in kept])


def last_step(found: dict[str, Course]) -> float:
    return max(mean[-1][0] for mean, _ in found.values())


def told(title: str, found: dict[str, Course]) -> str:
    """The curves for those who cannot see them."""
    ends = [f"{name}: from {short(mean[0][1])} to {short(mean[-1][1])} at step {short(mean[-1][0])}" for name, (mean, _) in found.items()]
    return f"{title} over steps, mean over seeds. {'; '.join(ends)}."


def shown_metrics(versus: Versus) -> Sequence[str]:
    """Metrics of which a mean is known, the deciding one first and the loss last."""
    names = dict.fromkeys(name for system in versus.systems for name in system.metrics)
    return sorted(names, key=lambda name: (name != versus.metric, name == "loss"))
