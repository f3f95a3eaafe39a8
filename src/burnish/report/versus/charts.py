"""Figures of a comparison: every seed with its mean and interval, differences to the baseline, quality against cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from burnish.report import figures
from burnish.report.figures import STAND_INS, tick_wording
from burnish.report.versus.reading import Estimate, System, Versus
from burnish.report.versus.words import BETTER, WORSE, listed, signed, tone_of, verdict_of
from burnish.report.wording import decimal, duration, memory, parameters, short, spoken

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTHS = (900, 420)
"""Of a figure in CSS pixels: for a screen, and for a phone."""
ROW, MARGIN = 36, 74
"""Height of a system's row, and of axis and labels."""
NAME_SHARE = 0.3
CHARACTER = 7.2
"""Width of a character of the figures' font, in CSS pixels."""


@dataclass(frozen=True)
class Figure:
    """A figure as the page shows it: drawn for a wide screen and for a phone."""

    title: str
    legend: Sequence[tuple[str, str]]
    """Colors and what they stand for."""
    wide: str
    narrow: str
    note: str = ""
    panels: Sequence[tuple[str, str]] = ()
    """Name and drawing of many small panels, in place of one figure."""


Painter = Callable[["Axes", int, int], None]


def drawn(title: str, legend: Sequence[tuple[str, str]], paint: Painter, alt: str, heights: tuple[int, int], prefix: str) -> Figure:
    """A figure from a function that paints axes of a width and height."""
    made = []
    for width, height, suffix in zip(WIDTHS, heights, ("w", "n"), strict=True):

        def painted(axes: Axes, width: int = width, height: int = height) -> None:
            paint(axes, width, height)

        made.append(figures.picture(painted, alt, (width, height), prefix + suffix))
    return Figure(title, legend, made[0], made[1])


def seeds_figure(versus: Versus) -> Figure | None:
    """A dot for each run; the line is the interval of the mean, the bar across it the mean."""
    systems = [system for system in versus.systems if any(versus.metric in cell.metrics for cell in system.done)]
    if not systems:
        return None

    def paint(axes: Axes, width: int, height: int) -> None:
        for place, system in enumerate(systems):
            values = [cell.metrics[versus.metric] for cell in system.done if versus.metric in cell.metrics]
            estimate = system.metrics.get(versus.metric, Estimate())
            spread(axes, place, estimate, "ink")
            axes.plot(values, [place] * len(values), "o", color=STAND_INS["accent"], markersize=8, alpha=0.65, markeredgewidth=0, zorder=4)
        rows_axis(axes, [system.name for system in systems], width)
        value_axis(axes, spoken(versus.metric) + ("" if versus.higher else " (lower is better)"), width)

    told = [f"{system.name}: {estimate_told(system.metrics.get(versus.metric, Estimate()))}" for system in systems]
    alt = f"{spoken(versus.metric)} of each run by system. {'; '.join(told)}."
    height = MARGIN + ROW * len(systems)
    return drawn("Every run", [("accent dots", "a run"), ("ink", "mean and interval")], paint, alt, (height, height), "seeds")


def estimate_told(estimate: Estimate) -> str:
    """`mean 0.871, from 0.85 to 0.89`"""
    ends = "" if estimate.low is None or estimate.high is None else f", interval from {short(estimate.low)} to {short(estimate.high)}"
    return f"mean {short(estimate.mean)}{ends}"


def spread(axes: Axes, place: float, estimate: Estimate, color: str) -> None:
    """An interval as a line, its mean as a bar across it."""
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [place, place], color=STAND_INS[color], linewidth=2, zorder=3, solid_capstyle="round")
    if estimate.mean is not None:
        axes.plot([estimate.mean] * 2, [place - 0.24, place + 0.24], color=STAND_INS[color], linewidth=2.5, zorder=5)


