"""Native tables: split over pages where they are long, in the largest font at which they stand, cells cut where nothing else helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from burnish.report.slides import fitting
from burnish.report.slides.outline import Grid
from burnish.report.slides.palette import COLORS, color
from burnish.report.slides.paragraphs import write

SIZES = (20, 18, 16, 14)
"""Font sizes in points. What does not stand on a slide at the smallest goes on to another: smaller cannot be read from the back."""
SPLIT = 16
"""The size of a table that needs several slides."""
PADDING = 0.14
"""Inches left and right of a cell's text; above and below it is a third of that."""
MOST_LINES = 4
"""Of one cell."""
BESIDE = 2 * PADDING + 0.06
"""Inches of a column that are not text."""
SHORT = 1.8
"""Texts shorter than this many inches are not broken into lines."""
LONG_WORD = 2.2
"""Inches of a column from which on a word that is longer still is broken within itself."""
NARROWEST = 0.8
"""Inches of a column of texts between columns of numbers that take all the room."""


def pages(grid: Grid, across: float, down: float) -> list[Grid]:
    """The table in parts that each stand in `across` by `down` inches, the rows spread evenly; the first rows where it is not to be whole."""
    smallest = row_heights(grid, SIZES[-1], across)
    if sum(smallest) <= down:
        return [grid]
    if not grid.whole:
        kept = next((count for count in range(len(grid.rows), 1, -1) if sum(smallest[: 1 + count]) <= down), 1)
        return [part(grid, 0, kept)]
    head, *heights = row_heights(grid, SPLIT, across)
    parts = next((count for count in range(2, len(heights) + 1) if stands(heights, head, down, count)), len(heights))
    bounds = [round(place * len(heights) / parts) for place in range(parts + 1)]
    return [part(grid, first, last) for first, last in pairwise(bounds)]


def stands(heights: Sequence[float], head: float, down: float, parts: int) -> bool:
    """Whether rows of these heights, spread evenly over so many parts, stand in each of them below the head."""
    bounds = [round(place * len(heights) / parts) for place in range(parts + 1)]
    return all(head + sum(heights[first:last]) <= down for first, last in pairwise(bounds))


def part(grid: Grid, first: int, last: int) -> Grid:
    """Rows `first` to `last` of a table, its marks with them."""

    def moved(marks: Any) -> Any:
        return {(row - first, column): mark for (row, column), mark in marks.items() if first <= row < last}

    strong = frozenset(row - first for row in grid.strong if first <= row < last)
    return replace(grid, rows=grid.rows[first:last], strong=strong, tones=moved(grid.tones), shades=moved(grid.shades))


def column_widths(grid: Grid, size: float, across: float) -> list[float]:
    """Inches of each column: what its longest text needs; where that is more than there is, texts are broken into lines, at words as far
    as they go, and numbers never."""
    if grid.widths:
        return [across * share / sum(grid.widths) for share in grid.widths]
    places = range(len(grid.columns))
    body = [max((fitting.width(str(row[place]), size) for row in grid.rows), default=0.0) + BESIDE for place in places]
    wanted = [max(body[place], fitting.width(grid.columns[place], size) + BESIDE) for place in places]
    if sum(wanted) <= across:
        spare = min(across - sum(wanted), 0.5 * across) / len(wanted)
        return [width + spare for width in wanted]
    least = [least_width(grid, place, size, body[place]) for place in places]
    if sum(least) < across:
        share = (across - sum(least)) / (sum(wanted) - sum(least))
        return [low + share * (want - low) for low, want in zip(least, wanted, strict=True)]
    firm = [body[place] if place in grid.numbers else NARROWEST for place in places]
    if sum(firm) >= across:  # nothing stands as it should: a table of so many columns is none for a slide
        return [across * width / sum(firm) for width in firm]
    share = (across - sum(firm)) / (sum(least) - sum(firm))
    return [low + share * (want - low) for low, want in zip(firm, least, strict=True)]


