"""The maps of movement, effective rank and gradients: their numbers, their extremes, and that nothing odd breaks the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_runs import EVIL, Page, make_run

from burnish.report.collect import collect
from burnish.report.gradients import MOST_CELLS, gradient_map, norms
from burnish.report.page import write
from burnish.report.weights import movement_map, movement_table, rank_map, spectrum_panel


def cell(place: str, role: str, change: float, before: float | None, **more: Any) -> dict[str, Any]:
    share = change / before if before else 0.0 if change == 0 else None
    return {"place": place, "role": role, "parameters": 10, "learning": 10, "before": before, "change": change, "relative": share, **more}


def update(block: int, layer: str, values: list[float], rank: float) -> dict[str, Any]:
    module = f"bert.encoder.layer.{block}.attention.{layer}"
    return {"module": module, "place": f"block {block + 1}", "rank": len(values), "values": values, "effective_rank": rank}


def run_with(tmp_path: Path, movement: Any, blocks: int = 2, steps: int = 40) -> Path:
    folder = tmp_path / "run"
    make_run(folder)
    (folder / "movement.json").write_text(json.dumps(movement))
    plan = json.loads((folder / "plan.json").read_text())
    plan["gradient_places"] = ["embeddings", *(f"block {number + 1}" for number in range(blocks)), "head"]
    (folder / "plan.json").write_text(json.dumps(plan))
    lines = [
        {"kind": "step", "step": step, "loss": 1.0, "block_norms": [0.0 if step < 5 else 0.1, *(step + n for n in range(blocks)), 100.0]}
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


CELLS = [
    cell("embeddings", "tokens", 3.0, 30.0),
    cell("embeddings", "positions", 4.0, 40.0),
    cell("embeddings", "norms", 0.0, None),
    cell("block 1", "attention", 0.5, 50.0),
    cell("block 1", "added by the method", 2.0, 0.0),
    cell("head", "final norm", 0.1, 10.0),
    cell("head", EVIL, 5.0, 10.0),
]


def test_norms_before_and_after_stand_below_the_map(tmp_path: Path) -> None:
    moved = cell("block 1", "attention", 3.0, 30.0, after=31.5)
    still = cell("block 2", "attention", 0.0, None) | {"learning": 0}
    folder = run_with(tmp_path, {"cells": [moved, still, cell("block 1", "added by the method", 2.0, 0.0, after=2.0)]})
    found = movement_table(collect(folder))
    assert found and [list(row) for row in found.rows] == [
        ["block 1", "attention", "10", "10", "30", "31.5", "3", "10%"],
        ["block 1", "added by the method", "10", "10", "0", "2", "2", "–"],
    ]
    page = Page(write(folder))
    assert "Norms before and after training" in page.text and "31.5" in page.text
    assert movement_table(collect(run_with(tmp_path / "none", {}))) is None


def test_the_map_of_movement_puts_tables_together_and_tells_what_did_not_move(tmp_path: Path) -> None:
    found = movement_map(collect(run_with(tmp_path, {"cells": CELLS})))
    assert found and list(found.columns) == ["embeddings", "attention", "norms", "added by the method", "head"]
    shown = {(row, column): one for row, cells in found.rows for column, one in zip(found.columns, cells, strict=True)}
    texts = {key: one.text for key, one in shown.items() if one.text}
    assert texts == {
        ("embeddings", "embeddings"): "10%",
        ("embeddings", "norms"): "0",
        ("block 1", "attention"): "1%",
        ("block 1", "added by the method"): "from 0",
        ("head", "norms"): "1%",
        (EVIL, "head"): "50%",
    }
    assert shown[EVIL, "head"].opacity == 0.92 and shown["block 1", "attention"].opacity == 0.1
    assert "norm 50 before" in shown["block 1", "attention"].hint and "did not move" in shown["embeddings", "norms"].hint


def test_updates_are_shown_by_block_and_layer(tmp_path: Path) -> None:
    updates = [update(block, layer, [4.0, 2.0, block + 1.0], 2.5) for block in (0, 1) for layer in ("self.query", "self.value")]
    record = collect(run_with(tmp_path, {"cells": CELLS, "updates": updates}))
    ranks, spectrum = rank_map(record), spectrum_panel(record)
    assert ranks and list(ranks.columns) == ["attention.self.query", "attention.self.value"] and len(ranks.rows) == 2
    assert ranks.rows[0][1][0].text == "2.5"
    assert spectrum and list(spectrum.lines[-1].points) == [(1, 4.0), (2, 2.0), (3, 1.5)]
    page = Page(write(tmp_path / "run"))
    assert "Effective rank" in page.text and EVIL in page.text and "<script>" not in page.html


def test_the_map_of_gradients_has_a_row_for_each_place_and_leaves_out_what_did_not_learn(tmp_path: Path) -> None:
    record = collect(run_with(tmp_path, {}))
    found = norms(record)
    assert found and list(found.places) == ["embeddings", "block 1", "block 2", "head"] and len(found.edges) == 41
    assert found.values[0][:5] == [None, None, None, None, pytest.approx(0.1)]
    assert found.values[1][9] == pytest.approx(10.0) and found.ends == pytest.approx((0.1, 100.0))
    drawing = gradient_map(record)
    assert drawing and "block 2" in drawing.wide and "var(--accent)" in drawing.wide


def test_a_deep_model_and_a_long_run_keep_the_drawing_small(tmp_path: Path) -> None:
    record = collect(run_with(tmp_path, {}, blocks=80, steps=700))
    found, drawing = norms(record), gradient_map(record)
    assert found and drawing and (len(found.edges) - 1) * len(found.places) <= MOST_CELLS
    assert len(drawing.wide) + len(drawing.narrow) < 500_000


@pytest.mark.parametrize(
    "content", [{}, [], {"cells": "x", "updates": [3, {}]}, {"cells": [{}], "updates": [{"values": ["a"], "rank": 0}]}]
)
def test_a_damaged_or_absent_record_breaks_nothing(tmp_path: Path, content: Any) -> None:
    write(run_with(tmp_path, content, steps=1))
    assert Page(tmp_path / "run" / "report" / "index.html").text
