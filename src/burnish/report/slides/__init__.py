"""Slides of a run or of a comparison, and the file of their texts. python-pptx is imported where it draws. No torch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from burnish.core.errors import disk_errors
from burnish.report.collect import collect
from burnish.report.slides import canvas, comparing, texts, training
from burnish.report.versus.reading import is_comparison, read


def write(path: Path, output: Path | None = None) -> Path:
    """Writes `slides.pptx` and, where it is not there, `slides.yaml` into the report of the run or comparison at `path`, or into `output`.

    Texts of an existing slides.yaml are used. Raises RunError where `path` is neither, the YAML is faulty, or the disk refuses.
    """
    folder = output or path / "report"
    outline = comparing.outline(read(path)) if is_comparison(path) else training.outline(collect(path))
    target = folder / "slides.pptx"
    slides = texts.settled(outline, folder / "slides.yaml")
    with disk_errors(f"Writing {target}"):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=".slides-", suffix=".pptx", dir=folder)
        os.close(descriptor)
        try:
            canvas.draw(slides, outline.name, Path(aside))
            os.chmod(aside, 0o644)
            os.replace(aside, target)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    return target


__all__ = ["write"]
