"""Several runs and a comparison, as a person sees them in a terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from burnish.engine.events import Noted, OfRun, RunBegan, RunEnded, Stepped, Working
from burnish.report.versus.reading import Estimate
from burnish.terminal.comparison import on_axis, show_comparison
from burnish.terminal.several import Several


def screen(terminal: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=140, color_system=None), stream


def stepped(step: int, seconds: float, total: int = 10) -> Stepped:
    return Stepped(step, 0.1, 2.0, 1.5, 5e-5, 8, 300, 400, seconds, 800_000_000, step / total)


@pytest.mark.parametrize("terminal", [False, True])
def test_every_run_leaves_a_line_and_the_rest_is_counted(terminal: bool) -> None:
    console, stream = screen(terminal)
    with Several(console) as display:
        for number, name in enumerate(["[x] a", "b"], start=1):
            display(RunBegan(name, number, 3))
            display(OfRun(name, stepped(1, 1.0)))
            display.spoke = 0.0
            display(OfRun(name, stepped(2, 2.0)))
            assert display.running[name].text.startswith("step 2  loss 2.0000")
            display(RunEnded(name, "done" if number == 1 else "failed", "validation accuracy 0.5000", 10.0))
        assert display.standing == "2 of 3 runs, about 0:10 left"
        display(RunBegan("c", 3, 3))
        display(OfRun("c", Working("rows encoded", 3, 9)))
        assert display.running["c"].text == "3 of 9 rows encoded"
        display(RunEnded("c", "found", "", 0.0))
        display(Noted("all runs are there"))
    text = stream.getvalue()
    for sign in ("done  [x] a  validation accuracy 0.5000  0:10", "FAILED  b", "found  c", "all runs are there"):
        assert sign in text


def test_time_left_knows_how_many_run_at_once() -> None:
    console, _ = screen()
    display = Several(console)
    for number, name in enumerate("ab", start=1):
        display(RunBegan(name, number, 6, 2))
        display(OfRun(name, stepped(1, 1.0)))
        display(OfRun(name, stepped(5, 5.0)))
    assert display.left() == pytest.approx(5 + 4 * 10 / 2)


def comparison(folder: Path, **changes: Any) -> Path:
    def system(name: str, mean: float, seconds: float, difference: Any) -> dict[str, Any]:
        runs = [
            {"seed": seed, "path": f"runs/{name}/{seed}", "metrics": {"accuracy": mean + 0.01 * (seed - 1)}, "seconds": seconds}
            for seed in range(3)
        ]
        metrics = {"accuracy": {"mean": mean, "sd": 0.01, "low": mean - 0.03, "high": mean + 0.03}}
        spread = {"mean": seconds, "sd": 0.1}
        return {
            "name": name, "recipe": "a.yaml", "overrides": [], "trainable": 1000, "total": 2000, "runs": runs, "metrics": metrics,
            "seconds": spread, "peak_memory": {"mean": 1e9, "sd": None}, "difference": difference,
        }  # fmt: skip

    difference = {"mean": -0.1, "low": -0.15, "high": -0.05, "rows_low": -0.12, "rows_high": -0.08, "p_mcnemar": 0.001, "verdict": "worse"}
    content = {
        "kind": "comparison", "name": "demo", "task": "classify", "metric": "accuracy", "higher_is_better": True, "part": "test", "rows": 320,
        "baseline": "full", "seeds": [0, 1, 2], "level": 0.95, "systems": [system("full", 0.8, 20.0, None), system("head", 0.7, 5.0, difference)],
        "front": ["full", "head"], "warnings": ["one [thing] to know"], "finished": True, **changes,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(content))
    return folder


def test_a_comparison_shows_table_seeds_and_cost(tmp_path: Path) -> None:
    console, stream = screen()
    assert show_comparison(console, comparison(tmp_path / "c"))
    text = stream.getvalue()
    for sign in (
        "head is 10.0 points worse than full",
        "demo: 320 test rows, seeds 0, 1, 2",
        "0.770 to 0.830",
        "−15.0 to −5.0",
        "worse",
        "baseline",
    ):
        assert sign in text, sign
    assert "warning: one [thing] to know" in text and "1 full, 2 head" in text and "20 s to train" in text
    assert "energy" not in text


def test_a_failed_run_is_shown_and_told(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "c")
    content = json.loads((folder / "comparison.json").read_text())
    content["systems"][1] |= {"runs": [{"seed": 0, "failed": "the loss is NaN\nmore"}], "metrics": {}, "difference": None}
    content["systems"][1]["seconds"] = {"mean": None, "sd": None}
    (folder / "comparison.json").write_text(json.dumps(content))
    console, stream = screen()
    assert not show_comparison(console, folder)
    assert "failed: head, seed 0: the loss is NaN" in stream.getvalue()


def test_seeds_that_share_a_place_are_counted() -> None:
    line = on_axis([0.0, 0.0, 1.0], Estimate(0.5, 0.1, 0.25, 0.75), (0.0, 1.0))
    assert line[0] == "2" and line[-1] == "o" and line.count("|") == 1 and line.strip("2o ").startswith("-")
