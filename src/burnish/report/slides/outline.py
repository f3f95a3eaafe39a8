"""What a deck holds before it is drawn: slides in sections, each with its texts, and what is shown on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

INTRODUCTION, METHODOLOGY, RESULTS, DISCUSSION = SECTIONS = ("Introduction", "Methodology", "Results", "Discussion")

Values = Mapping[str, str | Sequence[str]]
"""What stands in the place of each {name}: a text, or several, each of which becomes a line of its own."""


@dataclass(frozen=True)
class Grid:
    """A table of texts. `numbers` are the columns set to the right; `strong` the rows set in bold; `tones` colors of cells."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()
    widths: Sequence[float] = ()
    """Relative widths of the columns; by their texts where it is empty."""
    strong: frozenset[int] = frozenset()
    tones: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """(row, column) -> a color by name."""
    shades: Mapping[tuple[int, int], float] = field(default_factory=dict)
    """(row, column) -> how strongly the cell is filled, 0 to 1."""
    whole: bool = True
    """Whether rows that find no room go on to another slide; else they are left out."""


@dataclass(frozen=True)
class Spots:
    """Values by category as dots, with the interval of each mean: every run of every system, or differences around 0."""

    categories: Sequence[str]
    means: Sequence[float | None]
    lows: Sequence[float | None]
    highs: Sequence[float | None]
    singles: Sequence[tuple[str, Sequence[float | None]]] = ()
    """Name and values of each series of single runs."""
    axis: str = ""
    zero: bool = False
    """Whether the categories' axis lies at 0, to be seen."""
    tones: Sequence[str] = ()


@dataclass(frozen=True)
class Cloud:
    """Named points: quality over a cost."""

    points: Sequence[tuple[str, float, float, str]]
    """Name, x, y, color."""
    ends: Sequence[tuple[float, float] | None]
    """The interval of each point's y, None where it is unknown."""
    x_axis: str
    y_axis: str
    logarithmic: bool = False
    form: str = "General"
    """The number format of the x axis."""


@dataclass(frozen=True)
class Curves:
    """Curves over steps, each with its name and color."""

    lines: Sequence[tuple[str, Sequence[tuple[float, float]], str]]
    x_axis: str
    y_axis: str


@dataclass(frozen=True)
class Bars:
    """Horizontal bars by category, a series each."""

    categories: Sequence[str]
    series: Sequence[tuple[str, Sequence[float | None]]]
    axis: str = ""


Exhibit = Grid | Spots | Cloud | Curves | Bars


@dataclass(frozen=True)
class Slide:
    """One slide: texts with {names} in them, and what is shown. `key` is its name in the file of texts."""

    key: str
    section: str
    title: str
    text: Sequence[str] = ()
    exhibit: Exhibit | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Outline:
    """A whole deck: its slides, and what the {names} stand for."""

    name: str
    slides: Sequence[Slide]
    values: Values
    keys: Sequence[str]
    """Names of all slides that such a deck can have, for a text may stand ready for one that is not there yet."""
