"""Which curves a run has: loss, each metric of the evaluations, learning rate, gradient norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.report.collect import Record, finite, mapping
from burnish.report.figures import Line, Panel
from burnish.report.moves import Mark, marks
from burnish.report.series import Point, points_of, smoothed, thinned, window_for
from burnish.report.wording import part_name, short, spoken

MOST_POINTS = 600
"""Points drawn of one curve: more than a screen can show apart, few enough to keep the page small."""
MOST_METRICS = 12
PART_COLORS = ("contrast", "accent", "muted")


def panels(record: Record) -> list[Panel]:
    """The panels of a run, those without a single number left out. The loss, where there is one, comes first."""
    made = [loss_panel(record), *metric_panels(record)]
    made.append(step_panel(record, "lr", "Learning rate", "learning rate"))
    made.append(step_panel(record, "grad_norm", "Gradient norm", "L2 norm of the gradient", smooth=True))
    return [panel for panel in made if panel is not None]


def loss_panel(record: Record) -> Panel | None:
    """Training loss, raw and smoothed, with the loss of each evaluated part over it."""
    raw = points_of(record.steps, "loss")
    lines = with_mean("training, by the recipe's own loss" if record.plan.get("plain_loss") is False else "training", raw) if raw else []
    spare = ["contrast", "muted"]
    for part, points in by_part(record, "loss").items():
        lines.append(Line(part, thinned(points, MOST_POINTS), spare.pop(0) if spare else "muted", dots=True))
    return panel_of(record, "Loss", "loss", [*lines, *ends(record)])


def metric_panels(record: Record) -> list[Panel | None]:
    """A panel for each metric that was evaluated on the way, with a curve for each part."""
    names = dict.fromkeys(name for line in record.evaluations for name in mapping(line.get("metrics")) if name != "loss")
    made = []
    for name in list(names)[:MOST_METRICS]:
        parts = zip(by_part(record, name).items(), PART_COLORS, strict=False)
        lines = [Line(part, thinned(points, MOST_POINTS), color, dots=True) for (part, points), color in parts]
        title = spoken(name)
        made.append(panel_of(record, title[:1].upper() + title[1:], title, lines))
    return made


def step_panel(record: Record, key: str, title: str, y_label: str, smooth: bool = False) -> Panel | None:
    """A panel of one value of the training steps."""
    points = points_of(record.steps, key)
    if not points:
        return None
    lines = with_mean("each step", points) if smooth else [Line("each step", thinned(points, MOST_POINTS))]
    return panel_of(record, title, y_label, lines, marked=False)


def with_mean(name: str, points: list[Point]) -> list[Line]:
    """The points, faint, under their moving mean; the points alone where they are too few to smooth."""
    window = window_for(len(points))
    if window == 1:
        return [Line(name, points)]
    mean = Line(f"mean of {window} steps", smoothed(points, window, MOST_POINTS))
    return [Line(name, thinned(points, MOST_POINTS), faint=True), mean]


def by_part(record: Record, metric: str) -> dict[str, list[Point]]:
    """Points of one metric for each part of the data that was evaluated while training."""
    found: dict[str, list[Point]] = {}
    for line in record.evaluations:
        value = finite(mapping(line.get("metrics")).get(metric))
        if value is not None and line.get("part") not in ends_only(record):
            found.setdefault(part_name(line.get("part")), []).append((float(line["step"]), value))
    return found


def ends_only(record: Record) -> set[Any]:
    """Parts that were measured before training and never on the way: two points make no curve."""
    return {line.get("part") for line in record.evaluations if line["step"] == 0} - {
        line.get("part") for line in record.evaluations if line["step"] > 0
    }


def ends(record: Record) -> list[Line]:
    """The loss before and after training of parts that were measured only then, as dots that nothing joins."""
    made = []
    for part in sorted(ends_only(record), key=str):
        lines = [
            line for line in [*record.evaluations, *record.results] if line.get("part") == part and finite(line.get("step")) is not None
        ]
        points = [(float(line["step"]), finite(mapping(line.get("metrics")).get("loss"))) for line in lines]
        made.append(
            Line(part_name(part), [(step, value) for step, value in points if value is not None], "contrast", dots=True, apart=True)
        )
    return made


def panel_of(record: Record, title: str, y_label: str, lines: list[Line], marked: bool = True) -> Panel | None:
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    kept = finite((record.summary or {}).get("kept_step")) if marked else None
    last = max(float(line["step"]) for line in [*record.steps, *record.evaluations])
    moved = marks(record)
    return Panel(title, step_label(record.plan), y_label, lines, description(title, lines) + told(moved), last, kept, moved)


def told(moved: Sequence[Mark]) -> str:
    """The steps at which something was turned, as the end of a description."""
    steps = [short(step) for step, _ in moved]
    return f" Something was turned at {'step' if len(steps) == 1 else 'steps'} {', '.join(steps)}." if steps else ""


def step_label(plan: dict[str, Any]) -> str:
    per_epoch = finite(plan.get("steps_per_epoch"))
    return f"step (1 epoch = {short(per_epoch)})" if per_epoch else "step"


def description(title: str, lines: list[Line]) -> str:
    """What the figure shows, for those who cannot see it: where each curve starts, ends, and its extremes."""
    told = []
    for line in (line for line in lines if not line.faint):
        (first, start), (last, end) = line.points[0], line.points[-1]
        values = [value for _, value in line.points]
        if len(values) == 1:
            told.append(f"{line.name}: {short(start)} at step {short(first)}")
        else:
            told.append(
                f"{line.name}: from {short(start)} at step {short(first)} to {short(end)} at step {short(last)}, "
                f"lowest {short(min(values))}, highest {short(max(values))}"
            )
    return f"{title} over steps. {'; '.join(told)}."
