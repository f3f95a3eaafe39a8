"""Colors and font of the slides, those of the page on paper."""

from __future__ import annotations

from typing import Any

COLORS = {
    "ink": "1D2322", "muted": "5A6360", "rule": "D9D6CE", "paper": "FDFCFA", "card": "F1EEE7", "accent": "1C6F64", "contrast": "B3541A",
    "blue": "3563A8", "rose": "B23A63", "olive": "7A7A1F", "violet": "7A4FA3", "gray": "9AA3A0",
}  # fmt: skip
SERIES = ("accent", "contrast", "blue", "rose", "olive", "violet")
FONT = "Arial"


def color(name: str) -> Any:
    """A color by its name, as python-pptx wants it."""
    from pptx.dml.color import RGBColor

    return RGBColor.from_string(COLORS[name])
