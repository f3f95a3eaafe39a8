"""Whole runs whose batches are prepared in a thread: the same as without, to the bit."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import burnish
from burnish.data.augment.rows import Rewording
from burnish.engine.events import Event, Stepped

pytestmark = pytest.mark.usefixtures("quick")
REWORDED = {"steps": ["swap", "delete"], "share": 0.8}
MakeRecipe = Callable[..., dict[str, Any]]


@pytest.fixture
def recipe(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> MakeRecipe:
    """Seven steps over an epoch's end, with evaluations and checkpoints between, and dropout of the generator that all share."""

    def make(name: str, prefetch: bool, augment: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "model": str(tiny_bert),
            "task": {"name": "classify"},
            "data": {"train": str(rows_csv), "validation": "25%", "augment": augment},
            "optimizer": {"name": "adamw", "lr": 3e-3},
            "dropout": {"all": 0.1},
            "train": {"duration": "7st", "batch_size": 8, "evaluate_every": "2st", "save_every": "3st", "device": "cpu", "micro_batch": 5},
            "engine": {"savings": {"prefetch": prefetch}, "dropout": "torch", "forecast": False},
            "run": str(tmp_path / name),
        }

    return make


def told(run: burnish.Run) -> list[tuple[Any, ...]]:
    """What its steps and evaluations came to."""
    lines = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    return [(line["kind"], line["step"], line.get("loss"), line.get("grad_norm"), str(line.get("metrics"))) for line in lines]


def weights(run: burnish.Run) -> bytes:
    return (run.folder.model / "model.safetensors").read_bytes()


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether it was the training thread that put the rows of a step in other words, call by call."""
    found: list[bool] = []
    real = Rewording.__call__

    def noted(self: Rewording, indices: Any, step: int) -> Any:
        found.append(threading.current_thread() is threading.main_thread())
        return real(self, indices, step)

    monkeypatch.setattr(Rewording, "__call__", noted)
    return found


@pytest.mark.parametrize("augment", [None, REWORDED], ids=["rows as they are", "reworded"])
def test_a_run_is_the_same_whether_batches_are_prepared_ahead_or_in_turn(
    augment: dict[str, Any] | None, recipe: MakeRecipe, callers: list[bool]
) -> None:
    ahead = burnish.train(recipe("ahead", True, augment))
    assert callers == ([True] + [False] * 7 if augment else []), "the first in its turn, the eighth for nothing"
    callers.clear()
    in_turn = burnish.train(recipe("turn", False, augment))
    assert callers == ([True] * 7 if augment else [])
    assert told(ahead) == told(in_turn) and weights(ahead) == weights(in_turn)


def test_a_run_that_breaks_resumes_to_the_same_and_leaves_no_thread(recipe: MakeRecipe) -> None:
    def breaking(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 5:
            raise ZeroDivisionError

    whole, made = burnish.train(recipe("whole", True, REWORDED)), recipe("broken", True, REWORDED)
    with pytest.raises(ZeroDivisionError):
        burnish.train(made, listeners=[breaking])
    assert [thread.name for thread in threading.enumerate() if thread.name == "burnish-ahead"] == []
    resumed = burnish.resume(made["run"])
    assert weights(resumed) == weights(whole) and told(resumed) == told(whole)


def test_a_function_of_the_users_is_called_in_the_training_thread_only(
    recipe: MakeRecipe, callers: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may draw from generators that dropout draws from too, or use the model's device."""
    module = ModuleType("drawing_its_own")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.reword = lambda text, draw: f"{text} {torch.rand(()).item() * 0:g} {random.random() * 0:g}"  # type: ignore[attr-defined]
    augment = {"steps": ["swap", {"name": "paraphrase", "callable": "drawing_its_own:reword"}], "share": 0.8}
    runs = [burnish.train(recipe(str(prefetch), prefetch, augment)) for prefetch in (True, False)]
    assert callers == [True] * 14
    assert told(runs[0]) == told(runs[1]) and weights(runs[0]) == weights(runs[1])
    notes = [json.loads((run.folder.path / "plan.json").read_text())["notes"] for run in runs]
    assert [any(note.startswith("prefetch: left out") for note in own) for own in notes] == [True, False]
