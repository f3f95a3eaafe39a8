"""Curves as inline SVG. matplotlib draws; colors and fonts stay open, so that the page's style sheet decides them.

A color here is a name of the style sheet (`accent`, `contrast`, `muted`, `rule`, ...). matplotlib knows no such names, so each is
drawn in a stand-in color that is replaced by `var(--name)` in the SVG: the same figure serves light, dark and print.
matplotlib is imported where it draws, because importing it writes a font cache.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from burnish.report.series import Point, spans_decades
from burnish.report.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("accent", "contrast", "muted", "rule", "ink", "paper", "blue", "rose", "olive", "violet")
STAND_INS = {name: "#" + f"{place:02x}" * 3 for place, name in enumerate(COLORS, start=1)}
SERIES = ("accent", "contrast", "blue", "rose", "olive", "violet")
"""Colors of curves that stand side by side and are told apart by them."""
FONT_SIZE = 12.5
ROUND_STEPS = [1, 2, 2.5, 5, 10]
FEW_DECADES = 300
"""A logarithmic axis whose ends are less than this factor apart has ticks within its decades."""
MOST_MARKERS = 60
"""With more points than this a curve is drawn without a dot on each."""


@dataclass(frozen=True)
class Line:
    """One curve of a panel."""

    name: str
    points: Sequence[Point]
    color: str = "accent"
    faint: bool = False
    """Drawn thin and light, as the raw values under their mean."""
    dots: bool = False
    """A dot on each point: values that were measured only there."""
    apart: bool = False
    """Nothing joins the points, for nothing is known of what lies between."""
    band: Sequence[tuple[float, float, float]] = ()
    """(step, lowest, highest) of what the curve is the mean of, filled lightly."""


@dataclass(frozen=True)
class Panel:
    """One set of axes: its curves, the names of its axes, and the text that is read aloud in its place."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    alt: str
    last_step: float = 0
    """Where the horizontal axis ends, the same for all panels of a run, so that they can be read one above the other."""
    mark: float | None = None
    """The step at which a vertical line says `kept`."""
    moves: Sequence[tuple[float, str]] = ()
    """Steps at which something was turned, and what their vertical lines say."""

    @property
    def logarithmic(self) -> bool:
        """Whether the values span decades, so that a linear axis would show only the largest."""
        return spans_decades([point for line in self.lines for point in line.points])

    @property
    def ratio(self) -> float:
        """The largest value over the smallest, where all are positive."""
        values = [value for line in self.lines for _, value in line.points]
        return max(values) / min(values)


def svg(panel: Panel, width: int, height: int, prefix: str) -> str:
    """The panel as an `<svg>` element of that many CSS pixels; `prefix` keeps its ids apart from those of other figures."""
    return picture(lambda axes: draw(axes, panel, width, height), panel.alt, (width, height), prefix)


def picture(paint: Callable[[Axes], None], alt: str, size: tuple[int, int], prefix: str) -> str:
    """What `paint` draws on axes of that width and height, in colors of `STAND_INS`, as an `<svg>` element."""
    import warnings

    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": prefix, "font.size": FONT_SIZE, "text.parse_math": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # texts stay texts: the browser's fonts draw them, and not matplotlib's
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72, layout="constrained")
        paint(figure.add_subplot())
        target = io.StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return inlined(target.getvalue(), alt, prefix)


def draw(axes: Axes, panel: Panel, width: int, height: int) -> None:
    """The panel's curves on `axes`, with horizontal rules only: the eye reads heights, not boxes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    for order, line in enumerate(panel.lines):
        steps, values = [step for step, _ in line.points], [value for _, value in line.points]
        dotted = len(values) == 1 or (line.dots and len(values) <= MOST_MARKERS)
        axes.plot(
            steps,
            values,
            color=STAND_INS[line.color],
            linewidth=0 if line.apart else 1 if line.faint else 2,
            alpha=0.4 if line.faint else 1,
            marker="o" if dotted else "",
            markersize=5,
            zorder=3 + order,
            solid_capstyle="round",
        )
        if line.band:
            place, low, high = zip(*line.band, strict=True)
            axes.fill_between(place, low, high, color=STAND_INS[line.color], alpha=0.15, linewidth=0, zorder=2)
    muted, rule = STAND_INS["muted"], STAND_INS["rule"]
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(rule)
    axes.tick_params(length=0, colors=muted, pad=6)
    axes.grid(axis="y", color=rule, linewidth=1)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)
    if panel.last_step > 1:
        axes.set_xlim(-0.02 * panel.last_step, 1.02 * panel.last_step)
    if panel.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if panel.ratio < FEW_DECADES else (1,), numticks=max(3, height // 42)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=max(3, height // 42), steps=ROUND_STEPS))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=max(4, width // 90), steps=ROUND_STEPS, integer=True))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(tick_wording(list(axis.get_majorticklocs()))))
    axes.set_xlabel(panel.x_label, color=muted, labelpad=6)
    axes.set_ylabel(panel.y_label + (" (log scale)" if panel.logarithmic else ""), color=muted, labelpad=8)
    for step, label in panel.moves:
        mark_move(axes, step, label)
    if panel.mark is not None:
        mark(axes, panel.mark)


def tick_wording(places: Sequence[float]) -> Callable[[float, int], str]:
    """Writes a tick in three significant digits, in more where neighbors would read the same."""
    near_zero = 1e-9 * max((abs(place) for place in places), default=0)
    tidy = [0.0 if abs(place) <= near_zero else place for place in places]
    digits = next((digits for digits in range(3, 9) if len({short(place, digits) for place in tidy}) == len(set(tidy))), 9)
    return lambda value, _: short(0 if abs(value) <= near_zero else value, digits)


def mark(axes: Axes, step: float) -> None:
    """A dashed vertical line at the kept step, named above the axes."""
    color = STAND_INS["muted"]
    axes.axvline(step, color=color, linewidth=1, linestyle=(0, (2, 3)), zorder=2)
    axes.annotate(
        "kept",
        (step, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        color=color,
        ha="center",
        va="bottom",
    )


def mark_move(axes: Axes, step: float, label: str) -> None:
    """A thin vertical line where something was turned, with its number at the foot."""
    color = STAND_INS["contrast"]
    axes.axvline(step, color=color, linewidth=1, alpha=0.5, zorder=2)
    if label:
        at: Any = ("data", "axes fraction")
        axes.annotate(label, (step, 0), xycoords=at, xytext=(3, 3), textcoords="offset points", color=color, ha="left", va="bottom")


def inlined(text: str, alt: str, prefix: str) -> str:
    """matplotlib's SVG file as an element of a page: no prolog, no font or size of its own, open colors, and no id but those in use."""
    body = text[text.index("<svg") :]
    box = re.search(r'viewBox="[^"]*"', body)
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    for name, stand_in in STAND_INS.items():
        body = body.replace(stand_in, f"var(--{name})")
    body = body.replace("xlink:href=", "href=")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', body))
    names = {name for pair in used for name in pair if name}
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in names else "", body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    return f'<svg role="img" aria-label="{escaped(alt)}" {box[0] if box else ""}>{body.strip()}'


def escaped(text: str) -> str:
    """`text` inside a quoted attribute."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