def forest_figure(versus: Versus) -> Figure | None:
    """Each system minus the baseline, with its interval; 0 is marked. The thick part is what the rows alone leave open."""
    systems = [system for system in versus.others if system.difference is not None]
    if not systems:
        return None
    scale = 100 if versus.points else 1

    def paint(axes: Axes, width: int, height: int) -> None:
        axes.axvline(0, color=STAND_INS["ink"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        for place, system in enumerate(systems):
            difference = system.difference
            assert difference is not None
            color = STAND_INS[tone_of(verdict_of(difference))]
            for low, high, line in ((difference.low, difference.high, 2.0), (difference.rows_low, difference.rows_high, 5.5)):
                if low is not None and high is not None:
                    axes.plot(
                        [scale * low, scale * high], [place] * 2, color=color, linewidth=line, alpha=1 if line < 3 else 0.35, zorder=2
                    )
            axes.plot([scale * difference.mean], [place], "o", color=color, markersize=9, zorder=4)
        rows_axis(axes, [system.name for system in systems], width)
        unit = "points of " if versus.points else ""
        better = "right" if versus.higher else "left"
        value_axis(axes, f"{unit}{spoken(versus.metric)}, minus {clipped(versus.baseline, 24)} ({better} is better)", width)

    told = [difference_told(versus, system) for system in systems]
    alt = f"Differences to {versus.baseline}. {'; '.join(told)}."
    height = MARGIN + ROW * len(systems)
    legend = [("accent dots", BETTER), ("contrast dots", WORSE), ("muted dots", "no difference shown")]
    return drawn("Differences to the baseline", legend, paint, alt, (height, height), "forest")


def difference_told(versus: Versus, system: System) -> str:
    """A row of the figure for those who cannot see it."""
    difference = system.difference
    if difference is None:
        return f"{system.name}: unknown"
    ends = f", interval from {signed(versus, difference.low)} to {signed(versus, difference.high)}" if difference.low is not None else ""
    return f"{system.name}: {signed(versus, difference.mean)}{ends}, {verdict_of(difference)}"


COSTS: dict[str, tuple[str, Callable[[System], float | None], Callable[[Any], str]]] = {
    "time": ("training time", lambda system: system.seconds.mean, duration),
    "memory": ("peak memory", lambda system: system.peak_memory.mean, memory),
    "parameters": ("trainable parameters", lambda system: system.trainable, parameters),
}


def priced(versus: Versus, cost: str) -> list[tuple[System, float, float]]:
    """(system, cost, quality) of those of which both are known."""
    price = COSTS[cost][1]
    found = [(system, price(system), versus.mean(system)) for system in versus.systems]
    return [(system, paid, quality) for system, paid, quality in found if paid is not None and quality is not None]


def front(versus: Versus, cost: str) -> set[str]:
    """Names of the systems that no other beats in both quality and this cost."""
    known = [(system.name, paid, quality if versus.higher else -quality) for system, paid, quality in priced(versus, cost)]
    return {
        name
        for name, paid, quality in known
        if not any(less <= paid and more >= quality and (less < paid or more > quality) for _, less, more in known)
    }


def cost_figure(versus: Versus, cost: str) -> Figure | None:
    """Quality over a cost; the systems on the front are joined. None with fewer than two systems, or where the cost is the same."""
    known = priced(versus, cost)
    if len(known) < 2 or len({paid for _, paid, _ in known}) < 2:
        return None
    name, _, write = COSTS[cost]
    best = front(versus, cost)
    paids = [paid for _, paid, _ in known]
    wide_span = min(paids) > 0 and max(paids) > 8 * min(paids)

    def paint(axes: Axes, width: int, height: int) -> None:
        ahead = sorted((paid, quality) for system, paid, quality in known if system.name in best)
        axes.plot(*zip(*ahead, strict=True), color=STAND_INS["accent"], linewidth=1.5, alpha=0.5, zorder=2)
        for system, paid, quality in known:
            color = STAND_INS["accent" if system.name in best else "muted"]
            estimate = system.metrics.get(versus.metric, Estimate())
            if estimate.low is not None and estimate.high is not None:
                axes.plot([paid] * 2, [estimate.low, estimate.high], color=color, linewidth=1.5, alpha=0.6, zorder=2)
            axes.plot([paid], [quality], "o", color=color, markersize=9, zorder=4)
        cost_axes(axes, (name, write), spoken(versus.metric), (width, height), wide_span)
        label_points(axes, [(paid, quality, system.name, system.name in best) for system, paid, quality in known], (width, height))

    told = [f"{system.name}: {write(paid)}, {decimal(quality)}" for system, paid, quality in known]
    alt = f"{spoken(versus.metric)} over {name}. {'; '.join(told)}. On the front: {listed(sorted(best))}."
    legend = [("accent dots", "on the front: none is better and cheaper"), ("muted dots", "beaten")]
    return drawn(f"Quality against {name}", legend, paint, alt, (340, 300), f"cost-{cost}")


def rows_axis(axes: Axes, names: Sequence[str], width: int) -> None:
    """The names of systems down the left side, the first on top, clipped to their share of the width."""
    most = int(NAME_SHARE * width / CHARACTER)
    axes.set_yticks(range(len(names)), [clipped(name, most) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    for label in axes.get_yticklabels():
        label.set_color(STAND_INS["ink"])


def value_axis(axes: Axes, label: str, width: int) -> None:
    """Ticks along the foot, with vertical rules only."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bare_axes(axes, "x")
    axes.margins(x=0.05)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=max(3, width // 110), steps=figures.ROUND_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_wording(list(axes.get_xticks()))))
    axes.set_xlabel(label, color=STAND_INS["muted"], labelpad=6)


def cost_axes(axes: Axes, cost: tuple[str, Callable[[Any], str]], quality: str, size: tuple[int, int], logarithmic: bool) -> None:
    """Cost along the foot in its own unit, quality up the side."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    bare_axes(axes, "y")
    axes.margins(x=0.12, y=0.14)
    write = cost[1]
    if logarithmic:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        places = LogLocator(base=2, subs=(1,)) if write is memory else LogLocator(subs=(1, 3) if high / low < 1e4 else (1,))
        places.set_params(numticks=max(3, size[0] // 110))
        axes.set_xticks(apart([tick for tick in places.tick_values(low, high) if low <= tick <= high], write, size[0]))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        low, high = axes.get_xlim()
        unit, name = unit_of(high - low, write)
        ticks = MaxNLocator(nbins=max(3, size[0] // 130), steps=figures.ROUND_STEPS).tick_values(low / unit, high / unit)
        axes.set_xticks([unit * tick for tick in ticks if low <= unit * tick <= high])
        write = (lambda value: f"{short(value / unit)} {name}") if name else write
    axes.yaxis.set_major_locator(MaxNLocator(nbins=max(3, size[1] // 50), steps=figures.ROUND_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(tick_wording(list(axes.get_yticks()))))
    muted = STAND_INS["muted"]
    axes.set_xlabel(cost[0] + (" (log scale)" if logarithmic else ""), color=muted, labelpad=6)
    axes.set_ylabel(quality, color=muted, labelpad=8)


def apart(ticks: Sequence[float], write: Callable[[Any], str], width: int) -> list[float]:
    """As many of the ticks as have room beside each other when they are written out: all, every second, every fourth, ..."""
    every = 1
    while len(ticks[::every]) > 2 and sum(CHARACTER * (len(write(tick)) + 3) for tick in ticks[::every]) > 0.82 * width:
        every *= 2
    return list(ticks[::every])


def unit_of(span: float, write: Callable[[Any], str]) -> tuple[float, str]:
    """The unit in which the ticks of such a span are round, and its name: bytes in MiB or GiB, seconds in minutes or hours."""
    units: Sequence[tuple[float, str]] = ((1.0, ""),)
    if write is memory:
        units = ((1024.0**3, "GiB"), (1024.0**2, "MiB"))
    elif write is duration:
        units = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
    return next(((unit, name) for unit, name in units if span >= 2 * unit), units[-1])


def bare_axes(axes: Axes, rules: Any) -> None:
    """No box: only the foot, and rules across one direction."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(STAND_INS["rule"])
    axes.tick_params(length=0, colors=STAND_INS["muted"], pad=6)
    axes.grid(axis=rules, color=STAND_INS["rule"], linewidth=1)
    axes.set_axisbelow(True)


def label_points(axes: Axes, points: Sequence[tuple[float, float, str, bool]], size: tuple[int, int]) -> None:
    """Names beside their points, each at the first of several places where it covers no other name or point.

    Places are tried in the pixels of the axes, taken to fill most of the figure; what finds no room is left without a name, for the
    table names it.
    """
    width, height = 0.82 * size[0], 0.74 * size[1]
    to_axes = axes.transData + axes.transAxes.inverted()
    spots = [to_axes.transform((x, y)) for x, y, _, _ in points]
    boxes = [(x * width - 6, y * height - 6, x * width + 6, y * height + 6) for x, y in spots]
    order = sorted(range(len(points)), key=lambda place: not points[place][3])
    for place in order:
        x, y = spots[place][0] * width, spots[place][1] * height
        text = clipped(points[place][2], int(0.34 * size[0] / CHARACTER))
        long = CHARACTER * len(text)
        around = [(9, -6), (-9 - long, -6), (-long / 2, 10), (-long / 2, -22), (9, 9), (9, -20), (-9 - long, 9), (-9 - long, -20)]
        for right, up in around:
            box = (x + right, y + up, x + right + long, y + up + 13)
            if box[0] >= -4 and box[2] <= width + 4 and box[3] <= height + 10 and not any(overlap(box, other) for other in boxes):
                boxes.append(box)
                color = STAND_INS["ink" if points[place][3] else "muted"]
                axes.annotate(text, points[place][:2], (right, up + 2), textcoords="offset points", color=color, zorder=6)
                break


def overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether two boxes (left, low, right, high) share more than an edge."""
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def clipped(text: str, most: int) -> str:
    """At most so many characters, the last an ellipsis where some are left out."""
    return text if len(text) <= most else text[: most - 1] + "…"
