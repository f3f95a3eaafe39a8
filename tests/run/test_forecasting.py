"""A run foretells what it will take, and is, bit for bit, the run that did not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import burnish
from burnish.engine.events import Event, Noted
from burnish.recipe import load
from burnish.run import forecasting
from burnish.run.preview import preview
from cases import CASES, recipe_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates that no other test has measured."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


def bits(run: burnish.Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.folder.model.glob("*.safetensors")}


EXACT: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"method": "lora"},
    "freeze": {"method": {"name": "freeze", "blocks": 1}},
    "in backward": {"train": {"duration": "4st", "batch_size": 8, "device": "cpu", "in_backward": True, "max_grad_norm": None}},
    "torch's dropout, average": {
        "engine": {"dropout": "torch"},
        "dropout": {"all": 0.1},
        "train": {"duration": "4st", "batch_size": 8, "device": "cpu", "ema": 0.9},
    },
}


@pytest.mark.parametrize("way", EXACT)
def test_a_run_that_was_rehearsed_ends_with_the_same_bits(way: str, tiny_bert: Path, tmp_path: Path) -> None:
    runs = []
    for forecast in (True, False):
        settings = {**EXACT[way], "run": str(tmp_path / f"run-{forecast}")}
        settings["engine"] = {**settings.get("engine", {}), "forecast": forecast}
        runs.append(burnish.train(recipe_of("classify", tiny_bert, tmp_path, **settings)))
    foretold, plain = runs
    assert bits(foretold) == bits(plain) != {}
    assert foretold.folder.read("plan.json")["forecast"]["total"] > 0
    assert plain.folder.read("plan.json")["forecast"] is None


@pytest.mark.parametrize("task", CASES)
def test_every_task_is_foretold_and_compared_with_what_came_of_it(task: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run = burnish.train(recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path))
    told, found = run.folder.read("plan.json")["forecast"], run.summary["forecast"]
    assert told["steps"] == 4
    assert {"loading", "steps", "evaluation", "saving"} <= told["seconds"].keys()
    assert ("before" in told["seconds"]) == ("before" in run.metrics)
    assert found["seconds"].keys() <= told["seconds"].keys()
    assert found["total"]["measured"] == pytest.approx(sum(run.summary["spent"][part] for part in found["seconds"]))
    assert found["memory"]["measured"] == run.summary["peak_memory"]


def test_generators_gradients_and_weights_are_as_they_were(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    whole = forecasting.rehearse

    def watched(stage: Any, *rest: Any) -> Any:
        def state() -> tuple[Any, ...]:
            weights = [parameter.detach().clone() for parameter in stage.parts.model.parameters()]
            modes = [module.training for module in stage.parts.model.modules()]
            return weights, modes, torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

        before = state()
        found = whole(stage, *rest)
        after = state()
        assert all(torch.equal(*pair) for pair in zip(before[0], after[0], strict=True))
        assert before[1:] == after[1:]
        assert all(parameter.grad is None for parameter in stage.parts.model.parameters())
        assert not stage.step.optimizer.state
        seen.append(found)
        return found

    monkeypatch.setattr(forecasting, "rehearse", watched)
    burnish.train(recipe_of("classify", tiny_bert, tmp_path))
    assert seen[0].operation > 0
    assert seen[0].update > 0


def test_a_trial_that_fails_costs_the_forecast_and_not_the_run(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*asked: Any) -> Any:
        raise ValueError("no such thing")

    monkeypatch.setattr(forecasting, "rehearse", broken)
    events: list[Event] = []
    run = burnish.train(recipe_of("classify", tiny_bert, tmp_path), listeners=[events.append])
    assert run.summary["forecast"] is None
    assert any("not foretold" in event.message and "no such thing" in event.message for event in events if isinstance(event, Noted))


def test_rates_are_measured_once_for_a_machine_that_stays_as_fast(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, measured = [1.0], list[int]()
    whole = forecasting.rehearse
    monkeypatch.setattr("burnish.run.rehearsal.probe", lambda: now[0])
    monkeypatch.setattr(forecasting, "probe", lambda: now[0])
    monkeypatch.setattr(forecasting, "rehearse", lambda *asked: (measured.append(1), whole(*asked))[1])
    for seed, speed in ((0, 1.0), (1, 1.1), (2, 2.0)):
        now[0] = speed
        settings = {"run": str(tmp_path / f"run-{seed}"), "train": {"duration": "4st", "batch_size": 8, "device": "cpu", "seed": seed}}
        burnish.train(recipe_of("classify", tiny_bert, tmp_path, **settings))
    assert len(measured) == 2


def test_a_resumed_run_keeps_its_forecast(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = burnish.train(recipe_of("classify", tiny_bert, tmp_path))
    told = run.folder.read("plan.json")["forecast"]
    spent = run.summary["spent"]["steps"]
    (run.path / "summary.json").unlink()
    monkeypatch.setattr(forecasting, "rehearse", lambda *asked: pytest.fail("rehearsed again"))
    again = burnish.resume(run.path)
    assert again.folder.read("plan.json")["forecast"] == json.loads(json.dumps(told))
    assert again.summary["spent"]["steps"] == pytest.approx(spent)


def test_a_preview_tells_the_whole_run_and_leaves_nothing(recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    content = recipe()
    found = preview(load(content), start=2.0)
    assert found.seconds["start"] == 2.0
    assert found.seconds["steps"] == pytest.approx(found.step * found.steps)
    assert not Path(content["run"]).exists()
