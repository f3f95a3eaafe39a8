"""What was foretold beside what was measured, in the report; nothing where nothing was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from made_runs import make_run

from burnish.report import page
from burnish.report.collect import collect
from burnish.report.foretold import table

FOUND = {
    "seconds": {
        "steps": {"predicted": 90.0, "measured": 100.0, "ratio": 0.9},
        "loading": {"predicted": 2.0, "measured": 2.0, "ratio": 1.0},
    },
    "total": {"predicted": 92.0, "measured": 102.0, "ratio": 92 / 102},
    "memory": {"predicted": 900e6, "measured": 1000e6, "ratio": 0.9},
}


def run_with(folder: Path, forecast: Any) -> Path:
    run = make_run(folder)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "forecast": forecast}))
    return run


def test_parts_stand_in_order_with_the_whole_and_memory_below(tmp_path: Path) -> None:
    found = table(collect(run_with(tmp_path / "run", FOUND)))
    assert found is not None
    assert [row[0] for row in found.rows] == ["loading", "steps", "all of these", "peak memory"]
    assert found.rows[1][1:] == ["1 min 30 s", "1 min 40 s", "0.90"]
    assert found.rows[3][1:] == ["858 MiB", "954 MiB", "0.90"]


def test_the_page_shows_it_and_leaves_it_out_where_nothing_was_foretold(tmp_path: Path) -> None:
    assert "Foretold and measured" in page.write(run_with(tmp_path / "told", FOUND)).read_text()
    for number, nothing in enumerate((None, {}, {"seconds": 3}, "odd")):
        assert "Foretold and measured" not in page.write(run_with(tmp_path / f"run-{number}", nothing)).read_text()
