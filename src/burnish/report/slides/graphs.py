"""Native charts, whose numbers can be edited in the slides: dots with intervals, named points, curves, bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.report.slides import fitting
from burnish.report.slides.outline import Bars, Cloud, Curves, Exhibit, Spots
from burnish.report.slides.palette import FONT, SERIES, color
from burnish.report.slides.paragraphs import write
from burnish.report.slides.places import label_sides
from burnish.report.slides.scales import (
    FOOT,
    LABEL,
    SIZE,
    Scale,
    axes,
    emu,
    leave_out,
    legend,
    linear,
    named,
    place_plot,
    powers,
    set_scale,
    style,
)


def draw(page: Any, exhibit: Exhibit, box: tuple[float, float, float, float]) -> None:
    """A chart in left, top, width and height."""
    if isinstance(exhibit, Spots):
        spots(page, exhibit, box)
    elif isinstance(exhibit, Cloud):
        cloud(page, exhibit, box)
    elif isinstance(exhibit, Curves):
        curves(page, exhibit, box)
    elif isinstance(exhibit, Bars):
        bars(page, exhibit, box)


def spots(page: Any, exhibit: Spots, box: tuple[float, float, float, float]) -> None:
    """A row for each category, its name on the left: the mean with its interval, every run as a dot. The first row is on top.

    A scatter chart whose plot area is placed by hand, so that the names, which are texts of their own, stand beside their rows. An
    interval is a series of two joined points: custom error bars are not drawn by every program.
    """
    from pptx.chart.data import XyChartData
    from pptx.enum.chart import XL_CHART_TYPE, XL_TICK_LABEL_POSITION

    left, top, across, down = box
    rows, names = len(exhibit.categories), min(0.34 * across, max(fitting.width(named(name), SIZE) for name in exhibit.categories) + 0.3)
    heights = [rows - 0.5 - place for place in range(rows)]
    data = XyChartData(number_format="General")
    ends = [
        (place, low, high) for place, (low, high) in enumerate(zip(exhibit.lows, exhibit.highs, strict=True)) if None not in (low, high)
    ]
    for place, low, high in ends:
        add_points(data, f"interval: {named(exhibit.categories[place])}", [(low, heights[place]), (high, heights[place])], max(rows, 2))
    for name, values in (*exhibit.singles, ("mean", exhibit.means)):
        add_points(data, name, list(zip(values, heights, strict=True)), max(rows, 2))
    frame = (left + names, top, across - names, down)
    chart = page.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER_LINES, *emu(frame), data).chart
    mark_spots(chart.plots[0].series, exhibit, [place for place, _, _ in ends])
    axes(chart, exhibit.axis, "")
    shown = [*exhibit.means, *exhibit.lows, *exhibit.highs, *(value for _, values in exhibit.singles for value in values)]
    set_scale(chart.category_axis, linear([value for value in shown if value is not None] + [0.0] * exhibit.zero))
    set_scale(chart.value_axis, Scale(0, rows, 1))
    chart.category_axis.has_major_gridlines, chart.value_axis.has_major_gridlines = True, False
    chart.category_axis.major_gridlines.format.line.color.rgb = color("rule")
    chart.value_axis.tick_label_position = XL_TICK_LABEL_POSITION.NONE
    chart.category_axis.tick_label_position = XL_TICK_LABEL_POSITION.LOW
    chart.has_legend = False
    if exhibit.zero:
        chart.value_axis.format.line.color.rgb = color("ink")
    plot = place_plot(chart, (0.02, 0.02, 0.95, 1 - FOOT / down))
    for name, height in zip(exhibit.categories, heights, strict=True):
        middle = top + down * (plot[1] + plot[3] * (1 - height / rows))
        write_name(page, named(name), (left, middle - 0.22, names - 0.05, 0.44))


def add_points(data: Any, name: str, points: Sequence[tuple[float | None, float]], count: int) -> None:
    """A series of those points that are known, the last of them again until they are `count`: LibreOffice draws no line of a series that
    is shorter than another."""
    series = data.add_series(name)
    known = [(x, y) for x, y in points if x is not None]
    for x, y in [*known, *known[-1:] * (count - len(known))]:
        series.add_data_point(x, y)


def mark_spots(series: Any, exhibit: Spots, intervals: Sequence[int]) -> None:
    """How each series looks: first the intervals (of the categories at these places), then single runs, then the means."""
    from pptx.enum.chart import XL_MARKER_STYLE
    from pptx.util import Pt

    tones = exhibit.tones or ["ink"] * len(exhibit.categories)
    for place, one in enumerate(series):
        if place < len(intervals):
            one.smooth = False
            one.format.line.color.rgb, one.format.line.width = color(tones[intervals[place]]), Pt(2.5)
            one.marker.style = XL_MARKER_STYLE.NONE
            continue
        one.format.line.fill.background()
        mean = place == len(series) - 1
        style(one.marker, XL_MARKER_STYLE.DIAMOND if mean else XL_MARKER_STYLE.CIRCLE, 12 if mean else 9, "ink" if mean else "accent")
    known = [place for place, mean in enumerate(exhibit.means) if mean is not None]
    for at, place in enumerate(known if exhibit.tones else []):
        style(series[-1].points[at].marker, XL_MARKER_STYLE.CIRCLE, 13, tones[place])


def write_name(page: Any, name: str, box: tuple[float, float, float, float]) -> None:
    """The name of a row, set against its row."""
    from pptx.enum.text import PP_ALIGN

    shape = page.shapes.add_textbox(*emu(box))
    write(shape, [fitting.clipped(name, SIZE, box[2] - 0.25, 1)], SIZE, anchor="middle")
    shape.text_frame.paragraphs[0].alignment = PP_ALIGN.RIGHT


def cloud(page: Any, exhibit: Cloud, box: tuple[float, float, float, float]) -> None:
    """Points with their names beside them and their intervals through them, a series each."""
    from pptx.chart.data import XyChartData
    from pptx.enum.chart import XL_CHART_TYPE, XL_MARKER_STYLE
    from pptx.util import Pt

    data = XyChartData(number_format="General")
    names = [named(name, LABEL) for name, _, _, _ in exhibit.points]
    for name, (_, x, y, _), ends in zip(names, exhibit.points, exhibit.ends, strict=True):
        add_points(data, f"interval: {name}", [(x, end) for end in ends or (y, y)], 2)
    for name, (_, x, y, _) in zip(names, exhibit.points, strict=True):
        add_points(data, name, [(x, y)], 2)
    chart = page.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER_LINES, *emu(box), data).chart
    axes(chart, exhibit.x_axis, exhibit.y_axis)
    xs = [x for _, x, _, _ in exhibit.points]
    across = powers(xs) if exhibit.logarithmic else linear(xs)
    up = linear([*(y for _, _, y, _ in exhibit.points), *(end for ends in exhibit.ends if ends for end in ends)])
    set_scale(chart.category_axis, across, exhibit.form if across.logarithmic or across.step >= 1 else "")
    set_scale(chart.value_axis, up)
    _, _, wide, high = place_plot(chart, (0.09, 0.03, 0.88, 1 - FOOT / box[3]))
    room = (wide * box[2], high * box[3])
    spots_at = [(across.share(x) * room[0], up.share(y) * room[1], tone != "gray") for _, x, y, tone in exhibit.points]
    sides = label_sides(spots_at, [fitting.width(name, SIZE) for name in names], room)
    series = list(chart.plots[0].series)
    for bar, dot, (_, _, _, tone), side in zip(series[: len(names)], series[len(names) :], exhibit.points, sides, strict=True):
        bar.smooth = False
        bar.format.line.color.rgb, bar.format.line.width = color(tone), Pt(1.5)
        bar.marker.style = XL_MARKER_STYLE.NONE
        dot.format.line.fill.background()
        style(dot.marker, XL_MARKER_STYLE.CIRCLE, 12, tone)
        if side:
            add_label(dot.points[0].data_label, dot.name, side, "ink" if tone != "gray" else "muted")
    chart.has_legend = False


def add_label(label: Any, text: str, side: str, tone: str) -> None:
    """A native label on one side of its point, on one line."""
    from pptx.enum.chart import XL_LABEL_POSITION
    from pptx.util import Pt

    position = {"r": XL_LABEL_POSITION.RIGHT, "l": XL_LABEL_POSITION.LEFT, "t": XL_LABEL_POSITION.ABOVE, "b": XL_LABEL_POSITION.BELOW}
    label.position = position[side]
    frame = label.text_frame
    frame.word_wrap = False
    run = frame.paragraphs[0].add_run()
    run.text = text
    run.font.size, run.font.name = Pt(SIZE), FONT
    run.font.color.rgb = color(tone)


def curves(page: Any, exhibit: Curves, box: tuple[float, float, float, float]) -> None:
    """Lines over steps, with a legend at the foot."""
    from pptx.chart.data import XyChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Pt

    data = XyChartData(number_format="General")
    most = max(len(points) for _, points, _ in exhibit.lines)
    for name, points, _ in exhibit.lines:
        add_points(data, named(name), points, most)
    chart = page.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER_LINES_NO_MARKERS, *emu(box), data).chart
    for series, (_, _, tone) in zip(chart.plots[0].series, exhibit.lines, strict=True):
        series.smooth = False
        series.format.line.color.rgb = color(tone)
        series.format.line.width = Pt(1.25 if tone == "gray" else 2.75)
    axes(chart, exhibit.x_axis, exhibit.y_axis)
    set_scale(chart.value_axis, linear([y for _, points, _ in exhibit.lines for _, y in points]))
    set_scale(chart.category_axis, linear([x for _, points, _ in exhibit.lines for x, _ in points], spare=0, least=1))
    legend(chart, len(exhibit.lines))
    if chart.has_legend:
        leave_out(chart, [place for place, (_, _, tone) in enumerate(exhibit.lines) if tone == "gray" and len(exhibit.lines) > len(SERIES)])


def bars(page: Any, exhibit: Bars, box: tuple[float, float, float, float]) -> None:
    """Horizontal bars from zero, the first category on top."""
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE

    data = CategoryChartData(number_format="General")
    data.categories = list(map(named, reversed(exhibit.categories)))  # the first category of a bar chart lies lowest
    for name, values in exhibit.series:
        data.add_series(named(name), list(reversed(values)))
    chart = page.shapes.add_chart(XL_CHART_TYPE.BAR_CLUSTERED, *emu(box), data).chart
    for series, tone in zip(chart.plots[0].series, SERIES, strict=False):
        series.format.fill.solid()
        series.format.fill.fore_color.rgb = color(tone)
    chart.plots[0].gap_width, chart.plots[0].overlap = 55, -5
    axes(chart, "", exhibit.axis)
    chart.value_axis.minimum_scale = 0
    legend(chart, len(exhibit.series))
