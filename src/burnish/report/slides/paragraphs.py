"""Texts in shapes of a slide: size, color, bullets, and the direction of their script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.report.slides import fitting
from burnish.report.slides.palette import FONT, color


def write(
    shape: Any, texts: Sequence[str], size: float, tone: str = "ink", bold: bool = False, anchor: str = "top", bullets: bool = False
) -> None:
    """Texts as the paragraphs of a shape, of one size; those that begin in a right-to-left script run so."""
    from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
    from pptx.util import Pt

    frame = shape.text_frame
    frame.word_wrap = True
    frame.vertical_anchor = {"top": MSO_ANCHOR.TOP, "middle": MSO_ANCHOR.MIDDLE, "bottom": MSO_ANCHOR.BOTTOM}[anchor]
    for place, text in enumerate(texts):
        paragraph = frame.paragraphs[0] if place == 0 else frame.add_paragraph()
        run = paragraph.add_run()
        run.text = text
        run.font.size, run.font.bold, run.font.name = Pt(size), bold, FONT
        run.font.color.rgb = color(tone)
        paragraph.space_after = Pt(0.5 * size if len(texts) > 1 else 0)
        paragraph.space_before = Pt(0)
        backwards = fitting.right_to_left(text)
        paragraph.alignment = PP_ALIGN.RIGHT if backwards else PP_ALIGN.LEFT
        properties = paragraph._p.get_or_add_pPr()
        if backwards:
            properties.set("rtl", "1")
        mark(properties, bullets, size)


def mark(properties: Any, bullet: bool, size: float) -> None:
    """A bullet before a paragraph, or none."""
    from pptx.oxml import parse_xml
    from pptx.oxml.ns import nsdecls

    indent = int(size * 0.9 * 12700) if bullet else 0
    properties.set("marL", str(indent))
    properties.set("indent", str(-indent))
    properties.append(parse_xml(f'<a:buChar {nsdecls("a")} char="•"/>' if bullet else f"<a:buNone {nsdecls('a')}/>"))
