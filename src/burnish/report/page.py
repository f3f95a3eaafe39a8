"""The report of a run: one HTML file that needs nothing else, to be mailed, printed, or read on a phone.

Texts and labels come from users' data. The template escapes everything; only the figures, which `figures` escapes itself,
and the style sheet are passed as markup.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from burnish.core.errors import disk_errors
from burnish.core.rundir import RunFolder, write_text
from burnish.report import contents, figures, foretold, moves, uncertainty, wording
from burnish.report.collect import Record, collect, mapping, sequence
from burnish.report.comparison import Comparison, comparison, without_shown
from burnish.report.curves import panels
from burnish.report.figures import Panel
from burnish.report.gradients import gradient_map
from burnish.report.sections import view
from burnish.report.templates import resource, template, writable
from burnish.report.weights import movement_map, movement_table, rank_map, spectrum_panel

NARROW = (420, 255)
WIDE = (900, 310)
"""Width and height of a figure in CSS pixels: for one of two columns or a phone, and for the whole width."""


def write(path: Path, output: Path | None = None) -> Path:
    """Writes `RUN/report/index.html` (or `OUTPUT/index.html`) from whatever the run at `path` holds by now, and returns its path.

    Raises RunError where `path` is no run, or the disk refuses.
    """
    folder = RunFolder.open(path)
    target = folder.report if output is None else output / folder.report.name
    page = render(collect(path))
    with disk_errors(f"Writing {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, page)
    return target


def render(record: Record) -> str:
    """The page as text."""
    compared = comparison(record)
    page = template("page.html.jinja").render(
        run=record,
        style=Markup(resource("page.css")),
        headline=contents.headline(record),
        sentence=contents.sentence(record),
        uncertainty=uncertainty.told(record),
        warnings=[*sequence(record.data.get("warnings")), *record.problems],
        figures=[drawn(panel, f"f{order}", first=order == 0) for order, panel in enumerate(panels(record))],
        moves=moves.table(record),
        weights=weights_view(record),
        comparison=compared,
        results=[result_view(result, compared) for result in record.results],
        facts=contents.facts(record),
        foretold=foretold.table(record),
        notes=sequence(record.plan.get("notes")),
        parameters=contents.all_parameters(record.plan),
        roles=contents.roles(record.plan),
        parts=mapping(record.data.get("parts")),
        labels=contents.label_counts(record.data),
        machine=contents.machine(record.environment),
        command=wording.command_line(record.environment.get("command")),
    )
    return writable(page)


def drawn(panel: Panel, prefix: str, first: bool) -> dict[str, Any]:
    """A panel with its figure. The first is drawn twice, wide and narrow; the style sheet shows the one that fits the screen."""
    wide = Markup(figures.svg(panel, *WIDE, f"{prefix}w")) if first else None
    return {"panel": panel, "narrow": Markup(figures.svg(panel, *NARROW, prefix)), "wide": wide}


def weights_view(record: Record) -> dict[str, Any] | None:
    """How the weights moved and what moved them, for the template; None where nothing of it is known."""
    spectrum, map_ = spectrum_panel(record), gradient_map(record)
    found = {
        "movement": movement_map(record),
        "norms": movement_table(record),
        "ranks": rank_map(record),
        "spectrum": drawn(spectrum, "spectrum", first=True) if spectrum else None,
        "gradients": {**asdict(map_), "wide": Markup(map_.wide), "narrow": Markup(map_.narrow)} if map_ else None,
    }
    return found if any(found.values()) else None


def result_view(result: dict[str, Any], compared: Comparison | None) -> dict[str, Any]:
    """One evaluation for the template: its part, what it was measured on, metrics, views of its sections."""
    return {
        "part": wording.part_name(result.get("part")),
        "origin": contents.origin(result, final=True),
        "seconds": result.get("seconds"),
        "metrics": result["metrics"],
        "views": [view(section) for section in without_shown(result, compared)],
    }
