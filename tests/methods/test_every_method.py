"""What every method keeps: it trains, is interrupted, saved, opened again and says the same; a row here for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.core import registry
from burnish.core.errors import BurnishError
from burnish.engine.events import Event, Saved
from cases import CASES, recipe_of

pytestmark = pytest.mark.usefixtures("quick")

METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "head": {},
    "freeze": {"blocks": 1},
    "bitfit": {},
    "norms": {},
    "unfreeze": {"every": 0.5},
    "lora": {"r": 2},
    "dora": {"r": 2},
    "rslora": {"r": 2},
    "pissa": {"r": 2},
    "adalora": {"r": 4, "target_r": 2, "every": 1},
    "ia3": {},
    "vera": {"r": 8},
    "oft": {"block": 8},
    "loha": {"r": 2},
    "lokr": {"r": 2},
    "fourierft": {"frequencies": 40},
    "ln_tuning": {},
    "prompt_tuning": {"virtual_tokens": 4},
    "p_tuning": {"virtual_tokens": 4},
    "prefix_tuning": {"virtual_tokens": 4},
    "adapters": {},
}
ALONE = {"tokens"}
"""Needs a task that adds tokens: see test_tokens.py."""

DECODERS = [name for name in METHODS if name not in ("head", "bitfit", "unfreeze")]
"""Nothing stands above the last block of a model whose output is tied to its embeddings but a norm; the tiny llama and t5 have no biases."""


def test_every_method_stands_in_the_table() -> None:
    registry.discover("burnish.methods")
    assert set(registry.specs("method")) == set(METHODS) | ALONE


class Stop(Exception):
    pass


def stop(event: Event) -> None:
    if isinstance(event, Saved):
        raise Stop


Made = Callable[..., dict[str, Any]]


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    def make(task: str, method: str, **sections: Any) -> dict[str, Any]:
        sections = {"method": {"name": method, **METHODS[method]}, **sections}
        return recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path, **sections)

    return make


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that was saved of a model."""
    return {f"{path.name} {name}": value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def moved(run: burnish.Run) -> bool:
    losses = [line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"]
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    return len(set(losses)) == 4


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_classifier_is_trained_opened_and_resumed_to_the_same_bits(method: str, made: Made, tmp_path: Path) -> None:
    run = burnish.train(made("classify", method))
    assert moved(run)
    again = burnish.load(run.path)
    found = again.evaluate("validation").metrics
    for name, value in run.metrics["validation"].items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert len(again.predict([CASES["classify"].asked])) == 1
    with pytest.raises(Stop):
        burnish.train(made("classify", method, run=str(tmp_path / "stopped")), listeners=[stop])
    resumed = burnish.resume(tmp_path / "stopped")
    whole, other = tensors(run.folder.model), tensors(resumed.folder.model)
    assert whole and whole.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in whole.items())


@pytest.mark.parametrize("task", ["continue", "rewrite"])
@pytest.mark.parametrize("method", sorted(DECODERS))
def test_writers_are_trained_and_write_when_opened(task: str, method: str, made: Made) -> None:
    recipe = made(task, method)
    recipe["data"]["max_length"] = 40
    run = burnish.train(recipe)
    assert moved(run)
    again = burnish.load(run.path)
    found = again.evaluate("validation").metrics
    for name, value in run.metrics["validation"].items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), name
    assert len(again.predict([CASES[task].asked])) == 1


@pytest.mark.parametrize("task", ["tag", "answer"])
@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "prefix_tuning", "adapters", "ia3"])
def test_outputs_of_each_token_are_of_the_texts_own(task: str, method: str, made: Made) -> None:
    run = burnish.train(made(task, method))
    found = burnish.load(run.path).evaluate("validation").metrics
    for name, value in run.metrics["validation"].items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize(
    ("task", "method", "reason"),
    [
        ("fill", "prompt_tuning", "puts no virtual tokens before the text of a BertForMaskedLM"),
        ("rewrite", "bitfit", "has none"),
        ("classify", "tokens", "this task adds nothing"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    task: str, method: str, reason: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recipe = recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path, method={"name": method, **METHODS.get(method, {})})
    with pytest.raises(BurnishError, match=reason):
        burnish.train(recipe)
    assert not (tmp_path / "run").exists()
