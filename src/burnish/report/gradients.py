"""Gradient norms over time by place in the model, as a map: a row for each place, the head on top, a column for some steps each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from burnish.report import figures
from burnish.report.collect import Record, finite, sequence
from burnish.report.figures import STAND_INS
from burnish.report.wording import plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CELLS = 2400
MOST_COLUMNS = 64
LEVELS = 16
"""Strengths of the color."""
ROW = 24
"""CSS pixels of a row, fewer where there are many."""
HIGHEST = 640


@dataclass(frozen=True)
class GradientMap:
    """The drawing, wide and for a phone, and its words."""

    wide: str
    narrow: str
    low: str
    high: str


@dataclass(frozen=True)
class Norms:
    """Geometric means of the norms (rows of `values`, lowest place first; None where nothing learned) over equal stretches of steps,
    whose ends are `edges`."""

    places: Sequence[str]
    edges: Sequence[float]
    values: Sequence[Sequence[float | None]]

    @property
    def ends(self) -> tuple[float, float]:
        known = [value for row in self.values for value in row if value is not None]
        return min(known), max(known)


def gradient_map(record: Record) -> GradientMap | None:
    """None where no norms by place are recorded, or of fewer than two steps."""
    found = norms(record)
    if found is None:
        return None
    low, high = found.ends
    height = min(HIGHEST, ROW * len(found.places)) + 60
    alt = (
        f"Norm of the gradient in {len(found.places)} places, from {found.places[0]} to {found.places[-1]}, over "
        f"{len(found.edges) - 1} stretches of steps: lowest {short(low)}, highest {short(high)}."
    )
    wide, narrow = (
        figures.picture(partial(paint, found=found, width=width), alt, (width, height), f"gradients{width}") for width in (900, 420)
    )
    return GradientMap(wide, narrow, short(low), short(high))


def norms(record: Record) -> Norms | None:
    """What the steps have recorded, in as many columns as can be seen apart."""
    places = [plain(name) for name in sequence(record.plan.get("gradient_places"))]
    lines = [(float(line["step"]), sequence(line.get("block_norms"))) for line in record.steps if line.get("block_norms")]
    lines = [(step, row) for step, row in lines if len(row) == len(places)]
    if len(lines) < 2 or not places:
        return None
    first, last = lines[0][0], lines[-1][0]
    columns = int(min(MOST_COLUMNS, max(2, MOST_CELLS // len(places)), last - first + 1))
    edges = [first - 0.5 + (last - first + 1) * number / columns for number in range(columns + 1)]
    logarithms: list[list[list[float]]] = [[[] for _ in range(columns)] for _ in places]
    for step, row in lines:
        column = min(columns - 1, int((step - edges[0]) / (edges[-1] - edges[0]) * columns))
        for place, value in enumerate(row):
            number = finite(value)
            if number is not None and number > 0:
                logarithms[place][column].append(math.log(number))
    values = [[math.exp(math.fsum(cell) / len(cell)) if cell else None for cell in row] for row in logarithms]
    return Norms(places, edges, values) if any(value for row in values for value in row) else None


def paint(axes: Axes, found: Norms, width: int) -> None:
    """The map: one outline for all cells of a strength, so that the drawing stays small."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    low, high = found.ends
    spread = math.log(high / low) or 1.0
    corners: dict[int, list[tuple[float, float]]] = {}
    for row, values in enumerate(found.values):
        for column, value in enumerate(values):
            if value is not None:
                level = round((LEVELS - 1) * (math.log(value / low) / spread if high > low else 1.0))
                left, right = found.edges[column], found.edges[column + 1]
                corners.setdefault(level, []).extend([(left, row), (right, row), (right, row + 0.92), (left, row + 0.92), (left, row)])
    for level, outline in corners.items():
        codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(outline) // 5)
        style: dict[str, Any] = {
            "facecolor": STAND_INS["accent"],
            "alpha": 0.06 + 0.9 * level / (LEVELS - 1),
            "linewidth": 0,
            "antialiased": False,
        }
        axes.add_patch(PathPatch(Path(outline, codes), **style))
    axes.set_xlim(found.edges[0], found.edges[-1])
    axes.set_ylim(0, len(found.places))
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    every = max(1, -(-len(found.places) // 26))
    shown = [number for number in range(len(found.places)) if number % every == 0 or number == len(found.places) - 1]
    axes.set_yticks([number + 0.46 for number in shown], [found.places[number] for number in shown])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=max(4, width // 90), integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.tick_params(length=0, colors=STAND_INS["muted"], pad=6)
    axes.set_xlabel("step", color=STAND_INS["muted"], labelpad=6)
