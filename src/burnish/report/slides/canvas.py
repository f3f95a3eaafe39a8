"""Slides drawn with python-pptx: a sober 16:9 page with a title, texts, and a native table or chart below them. Inches throughout.

Titles and texts stand in the placeholders of the layout, so that PowerPoint's outline holds them and a theme can restyle them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from burnish.report.slides import fitting, graphs
from burnish.report.slides.outline import Grid, Slide
from burnish.report.slides.palette import color
from burnish.report.slides.paragraphs import write
from burnish.report.slides.tables import draw_grid, pages

WIDTH, HEIGHT = 13.333, 7.5
EDGE, TOP, FOOT = 0.7, 1.62, 0.55
INNER = WIDTH - 2 * EDGE
BODY = HEIGHT - FOOT - TOP
TEXT_SIZES = (26, 24, 22, 20, 18, 16)
LEAD_SIZES = (22, 20, 18, 16)
LEAD_ROOM = 1.35
"""Inches at most for the texts above a table or chart."""
INSET = 0.1
"""Inches by which tables and charts stand in, so that they begin where the texts do."""
SECTIONS_URI = "{521415D9-36F7-43E2-AB2F-B90AF26B5E84}"
P14 = "http://schemas.microsoft.com/office/powerpoint/2010/main"


def draw(slides: Sequence[Slide], name: str, path: Path) -> None:
    """Writes the slides as a .pptx file. `name` stands at the foot of each."""
    deck = empty_deck()
    deck.core_properties.title = fitting.printable(name)
    deck.core_properties.author = "Burnish"
    made: list[tuple[str, int]] = []
    for place, slide in enumerate(slides):
        for page in (opening(deck, slide),) if place == 0 else content_pages(deck, slide, name):
            made.append((slide.section, page.slide_id))
    enter_sections(deck, made)
    deck.save(str(path))


def empty_deck() -> Any:
    """An empty 16:9 deck with two layouts: a title with texts, and a title alone."""
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    deck.slide_width, deck.slide_height = Inches(WIDTH), Inches(HEIGHT)
    for place, layout in reversed(list(enumerate(deck.slide_layouts))):
        if place not in (1, 5):
            deck.slide_layouts.remove(layout)
    for layout in deck.slide_layouts:
        layout.background.fill.solid()
        layout.background.fill.fore_color.rgb = color("paper")
        for shape in list(layout.placeholders):
            if shape.placeholder_format.idx == 0:
                put(shape, (EDGE, 0.66, INNER, 0.85))
            elif shape.placeholder_format.idx == 1:
                put(shape, (EDGE, TOP, INNER, BODY))
            else:
                shape._element.getparent().remove(shape._element)
    return deck


def opening(deck: Any, slide: Slide) -> Any:
    """The first slide: the title large, its texts below."""
    page = deck.slides.add_slide(deck.slide_layouts[0])
    size, title = fitting.fitted([fitting.printable(slide.title)], (48, 40, 34, 28, 24), (INNER - 1, 2.1))
    put(page.shapes.title, (EDGE, 1.3, INNER, 2.3))
    write(page.shapes.title, title, size, bold=True, anchor="bottom")
    bar(page, (EDGE + 0.1, 3.85, 1.4, 0.07))
    texts = list(map(fitting.printable, slide.text))
    size, texts = fitting.fitted(texts or [""], (24, 22, 20, 18, 16), (INNER - 0.5, 2.6))
    put(page.placeholders[1], (EDGE, 4.1, INNER, 2.8))
    write(page.placeholders[1], texts, size, tone="muted")
    add_notes(page, slide.notes)
    return page


def content_pages(deck: Any, slide: Slide, name: str) -> list[Any]:
    """The pages of a slide: one, or as many as its table needs."""
    if not isinstance(slide.exhibit, Grid):
        return [content_page(deck, slide, name, slide.exhibit, "")]
    room = BODY - lead_height(slide)
    parts = pages(slide.exhibit, INNER - 2 * INSET, room)
    count = len(parts)
    return [
        content_page(deck, slide, name, part, f" ({number} of {count})" if count > 1 else "") for number, part in enumerate(parts, start=1)
    ]


def content_page(deck: Any, slide: Slide, name: str, exhibit: Any, suffix: str) -> Any:
    """One page: where it belongs, its title, its texts, and what is shown."""
    texts = list(map(fitting.printable, slide.text))
    page = deck.slides.add_slide(deck.slide_layouts[0 if texts else 1])
    label(page, slide.section.upper(), (EDGE, 0.36, INNER, 0.35), "accent", bold=True)
    size, title = fitting.fitted([fitting.printable(slide.title) + suffix], (32, 28, 24, 20), (INNER - 0.2, 0.85), gap=0)
    write(page.shapes.title, title, size, bold=True, anchor="middle")
    down = lead_height(slide) if exhibit is not None else BODY
    if texts:
        sizes = LEAD_SIZES if exhibit is not None else TEXT_SIZES
        size, shown = fitting.fitted(texts, sizes, (INNER - 0.55, down - 0.1))
        put(page.placeholders[1], (EDGE, TOP, INNER, down))
        write(page.placeholders[1], shown, size, bullets=exhibit is None or len(shown) > 1)
    if exhibit is not None:
        box = (EDGE + INSET, TOP + down, INNER - 2 * INSET, BODY - down)
        draw_grid(page, exhibit, box) if isinstance(exhibit, Grid) else graphs.draw(page, exhibit, box)
    foot(page, name)
    add_notes(page, slide.notes)
    return page


def lead_height(slide: Slide) -> float:
    """Inches that the texts above a table or chart take."""
    if not slide.text:
        return 0.0
    texts = list(map(fitting.printable, slide.text))
    size, shown = fitting.fitted(texts, LEAD_SIZES, (INNER - 0.55, LEAD_ROOM))
    return min(LEAD_ROOM, fitting.height(shown, size, INNER - 0.55, 0.5)) + 0.15


def foot(page: Any, name: str) -> None:
    """The deck's name, and the page's number as a field."""
    from pptx.enum.text import PP_ALIGN
    from pptx.oxml import parse_xml
    from pptx.oxml.ns import nsdecls

    label(page, fitting.clipped(fitting.printable(name), 12, 10, 1), (EDGE, HEIGHT - 0.48, 11, 0.3), "muted")
    box = label(page, "", (WIDTH - EDGE - 1, HEIGHT - 0.48, 1, 0.3), "muted")
    paragraph = box.text_frame.paragraphs[0]
    paragraph.alignment = PP_ALIGN.RIGHT
    fld = f'<a:fld {nsdecls("a")} id="{{B6F15528-21DE-4FAA-801E-634DDDAF4B2B}}" type="slidenum"><a:rPr sz="1200"/><a:t>‹#›</a:t></a:fld>'
    for run in list(paragraph._p):
        if run.tag.endswith("}r"):
            paragraph._p.remove(run)
    paragraph._p.append(parse_xml(fld))


def label(page: Any, text: str, box: tuple[float, float, float, float], tone: str, bold: bool = False) -> Any:
    """A small text outside of the placeholders."""
    from pptx.util import Inches

    shape = page.shapes.add_textbox(*map(Inches, box))
    write(shape, [text], 12 if not bold else 14, tone=tone, bold=bold)
    return shape


def bar(page: Any, box: tuple[float, float, float, float]) -> None:
    """A short rule in the accent color."""
    from pptx.enum.shapes import MSO_SHAPE
    from pptx.util import Inches

    shape = page.shapes.add_shape(MSO_SHAPE.RECTANGLE, *map(Inches, box))
    shape.fill.solid()
    shape.fill.fore_color.rgb = color("accent")
    shape.line.fill.background()


def put(shape: Any, box: tuple[float, float, float, float]) -> None:
    """Moves a shape to left, top, width and height."""
    from pptx.util import Inches

    shape.left, shape.top, shape.width, shape.height = map(Inches, box)


def add_notes(page: Any, notes: Sequence[str]) -> None:
    """What the speaker sees: commands, and where the numbers come from."""
    if notes:
        page.notes_slide.notes_text_frame.text = "\n".join(map(fitting.printable, notes))


def enter_sections(deck: Any, made: Sequence[tuple[str, int]]) -> None:
    """The sections that PowerPoint shows beside the slides."""
    from pptx.oxml import parse_xml
    from pptx.oxml.ns import nsdecls

    sections = []
    for place, (name, group) in enumerate(groupby(made, key=lambda entry: entry[0])):
        ids = "".join(f'<p14:sldId id="{slide_id}"/>' for _, slide_id in group)
        guid = f"{{0B0B0B0B-0000-4000-8000-{place:012d}}}"
        sections.append(f'<p14:section name="{name}" id="{guid}"><p14:sldIdLst>{ids}</p14:sldIdLst></p14:section>')
    listed = f'<p14:sectionLst xmlns:p14="{P14}">{"".join(sections)}</p14:sectionLst>'
    root = deck.part._element
    existing = root.find("{http://schemas.openxmlformats.org/presentationml/2006/main}extLst")
    if existing is not None:
        root.remove(existing)
    root.append(parse_xml(f'<p:extLst {nsdecls("p")}><p:ext uri="{SECTIONS_URI}">{listed}</p:ext></p:extLst>'))
