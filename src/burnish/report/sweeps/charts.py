"""Figures of a sweep: trials in their order, each parameter against the metric, and all parameters side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from burnish.report.figures import STAND_INS, picture
from burnish.report.sweeps.words import shown
from burnish.report.versus.charts import Figure, drawn
from burnish.report.wording import short, spoken

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HISTORY, COORDINATES = (300, 260), (380, 380)
"""Heights of figures in CSS pixels, on a screen and on a phone."""
SLICE = (420, 230)
"""Width and height of one of two columns."""
MOST_LABEL = 14
Scale = tuple[Callable[[Any], float], Sequence[tuple[float, str]]]
"""Where a value stands on an axis, from 0 to 1, and the ticks."""


def figures(facts: Mapping[str, Any]) -> list[Figure]:
    """All that can be drawn of what there is."""
    if not any(trial["value"] is not None for trial in facts["trials"]):
        return []
    slices = [slice_figure(facts, parameter, f"s{place}") for place, parameter in enumerate(facts["parameters"])]
    return [history_figure(facts), coordinates_figure(facts), *(figure for figure in slices if figure is not None)]


def valued(facts: Mapping[str, Any], state: str) -> list[Mapping[str, Any]]:
    return [trial for trial in facts["trials"] if trial["state"] == state and trial["value"] is not None]


def history_figure(facts: Mapping[str, Any]) -> Figure:
    """A dot for each trial in the order of their numbers, open where it was stopped early, and the best so far as a line."""
    complete, pruned = valued(facts, "complete"), valued(facts, "pruned")
    best = max if facts["higher_is_better"] else min
    so_far = [best(trial["value"] for trial in complete[: place + 1]) for place in range(len(complete))]

    def paint(axes: Axes, width: int, height: int) -> None:
        from matplotlib.ticker import MaxNLocator

        bare(axes)
        axes.grid(axis="y", color=STAND_INS["rule"], linewidth=1)
        axes.scatter(numbers(pruned), values(pruned), s=28, facecolors="none", edgecolors=STAND_INS["muted"], zorder=3)
        axes.scatter(numbers(complete), values(complete), s=30, color=STAND_INS["accent"], zorder=4, linewidths=0)
        axes.step(numbers(complete), so_far, where="post", color=STAND_INS["contrast"], linewidth=1.5, zorder=2)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=max(4, width // 90), integer=True))
        axes.set_xlabel("trial", color=STAND_INS["muted"])
        axes.set_ylabel(spoken(facts["metric"]), color=STAND_INS["muted"])

    told = f", at last {short(so_far[-1], 4)}" if so_far else ""
    alt = f"{facts['metric']} of each of {len(facts['trials'])} trials in their order; the best so far as a line{told}"
    legend = [("accent dots", "finished"), ("muted dots", "stopped early, its last value"), ("contrast", "best so far")]
    return drawn("Trials in their order", legend, paint, alt, HISTORY, "h")


def coordinates_figure(facts: Mapping[str, Any]) -> Figure:
    """Parallel coordinates: an axis for each parameter and one for the metric, a line for each trial, the best ones in color."""
    trials = [*valued(facts, "complete"), *valued(facts, "pruned")]
    sign = 1 if facts["higher_is_better"] else -1
    order = by_worth(trials, sign)
    scales = [scale_of(parameter) for parameter in facts["parameters"]]
    scales.append(spread_scale([trial["value"] for trial in trials]))
    names = [*(parameter["name"] for parameter in facts["parameters"]), facts["metric"]]
    axis_of = list(enumerate(zip(names[:-1], scales[:-1], strict=True)))
    leading = max(1, round(len(valued(facts, "complete")) / 5))

    def paint(axes: Axes, width: int, height: int) -> None:
        for place, trial in enumerate(order):
            among = place >= len(order) - leading and trial["state"] == "complete"
            # An axis that a trial has no value on is passed over: it is of a choice that was not taken.
            met = [(at, scale(trial["parameters"][name])) for at, (name, (scale, _)) in axis_of if name in trial["parameters"]]
            met.append((len(names) - 1, scales[-1][0](trial["value"])))
            color = STAND_INS["contrast" if place == len(order) - 1 else "accent" if among else "muted"]
            thick = 2 if among else 1
            axes.plot(*zip(*met, strict=True), color=color, linewidth=thick, alpha=1 if among else 0.4, marker="o", markersize=3)
        upright_axes(axes, names, scales, width)

    best = facts["best"]
    told = (
        f" The best, trial {best['number']}: " + ", ".join(f"{key} {shown(value)}" for key, value in best["parameters"].items())
        if best
        else ""
    )
    alt = f"A line for each of {len(trials)} trials through its parameters to its {facts['metric']}.{told}"
    legend = [("contrast", "the best"), ("accent", "the best fifth"), ("muted", "the others")]
    return drawn("Parameters side by side", legend, paint, alt, COORDINATES, "p")


def by_worth(trials: Sequence[Mapping[str, Any]], sign: int) -> list[Mapping[str, Any]]:
    """Trials up to the best, the last one: finished ones after those that were stopped, of equals the earliest, as the search has it."""
    return sorted(trials, key=lambda trial: (trial["state"] == "complete", sign * trial["value"], -trial["number"]))


def slice_figure(facts: Mapping[str, Any], parameter: Mapping[str, Any], prefix: str) -> Figure | None:
    """The metric over one parameter, a dot for each trial that has it; None where none has."""
    name, (scale, ticks) = parameter["name"], scale_of(parameter)
    found = {state: [trial for trial in valued(facts, state) if name in trial["parameters"]] for state in ("complete", "pruned")}
    if not any(found.values()):
        return None

    def paint(axes: Axes, width: int, height: int) -> None:
        bare(axes)
        axes.grid(axis="y", color=STAND_INS["rule"], linewidth=1)
        for state, face, edge in (("pruned", "none", "muted"), ("complete", STAND_INS["accent"], "accent")):
            places = [scale(trial["parameters"][name]) for trial in found[state]]
            axes.scatter(places, values(found[state]), s=28, facecolors=face, edgecolors=STAND_INS[edge], zorder=3)
        axes.set_xlim(-0.06, 1.06)
        axes.set_xticks([place for place, _ in ticks], [cut(label) for _, label in ticks])
        axes.set_ylabel(spoken(facts["metric"]), color=STAND_INS["muted"])

    alt = f"{facts['metric']} of trials over {name}, {parameter['written']}"
    return Figure(name, [], "", picture(lambda axes: paint(axes, *SLICE), alt, SLICE, prefix))


def scale_of(parameter: Mapping[str, Any]) -> Scale:
    """Numbers by their share of the range, logarithmic where they were drawn so; choices evenly."""
    if parameter["kind"] == "choice":
        options = parameter["options"]
        places = {option: place / max(len(options) - 1, 1) for place, option in enumerate(options)}
        return places.__getitem__, [(place, option) for option, place in places.items()]
    low, high = parameter["low"], parameter["high"]
    if parameter["kind"] == "log":
        middle = math.sqrt(low * high)
        return lambda value: math.log(value / low) / math.log(high / low), [(0, short(low)), (0.5, short(middle)), (1, short(high))]
    return lambda value: (value - low) / (high - low), [(0, short(low)), (0.5, short((low + high) / 2)), (1, short(high))]


def spread_scale(found: Sequence[float]) -> Scale:
    """From the least value to the largest."""
    low, high = min(found), max(found)
    width = (high - low) or 1.0
    return lambda value: (value - low) / width if high > low else 0.5, [(0.0, short(low)), (1.0, short(high))] if high > low else [
        (0.5, short(low))
    ]


def upright_axes(axes: Axes, names: Sequence[str], scales: Sequence[Scale], width: int) -> None:
    """A vertical line for each scale, its ticks beside it, its name below; every second name lower, so that none meets another."""
    axes.set_axis_off()
    axes.set_xlim(-0.15, len(names) - 0.55)
    axes.set_ylim(-0.2, 1.08)
    size = 12.5 if width > 600 else 10
    for place, (name, (_, ticks)) in enumerate(zip(names, scales, strict=True)):
        axes.plot([place, place], [0, 1], color=STAND_INS["rule"], linewidth=1.5, zorder=1)
        for height, label in ticks:
            axes.annotate(
                cut(label),
                (place, height),
                xytext=(6, 0),
                textcoords="offset points",
                color=STAND_INS["muted"],
                va="center",
                size=size,
                zorder=6,
                bbox={"facecolor": STAND_INS["paper"], "edgecolor": "none", "pad": 1.5, "alpha": 0.85},  # lines pass below it
            )
        lower = -0.07 if place % 2 == 0 else -0.15
        axes.annotate(name, (place, lower), color=STAND_INS["ink"], ha="left" if place == 0 else "center", va="center", size=size)


def bare(axes: Axes) -> None:
    """Axes without a box: the eye reads heights."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(STAND_INS["rule"])
    axes.tick_params(length=0, colors=STAND_INS["muted"], pad=6)
    axes.set_axisbelow(True)


def numbers(trials: Sequence[Mapping[str, Any]]) -> list[int]:
    return [trial["number"] for trial in trials]


def values(trials: Sequence[Mapping[str, Any]]) -> list[float]:
    return [trial["value"] for trial in trials]


def cut(label: str) -> str:
    return label if len(label) <= MOST_LABEL else label[: MOST_LABEL - 1] + "…"