def least_width(grid: Grid, place: int, size: float, body: float) -> float:
    """Inches below which a column is not shrunk as long as others can be: its numbers, short texts and words of a usual length stay whole."""
    head = min(longest_word([grid.columns], place, size), LONG_WORD)
    if place in grid.numbers:
        return max(body, head)
    return max(min(body, max(SHORT, min(longest_word(grid.rows, place, size), LONG_WORD))), head)


def longest_word(cells: Sequence[Sequence[str]], place: int, size: float) -> float:
    """Inches of a column in which no word is broken."""
    words = [word for row in cells for word in fitting.pieces(str(row[place]))]
    return max((fitting.width(word, size) for word in words), default=0.0) + BESIDE


def row_heights(grid: Grid, size: float, across: float) -> list[float]:
    """Inches of the head and of each row."""
    widths = column_widths(grid, size, across)
    return [row_height(row, size, widths) for row in (grid.columns, *grid.rows)]


def row_height(row: Sequence[str], size: float, widths: Sequence[float]) -> float:
    most = max(min(MOST_LINES, fitting.lines(str(text), size, room(width))) for text, width in zip(row, widths, strict=True))
    return most * size * fitting.LINE / fitting.POINTS + PADDING


def room(width: float) -> float:
    """Inches of a cell in which text stands."""
    return max(0.2, width - 2 * PADDING - 0.03)


def draw_grid(page: Any, grid: Grid, box: tuple[float, float, float, float]) -> None:
    """A native table in left, top, width and height."""
    from pptx.util import Inches

    left, top, across, down = box
    size = next((size for size in SIZES if sum(row_heights(grid, size, across)) <= down), SIZES[-1])
    widths, heights = column_widths(grid, size, across), row_heights(grid, size, across)
    shape = page.shapes.add_table(len(grid.rows) + 1, len(grid.columns), *map(Inches, (left, top, sum(widths), sum(heights))))
    plain_style(shape)
    table = shape.table
    for place, width in enumerate(widths):
        table.columns[place].width = Inches(width)
    for place, height in enumerate(heights):
        table.rows[place].height = Inches(height)
    for place, row in enumerate((grid.columns, *grid.rows)):
        for column, text in enumerate(row):
            fill_cell(
                table.cell(place, column),
                grid,
                (place - 1, column),
                fitting.clipped(fitting.printable(str(text)), size, room(widths[column]), MOST_LINES),
                size,
            )


def fill_cell(cell: Any, grid: Grid, place: tuple[int, int], text: str, size: float) -> None:
    """A cell's text, its side, its color."""
    from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
    from pptx.util import Inches

    row, column = place
    head = row < 0
    cell.margin_left = cell.margin_right = Inches(PADDING)
    cell.margin_top = cell.margin_bottom = Inches(PADDING / 3)
    write(cell, [text], size, tone="muted" if head else grid.tones.get(place, "ink"), bold=row in grid.strong or place in grid.tones)
    cell.vertical_anchor = MSO_ANCHOR.MIDDLE
    cell.text_frame.paragraphs[0].alignment = PP_ALIGN.RIGHT if column in grid.numbers else PP_ALIGN.LEFT
    shade = grid.shades.get(place, 0.0)
    if shade:
        cell.fill.solid()
        cell.fill.fore_color.rgb = color("accent")
        cell.fill.fore_color.brightness = 0.92 - 0.5 * shade
    else:
        cell.fill.background()
    rule(cell, "muted" if head else "rule")


def rule(cell: Any, tone: str) -> None:
    """A line below a cell, and no other."""
    from pptx.oxml import parse_xml
    from pptx.oxml.ns import nsdecls

    properties = cell._tc.get_or_add_tcPr()
    line = f'<a:lnB {nsdecls("a")} w="9525"><a:solidFill><a:srgbClr val="{COLORS[tone]}"/></a:solidFill></a:lnB>'
    properties.insert(0, parse_xml(line))


def plain_style(shape: Any) -> None:
    """No bands and no theme colors: `No Style, No Grid`."""
    style = shape._element.graphic.graphicData.tbl[0].find("{http://schemas.openxmlformats.org/drawingml/2006/main}tableStyleId")
    style.text = "{2D5ABB26-0587-4C30-8999-92F81FD0307C}"
    shape.table.horz_banding = False
