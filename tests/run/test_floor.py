"""What a process takes beside its model: a least run of every kind of recipe, measured once and kept."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from burnish.recipe import load
from burnish.run import bare, floor
from burnish.run.planning import work_of
from burnish.run.surveying import survey
from cases import CASES, recipe_of

MakeRecipe = Callable[..., dict[str, Any]]


@pytest.fixture
def emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("task", CASES)
def test_there_is_a_least_run_for_every_task(task: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "least").mkdir()
    recipe = load(recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path))
    found = survey(recipe)
    floor.prepare(recipe, found, tmp_path / "least")
    least = load(json.loads((tmp_path / "least" / "recipe.json").read_text()))
    assert least.task.name == task and survey(least).examples["train"].lengths.max() <= 64
    assert (tmp_path / "least" / "model" / "model.safetensors").stat().st_size < 2**20


@pytest.mark.parametrize("method", ["lora", "freeze", "head", "adapters"])
def test_the_least_run_learns_as_the_recipe_does(
    recipe: MakeRecipe, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = load(recipe(method={"name": "freeze", "blocks": 1} if method == "freeze" else method))
    (tmp_path / "least").mkdir()
    floor.prepare(asked, survey(asked), tmp_path / "least")
    bare.tell(str(tmp_path / "least"))
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 50 * 2**20 < told["bytes"] < 10 * 2**30 and all(told["seconds"][part] > 0 for part in ("loading", "saving"))
    assert (tmp_path / "least" / "run" / "summary.json").is_file()


def test_it_is_measured_once(recipe: MakeRecipe, emptied: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, calls = load(recipe()), []

    def measured(*command: Any, **options: Any) -> Any:
        calls.append(command)
        return SimpleNamespace(stdout='noise\n{"bytes": 123456789, "seconds": {"loading": 1.5}, "ended": 0}\n')

    monkeypatch.setattr(subprocess, "run", measured)
    found, notes = survey(asked), []
    assert floor.remembered(asked) is None
    assert [floor.process_bytes(asked, found, notes.append) for _ in range(2)] == [123456789] * 2
    assert len(calls) == len(notes) == 1 and floor.remembered(asked) == 123456789
    assert floor.seconds_beside(asked)["loading"] == 1.5 and floor.seconds_beside(asked)["report"] > 0
    assert floor.remembered(load(recipe(method="lora"))) is None


def test_where_it_cannot_be_measured_the_present_process_stands_for_it(
    recipe: MakeRecipe, emptied: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*command: Any, **options: Any) -> Any:
        raise subprocess.CalledProcessError(1, "python")

    monkeypatch.setattr(subprocess, "run", failing)
    asked = load(recipe())
    size = floor.process_bytes(asked, survey(asked), lambda note: None)
    assert size == pytest.approx(floor.resident(), rel=0.1) and floor.remembered(asked) is None


def test_alternatives_take_what_their_libraries_do(recipe: MakeRecipe, emptied: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: SimpleNamespace(stdout='{"bitsandbytes": 40, "peft": 60}\n'))
    written, found = load(recipe()), survey(load(recipe()))
    own = work_of(written, found, "cpu")
    ways = {"lora": {"method": "lora"}, "8-bit": {"optimizer": "adamw8bit"}, "freeze": {"method": {"name": "freeze", "blocks": 1}}}
    others = {name: load(recipe(**sections)) for name, sections in ways.items()}
    works = {name: work_of(other, found, "cpu") for name, other in others.items()}
    assert {name: floor.process_beside(others[name], works[name], own, 1000) for name in ways} == {
        "lora": 1060,
        "8-bit": 1040,
        "freeze": 1000,
    }
    assert floor.process_beside(written, own, works["lora"], 1000) == 940


def test_libraries_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    bare.tell_libraries()
    found = json.loads(capsys.readouterr().out)
    assert list(found)[-1] == "peft" and all(0 <= size < 2**30 for size in found.values())
