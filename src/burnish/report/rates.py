"""The page of a range test: its curve, and what it suggests."""

from __future__ import annotations

import math
from pathlib import Path

from markupsafe import Markup

from burnish.core.errors import disk_errors
from burnish.core.rates import RangeTest
from burnish.core.rundir import write_text
from burnish.report import figures
from burnish.report.figures import Line, Panel
from burnish.report.templates import resource, template, writable

SIZE = (900, 360)


def write_page(found: RangeTest, name: str, path: Path) -> None:
    """Writes a page that needs nothing else. `name` is the recipe's. Raises RunError where the disk refuses."""
    figure = Markup(figures.svg(panel(found), *SIZE, "r"))
    page = template("rates.html.jinja").render(found=found, name=name, figure=figure, style=Markup(resource("page.css")))
    with disk_errors(f"Writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, writable(page))


def panel(found: RangeTest) -> Panel:
    """The losses over the logarithm of the rate, faint under their smoothed course, with a dot at the suggestion."""
    place = [math.log10(rate) for rate in found.rates[: found.telling]]
    lines = [
        Line("each step", list(zip(place, found.losses, strict=False)), faint=True),
        Line("smoothed", list(zip(place, found.smooth, strict=False))),
    ]
    if found.suggestion is not None:
        at = list(found.rates).index(found.suggestion)
        lines.append(Line("suggested", [(place[at], found.smooth[at])], "contrast", dots=True, apart=True))
    alt = f"Loss over the learning rate from {found.rates[0]:.1e} to {found.rates[-1]:.1e}. " + ". ".join(found.sentences())
    return Panel("Loss at rising learning rates", "learning rate, as a power of ten", "loss", lines, alt)
