"""An experiment's runs: what makes two runs the same, and that nothing is trained twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burnish.core.errors import DataError
from burnish.core.rundir import RunFolder
from burnish.engine.events import Event, Stepped
from burnish.experiment.cells import Cell, finished, identity, seeded
from burnish.recipe import Recipe, load
from burnish.run import Run, train

Make = Callable[..., Recipe]


@pytest.fixture
def recipe(tiny_bert: Path, rows_csv: Path, tmp_path: Path, quick: None) -> Make:
    """A recipe of two steps whose test rows are a file; sections given replace single keys."""

    def make(**sections: Any) -> Recipe:
        test = tmp_path / "test.csv"
        test.write_text("text,label\nThe kettle is great,praise\nMy candle was late,complaint\n", encoding="utf-8")
        raw: dict[str, Any] = {
            "model": {"name": str(tiny_bert)},
            "task": "classify",
            "data": {"train": str(rows_csv), "validation": "25%", "test": str(test)},
            "train": {"duration": "2st", "batch_size": 8, "device": "cpu", "save_every": "1st"},
        }
        for key, value in sections.items():
            raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
        return load(raw)

    return make


def test_identity_knows_contents_and_not_places(recipe: Make, rows_csv: Path, tmp_path: Path) -> None:
    own = recipe()
    moved = tmp_path / "elsewhere" / "other.csv"
    moved.parent.mkdir()
    moved.write_bytes(rows_csv.read_bytes())
    assert identity(own) == identity(recipe(run="runs/x")) == identity(recipe(data={"train": str(moved)}))
    others = [recipe(optimizer={"lr": 1e-3}), recipe(method="head"), seeded(own, 1), recipe(data={"test": None})]
    assert len({identity(other) for other in [own, *others]}) == 5
    rows_csv.write_text(rows_csv.read_text() + "One more parcel,praise\n")
    assert identity(recipe()) != identity(recipe(data={"train": str(moved)}))


def test_identity_looks_into_a_local_model_but_not_at_what_is_written_about_it(recipe: Make, tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_bert, copy)
    own = identity(recipe())
    (copy / "README.md").write_text("a card")
    assert identity(recipe(model={"name": str(copy)})) == own
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert identity(recipe(model={"name": str(copy)})) != own


def test_a_cell_is_trained_once_with_its_test_rows_closed(recipe: Make, tmp_path: Path) -> None:
    cell, steps = Cell("full", 0, recipe()), list[Event]()
    first = finished(cell, tmp_path / "c" / "seed-0", tmp_path, [steps.append])
    assert sum(isinstance(event, Stepped) for event in steps) == 2
    assert first.read("identity.json")["sha256"] == identity(cell.recipe)
    assert first.read("evaluations/test.json") is None and "test" not in first.read("data.json")["parts"]
    again = finished(cell, tmp_path / "other" / "seed-0", tmp_path, [steps.append])
    assert again.path == first.path and sum(isinstance(event, Stepped) for event in steps) == 2
    assert Run(first).evaluate("test").metrics == pytest.approx(Run(first).metrics["test"])


def test_a_plain_run_is_taken_and_a_run_of_another_recipe_is_left(recipe: Make, tmp_path: Path) -> None:
    own = train(recipe(run=str(tmp_path / "runs" / "own")))
    assert finished(Cell("a", 0, recipe()), tmp_path / "c", tmp_path / "runs", []).path == own.path
    other = finished(Cell("a", 0, recipe(method="head")), own.path, tmp_path / "nothing", [])
    assert other.path == own.path.with_name("own-2") and own.folder.finished


def test_a_cell_that_was_stopped_goes_on(recipe: Make, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 2:
            raise Killed

    cell, seen = Cell("full", 0, recipe()), list[Event]()
    with pytest.raises(Killed):
        finished(cell, tmp_path / "seed-0", tmp_path, [kill])
    folder = finished(cell, tmp_path / "seed-0", tmp_path, [seen.append])
    assert [event.step for event in seen if isinstance(event, Stepped)] == [2]
    whole = finished(cell, tmp_path / "b", tmp_path / "b", [])
    weights = [(run.model / "model.safetensors").read_bytes() for run in (folder, whole)]
    assert weights[0] == weights[1]


def test_a_cell_that_cannot_begin_leaves_nothing(recipe: Make, tmp_path: Path, rows_csv: Path) -> None:
    cell = Cell("full", 0, recipe())
    rows_csv.write_text("text,label\nonly praise,praise\n")
    with pytest.raises(DataError):
        finished(cell, tmp_path / "runs" / "seed-0", tmp_path, [])
    assert not RunFolder(tmp_path / "runs" / "seed-0").path.exists()
