"""Figures as files of their own: SVG that any browser or word processor opens."""

from __future__ import annotations

from pathlib import Path

from burnish.core.errors import disk_errors
from burnish.core.rundir import write_text
from burnish.report import figures

SIZE = (900, 360)
COLORS = "--accent:#1c6f64;--contrast:#bf5b1c;--muted:#626b68;--rule:#e1ded6"


def write_picture(panel: figures.Panel, path: Path) -> None:
    """Writes a panel as an SVG file. Raises RunError where the disk refuses."""
    width, height = SIZE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" style="{COLORS};font-family:sans-serif" '
    drawn = figures.svg(panel, width, height, "p").replace("<svg ", head, 1)
    with disk_errors(f"Writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, drawn)
