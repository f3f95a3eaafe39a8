"""Moves of a run in its report: numbered marks in every curve, a table that says what and why, and nothing where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_runs import EVIL, Page, make_run

from burnish.report import curves, figures, page
from burnish.report.collect import collect
from burnish.report.moves import MOST_LABELS, marks, table


def moved(folder: Path, steps: list[int], whats: tuple[str, ...] = ("learning rate", "dropout")) -> Path:
    """A finished run that moved at `steps`."""
    run = make_run(folder)
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        for place, step in enumerate(steps):
            for what in whats:
                before, after = (0.05 * place, 0.05 * (place + 1)) if what == "dropout" else (0.5**place, 0.5 ** (place + 1))
                line = {
                    "kind": "move",
                    "step": step,
                    "what": what,
                    "before": before,
                    "after": after,
                    "limit": 0.01,
                    "why": f"{EVIL} {step}",
                }
                stream.write(json.dumps(line) + "\n")
    return run


def test_moves_are_marked_in_the_curves_and_told_in_a_table(tmp_path: Path) -> None:
    record = collect(moved(tmp_path / "run", [26, 52]))
    assert marks(record) == [(26, "1"), (52, "2")]
    found = table(record)
    assert found is not None
    assert [row[:4] for row in found.rows] == [
        ["1", "26", "learning rate", "×1 → ×0.5"],
        ["1", "26", "dropout", "+0 → +0.05"],
        ["2", "52", "learning rate", "×0.5 → ×0.25"],
        ["2", "52", "dropout", "+0.05 → +0.1"],
    ]
    panels = curves.panels(record)
    assert all(panel.moves == [(26, "1"), (52, "2")] for panel in panels)
    assert panels[0].alt.endswith("Something was turned at steps 26, 52.")


def test_the_page_holds_them_and_escapes_what_users_wrote(tmp_path: Path) -> None:
    found = Page(page.write(moved(tmp_path / "run", [26])))
    assert "Moves" in found.text and f"{EVIL} 26" in found.text
    assert "script" not in found.tags and "moves" in found.ids


@pytest.mark.parametrize("steps", [[26], [26, 52, 78]])
def test_a_line_is_drawn_for_each(tmp_path: Path, steps: list[int]) -> None:
    plain, marked = (
        figures.svg(curves.panels(collect(run))[0], 420, 255, "f") for run in (make_run(tmp_path / "plain"), moved(tmp_path / "run", steps))
    )
    assert marked.count("var(--contrast)") - plain.count("var(--contrast)") == 2 * len(steps), "a line and its number each"


def test_many_moves_are_lines_without_numbers(tmp_path: Path) -> None:
    steps = list(range(1, MOST_LABELS + 2))
    assert marks(collect(moved(tmp_path / "run", steps))) == [(step, "") for step in steps]


def test_a_run_without_moves_says_nothing_of_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert table(collect(run)) is None and marks(collect(run)) == []
    found = Page(page.write(run))
    assert "moves" not in found.ids and "turned" not in found.text


def test_a_damaged_line_does_not_cost_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"kind": "move", "step": 3}\n{"kind": "move", "step": null, "what": 4}\n')
    assert "Moves" in Page(page.write(run)).text
