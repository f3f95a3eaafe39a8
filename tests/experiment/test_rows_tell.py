"""Each task's records tell its metrics: what a run's evaluation says comes out again from the predictions of single rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from burnish.core.rundir import RunFolder
from burnish.experiment.compare.results import Aligned, Drawn, Measured, alone, difference, records_of, results
from burnish.run import train
from cases import CASES, recipe_of

UNTOLD = {"length_ratio", "copied_ngrams", "ended"}
"""Of all texts together, or of what is not in the records."""


@pytest.mark.parametrize("task", CASES)
def test_metrics_come_from_rows(task: str, request: pytest.FixtureRequest, tmp_path: Path, quick: None) -> None:
    raw = recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path)
    run = train({**raw, "train": {**raw["train"], "duration": "1st"}}).folder
    scores = json.loads((run.evaluations / "validation.json").read_text())["metrics"]
    measured = Measured(0, run, scores, list(records_of(run, "validation").values()))
    known = {name for name in scores if not name.startswith("written_")} - UNTOLD
    untold = {name for name in known if measured.sums(name) is None}
    assert known and untold == ({"loss"} if task == "answer" else set())


def test_no_interval_leaves_what_a_metric_can_be() -> None:
    values = {("a", "accuracy"): np.array([0.2, 0.6]), ("b", "accuracy"): np.array([0.9, 0.7]), ("a", "rmse"): np.array([0.1, 9.0])}
    drawn = {key: np.stack([own, own - 0.05, own + 0.05]) for key, own in values.items()}
    found = Drawn(30, values, drawn, {"accuracy": 30.0})
    apart = difference("accuracy", ("b", "a"), [(0, 0), (1, 1)], found, True)
    assert (apart.low, apart.high) == (-1, 1)
    own = alone("accuracy", "a", found, True)
    assert own.low is not None and own.high is not None and 0 < own.low < 0.4 < own.high < 1
    assert alone("rmse", "a", found, False).low == 0


def test_a_metric_that_is_no_number_in_a_run_is_left_out() -> None:
    records = [{"truth": 1.0, "value": 2.0 + row, "loss": 1.0} for row in range(5)]
    runs = {
        name: [Measured(seed, RunFolder("x"), {"rmse": 3.0, "spearman": told}, records) for seed, told in enumerate(own)]
        for name, own in (("a", [0.5, 0.6]), ("b", [0.5, None]))
    }
    found = results(Aligned(runs, 5), "a", "spearman", {"rmse": False, "spearman": True})
    assert set(found["b"]["metrics"]) == {"rmse"} and found["b"]["difference"] is None and set(found["b"]["differences"]) == {"rmse"}
