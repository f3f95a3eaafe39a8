"""Each task's records tell its metrics: what a run's evaluation says comes out again from the predictions of single rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.experiment.compare.results import Measured, records_of
from burnish.run import train
from cases import CASES, recipe_of

UNTOLD = {"bleu", "chrf", "length_ratio", "copied_ngrams", "ended"}
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
