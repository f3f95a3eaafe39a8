"""What native charts share: round scales, axes, markers, legends, and a plot area whose place is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.report.slides import fitting
from burnish.report.slides.palette import FONT, color

SIZE = 16
"""Of every text in a chart, in points."""
MOST_LETTERS, LABEL = 34, 20
"""Characters of a category's or a curve's name, and of a name beside a point."""
CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
FOOT = 0.95
"""Inches for ticks and the name of an axis below a plot that is placed by hand."""


@dataclass(frozen=True)
class Scale:
    """The ends of an axis, and what lies between two of its ticks; of a logarithmic one `step` is the base."""

    low: float
    high: float
    step: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends, from 0 to 1.

        >>> Scale(10, 1000, 10, True).share(100)
        0.5
        """
        write = math.log if self.logarithmic else float
        return (write(value) - write(self.low)) / (write(self.high) - write(self.low))

    @property
    def form(self) -> str:
        """The number format in which its ticks differ."""
        if self.step >= 1000:
            return "#,##0"
        digits = next(digits for digits in range(12) if math.isclose(self.step, round(self.step, digits), rel_tol=1e-6) or digits == 11)
        return "0" if not digits else "0." + "0" * digits


def linear(values: Sequence[float], spare: float = 0.08, least: float = 0.0) -> Scale:
    """Round ends around all values with some room to spare, but not beyond 1 where all values are shares; ticks `least` apart or a whole
    number of times that.

    >>> linear([0.2, 0.97])
    Scale(low=0.0, high=1.0, step=0.2, logarithmic=False)
    """
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    first, last = (low - spare * span if low else low), (high + spare * span if high else high)
    last += span if first == last else 0.0
    step = 10.0 ** math.floor(math.log10((last - first) / 4))
    whole = [factor for factor in (1, 2, 2.5, 5, 10) if not least or (step * factor / least) % 1 == 0] or [10]
    step *= next((factor for factor in whole if (last - first) / (step * factor) <= 6), 10)
    step = max(step, least)
    digits = max(0, 2 - math.floor(math.log10(step)))
    ends = round(math.floor(first / step) * step, digits), round(math.ceil(last / step) * step, digits)
    return Scale(max(0.0, ends[0]) if low >= 0 else ends[0], min(1.0, ends[1]) if 0.5 < high <= 1 else ends[1], round(step, digits))


def powers(values: Sequence[float]) -> Scale:
    """Powers of ten around values that are positive."""
    low, high = math.floor(math.log10(min(values)) - 0.05), math.ceil(math.log10(max(values)) + 0.05)
    return Scale(10.0**low, 10.0**high, 10.0, True)


def set_scale(axis: Any, scale: Scale, form: str = "") -> None:
    """Gives an axis its ends, its ticks and their number format."""
    from pptx.oxml import parse_xml
    from pptx.oxml.ns import nsdecls

    axis.minimum_scale, axis.maximum_scale = scale.low, scale.high
    if scale.logarithmic:
        axis._element.find(f"{CHART}scaling").insert(0, parse_xml(f'<c:logBase {nsdecls("c")} val="10"/>'))
    else:
        axis.major_unit = scale.step
    axis.tick_labels.number_format_is_linked = False
    axis.tick_labels.number_format = form or scale.form


def named(text: str, most: int = MOST_LETTERS) -> str:
    """A name as it stands at an axis or in a legend."""
    text = fitting.printable(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def axes(chart: Any, x_title: str, y_title: str) -> None:
    """Both axes: light rules, readable labels, titles where there are any, no chart title."""
    from pptx.enum.chart import XL_TICK_MARK
    from pptx.util import Pt

    chart.has_title = False
    chart.font.size, chart.font.name = Pt(SIZE), FONT
    chart.font.color.rgb = color("muted")
    for axis, title in ((chart.category_axis, x_title), (chart.value_axis, y_title)):
        axis.format.line.color.rgb = color("rule")
        axis.major_tick_mark = axis.minor_tick_mark = XL_TICK_MARK.NONE
        axis.has_title = bool(title)
        if title:
            axis.axis_title.text_frame.text = fitting.printable(title)
            run = axis.axis_title.text_frame.paragraphs[0].runs[0]
            run.font.size, run.font.bold, run.font.name = Pt(SIZE), False, FONT
            run.font.color.rgb = color("muted")
    chart.category_axis.has_major_gridlines = False
    chart.value_axis.has_major_gridlines = True
    chart.value_axis.major_gridlines.format.line.color.rgb = color("rule")
    chart.value_axis.tick_labels.font.size = Pt(SIZE)


def place_plot(chart: Any, share: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Puts the inner plot area at shares (left, top, width, height) of its chart, and returns them."""
    from pptx.oxml import parse_xml
    from pptx.oxml.ns import nsdecls

    area = chart._chartSpace.chart.plotArea
    old = area.find(f"{CHART}layout")
    if old is not None:
        area.remove(old)
    modes = '<c:layoutTarget val="inner"/><c:xMode val="edge"/><c:yMode val="edge"/>'
    ends = "".join(f'<c:{name} val="{value:.4f}"/>' for name, value in zip("xywh", share, strict=True))
    area.insert(0, parse_xml(f"<c:layout {nsdecls('c')}><c:manualLayout>{modes}{ends}</c:manualLayout></c:layout>"))
    return share


def legend(chart: Any, series: int) -> None:
    """A legend at the foot, where there is more than one series."""
    from pptx.enum.chart import XL_LEGEND_POSITION
    from pptx.util import Pt

    chart.has_legend = series > 1
    if chart.has_legend:
        chart.legend.position = XL_LEGEND_POSITION.BOTTOM
        chart.legend.include_in_layout = False
        chart.legend.font.size, chart.legend.font.name = Pt(SIZE), FONT


def leave_out(chart: Any, places: Sequence[int]) -> None:
    """Series that the legend does not name."""
    from pptx.oxml import parse_xml
    from pptx.oxml.ns import nsdecls

    position = chart.legend._element.find(f"{CHART}legendPos")
    for place in reversed(places):
        position.addnext(parse_xml(f'<c:legendEntry {nsdecls("c")}><c:idx val="{place}"/><c:delete val="1"/></c:legendEntry>'))


def style(marker: Any, form: Any, size: int, tone: str) -> None:
    """A marker's form, size and color."""
    marker.style, marker.size = form, size
    marker.format.fill.solid()
    marker.format.fill.fore_color.rgb = color(tone)
    marker.format.line.fill.background()


def emu(box: tuple[float, float, float, float]) -> tuple[Any, ...]:
    """A box in inches as python-pptx wants it."""
    from pptx.util import Inches

    return tuple(map(Inches, box))
