"""What every task keeps: one row here for each, and the same promises for all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import burnish
from burnish import build
from burnish import recipe as recipes
from burnish.core import registry
from burnish.core.errors import BurnishError
from burnish.core.protocols import Row
from burnish.data.encode import Encoded
from burnish.engine.batches import Budget
from burnish.engine.step import Step
from burnish.optim.groups import parameter_groups
from cases import CASES, recipe_of

pytestmark = pytest.mark.usefixtures("quick")

TASKS = sorted(CASES)


def test_every_task_stands_in_the_table() -> None:
    assert set(registry.specs("task")) == set(CASES)


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The recipe of a task on its tiny model, with other sections."""

    def make(task: str, **sections: Any) -> dict[str, Any]:
        return recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path, **sections)

    return make


Make = Callable[..., dict[str, Any]]


def assembled(recipe: dict[str, Any]) -> build.Parts:
    checked = recipes.load(recipe)
    return build.assemble(checked, build.gather(checked), lambda message: None)


@pytest.mark.parametrize("task", TASKS)
def test_how_a_batch_is_cut_changes_neither_loss_nor_gradient(task: str, made: Make) -> None:
    parts = assembled(made(task))
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in parts.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    indices = list(range(len(parts.examples["train"])))[:8]
    found = []
    for budget in (Budget(8, "ex"), Budget(3, "ex"), Budget(1, "ex"), Budget(60)):
        optimizer = parts.recipe.optimizer.build(parameter_groups(parts.model, 1e-3, 0.0))
        step = Step(parts.model, parts.learner, parts.examples["train"], optimizer, parts.runtime, budget, seed=3)
        outcome = step.accumulated(indices, 5)
        grads = torch.cat([p.grad.flatten() for p in parts.model.parameters() if p.grad is not None])
        found.append((outcome.loss, grads))
        optimizer.zero_grad(set_to_none=True)
    loss, gradient = found[0]
    assert math.isfinite(loss) and loss > 0.01 and gradient.norm() > 1e-3
    for other, its in found[1:]:
        assert other == pytest.approx(loss, rel=1e-5)
        assert float((its - gradient).norm() / gradient.norm()) < 1e-5


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_encoded_each_for_itself(task: str, made: Make) -> None:
    parts = assembled(made(task))
    rows, learner = parts.gathered.rows["train"], parts.learner
    whole = learner.encode(rows)
    joined = Encoded.joined([learner.encode(rows[:5]), learner.encode(rows[5:])], [5, len(rows) - 5])
    assert joined.rows.tolist() == whole.rows.tolist() and joined.weights.tolist() == whole.weights.tolist()
    for name, ragged in whole.inputs.items():
        assert np.array_equal(ragged.values, joined.inputs[name].values) and np.array_equal(ragged.offsets, joined.inputs[name].offsets)
    batches = [learner.collate(examples, [2, 0, 7], (1, 2)) for examples in (whole, parts.examples["train"])]
    for name, tensor in {**batches[0].inputs, **batches[0].targets}.items():
        assert tensor.equal({**batches[1].inputs, **batches[1].targets}[name]), "the cache gives back what was encoded"


@pytest.mark.parametrize("task", TASKS)
def test_what_is_shown_is_what_the_model_gets(task: str, made: Make) -> None:
    parts = assembled(made(task))
    for index in range(4):
        view = parts.learner.view(parts.examples["train"], index)
        assert list(view.strips[0].ids) == parts.examples["train"].inputs["input_ids"][index].tolist()
        assert all(len(strip.ids) == len(strip.supervised) for strip in view.strips)
        assert all(not strip.notes or len(strip.notes) == len(strip.ids) for strip in view.strips)
        assert view.target or any(any(strip.supervised) or any(strip.notes) for strip in view.strips)


@pytest.mark.parametrize("task", TASKS)
def test_the_resolved_recipe_makes_the_same_learner_without_data(task: str, made: Make) -> None:
    parts = assembled(made(task))
    again = recipes.Recipe.model_validate(yaml.safe_load(parts.recipe.to_yaml())).task
    assert again == parts.recipe.task
    learner = again.bind([], [], parts.tokenizer)
    assert learner.task == parts.recipe.task and learner.config == parts.learner.config and learner.generation == parts.learner.generation


@pytest.mark.parametrize("task", TASKS)
def test_a_first_recipe_is_guessed_from_the_rows(task: str, made: Make) -> None:
    made(task)
    rows = [Row(CASES[task].row(number), "rows.jsonl", number + 1) for number in range(12)]
    guessed: Any = registry.specs("task")[task]
    spec = guessed.guess(rows)
    assert [spec.fault(row, True) for row in rows] == [None] * 12
    assert set(spec.columns(True)) <= set(rows[0].values)


@pytest.mark.parametrize("task", TASKS)
def test_rows_that_cannot_be_used_are_named(task: str, made: Make, tmp_path: Path) -> None:
    recipe = made(task)
    good = [CASES[task].row(number) for number in range(6)]
    lines = [*good[:3], *CASES[task].broken, *good[3:]]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BurnishError) as caught:
        assembled(recipe)
    for number in range(len(CASES[task].broken)):
        assert f"train.jsonl row {4 + number} (line {4 + number})" in str(caught.value)
    recipe["data"]["bad_rows"] = "drop"
    parts = assembled(recipe)
    assert len(parts.gathered.rows["train"]) == 6
    assert any("left out" in warning for warning in parts.gathered.warnings)


@pytest.fixture
def trained(made: Make) -> Callable[..., burnish.Run]:
    return lambda task, **sections: burnish.train(made(task, **sections))


def close(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("task", TASKS)
def test_a_run_learns_measures_predicts_and_is_measured_again(task: str, method: str, trained: Callable[..., burnish.Run]) -> None:
    run = trained(task, method={"name": method})
    assert set(run.recipe.task.metrics) <= set(run.metrics["validation"])
    assert all(value is None or math.isfinite(value) for value in run.metrics["validation"].values())
    assert ("before" in run.metrics) == run.learner.foretold
    steps = [line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"]
    assert len(steps) == 4 and all(map(math.isfinite, steps))
    loaded = burnish.load(run.path)
    close(dict(loaded.evaluate("validation").metrics), run.metrics["validation"])
    asked = CASES[task].asked
    one, two = loaded.predict([asked]), loaded.predict([asked, CASES[task].row(0) if task != "fill" else asked])
    assert len(one) == 1 and len(two) == 2
    assert json.loads(json.dumps(two[0])).keys() == one[0].keys()


@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_run_ends_with_the_same_weights(task: str, made: Make, trained: Callable[..., burnish.Run], tmp_path: Path) -> None:
    from burnish.engine.events import Event, Saved

    class Stop(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, Saved):
            raise Stop

    whole = load_file(trained(task).folder.model / "model.safetensors")
    with pytest.raises(Stop):
        burnish.train(made(task, run=str(tmp_path / "stopped")), listeners=[stop])
    resumed = load_file(burnish.resume(tmp_path / "stopped").folder.model / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
