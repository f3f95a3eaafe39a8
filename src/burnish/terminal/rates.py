"""A range test of the learning rate in the terminal: its curve and what it suggests."""

from __future__ import annotations

import math

from rich.console import Console
from rich.text import Text

from burnish.core.rates import RangeTest
from burnish.terminal.plot import plot


def show_rates(console: Console, found: RangeTest) -> None:
    """The smoothed loss over the learning rate, on a logarithmic axis, with the suggestion as a column of bars."""
    rates = found.rates[: found.telling] if found.rates else []
    points = [(math.log10(rate), loss) for rate, loss in zip(rates, found.smooth, strict=False)]
    mark = None if found.suggestion is None else math.log10(found.suggestion)
    lines = plot(points, (f"{rates[0]:.0e}", f"{rates[-1]:.0e}"), mark) if points else []
    for line in ["smoothed loss over the learning rate (logarithmic)", *lines, *found.sentences()]:
        console.print(Text(line), highlight=False, soft_wrap=True)
