"""The page of a sweep and its table in the terminal, from a made sweep.json."""

from __future__ import annotations

import copy
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from burnish.core.errors import RunError
from burnish.report import sweeps
from burnish.report.sweeps.charts import by_worth
from burnish.terminal.sweeps import show_sweep

EVIL = "<script>alert(1)</script>"


def trial(number: int, value: float | None, state: str = "complete", **parameters: Any) -> dict[str, Any]:
    return {
        "number": number,
        "state": state,
        "value": value,
        "parameters": {"optimizer.lr": 1e-4 * (number + 1), "method": "full", **parameters},
        "seconds": 3.5,
        "reached": 50 if state == "pruned" else 100,
        "same_as": None,
        "reason": f"out of memory {EVIL}" if state == "failed" else None,
    }


@pytest.fixture
def facts() -> dict[str, Any]:
    trials = [
        trial(0, 0.5),
        trial(1, 0.75, method="lora", **{"method.lora.r": 8}),
        trial(2, 0.9, "pruned"),
        trial(3, None, "failed"),
    ]
    return {
        "kind": "sweep",
        "name": f"messages {EVIL}",
        "recipe": "messages.yaml",
        "metric": "accuracy",
        "higher_is_better": True,
        "sampler": "tpe",
        "pruner": "median",
        "seed": 0,
        "storage": "study.db",
        "wanted": 4,
        "parameters": [
            {"name": "optimizer.lr", "kind": "log", "low": 1e-5, "high": 1e-3, "written": "{log: [1e-05, 0.001]}"},
            {"name": "method", "kind": "choice", "options": ["full", "lora"], "written": "{choice: [full, lora]}"},
            {"name": "method.lora.r", "kind": "linear", "low": 4, "high": 16, "written": "{integer: [4, 16]}"},
        ],
        "trials": trials,
        "best": trials[1],
        "importances": {"optimizer.lr": 0.7, "method": 0.3},
        "best_recipe": f"# {EVIL}\nmodel: a\n",
        "proof": {
            "runs": [
                {"seed": 1, "path": "best/seed-1", "validation": {"accuracy": 0.7}, "test": {"accuracy": 0.65}, "seconds": 3.0},
                {"seed": 2, "reason": "the disk is full"},
            ],
            "validation": {"mean": 0.7, "sd": None, "low": None, "high": None},
            "test": {"mean": 0.65, "sd": 0.01, "low": 0.6, "high": 0.7},
            "flattered": 0.05,
        },
    }


def page_of(facts: dict[str, Any], folder: Path) -> str:
    (folder / "sweep.json").write_text(json.dumps(facts))
    return sweeps.write(folder).read_text()


def test_the_page_holds_what_was_found_and_nothing_of_it_is_markup(facts: dict[str, Any], tmp_path: Path) -> None:
    page = page_of(facts, tmp_path)
    assert EVIL not in page and "&lt;script&gt;" in page
    assert not re.search(r'(src|href)="(?!#)', page), "nothing is loaded from elsewhere"
    assert "The best of 4 was flattered by 0.05" in page
    assert "one seed: how much seeds vary is unknown" in page and "95% interval of the mean 0.6 to 0.7" in page
    assert "stopped at 50%" in page and "out of memory" in page and "the disk is full" in page
    assert page.count("<svg") == 2 * 2 + 3 and "width:70.0%" in page
    assert "var(--accent)" in page and "#010101" not in page


def test_a_search_without_a_value_or_fresh_seeds_has_a_page_too(facts: dict[str, Any], tmp_path: Path) -> None:
    less = {**facts, "trials": [trial(3, None, "failed")], "best": None, "importances": {}, "best_recipe": ""}
    del less["proof"]
    page = page_of(less, tmp_path)
    assert "<svg" not in page and "Too few trials" in page
    alone = {**facts, "trials": facts["trials"][:1], "best": facts["trials"][0]}
    assert "<svg" in page_of(alone, tmp_path)


def test_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no sweep\.json"):
        sweeps.write(tmp_path)


def test_trials_are_ranked_by_what_they_came_to_and_stopped_ones_stand_behind(facts: dict[str, Any]) -> None:
    assert [one["number"] for one in sweeps.ranked(facts)] == [1, 0, 2, 3]
    assert [one["number"] for one in sweeps.ranked({**facts, "higher_is_better": False})] == [0, 1, 2, 3]


def test_what_the_best_is_worth(facts: dict[str, Any]) -> None:
    kinder = copy.deepcopy(facts)
    kinder["proof"]["flattered"] = -0.01
    assert sweeps.best_lines(kinder)[-1] == "the best of 4 was not flattered: fresh seeds are better by 0.01"
    kinder["proof"]["flattered"] = 0.0
    assert sweeps.best_lines(kinder)[-1] == "the best of 4 was not flattered: fresh seeds are as good"
    del kinder["proof"]
    assert sweeps.best_lines(kinder) == ["best of 4 on validation: accuracy 0.75 (trial 1)"]


def test_the_terminal_shows_trials_importances_and_what_the_best_is_worth(facts: dict[str, Any]) -> None:
    console = Console(file=io.StringIO(), width=160)
    show_sweep(console, facts)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line for line in told.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["1", "0", "2", "3"]
    assert "pruned at 50%" in told and "flattered by 0.05" in told and re.search(r"optimizer\.lr +70%", told)


def test_of_equal_trials_the_earliest_is_drawn_as_the_best() -> None:
    trials = [{"number": number, "state": state, "value": 0.5} for number, state in enumerate(["pruned", "complete", "complete"])]
    assert [trial["number"] for trial in by_worth(trials, 1)] == [0, 2, 1]
    assert [trial["number"] for trial in by_worth([*trials, {"number": 3, "state": "complete", "value": 0.1}], -1)][-1] == 3
