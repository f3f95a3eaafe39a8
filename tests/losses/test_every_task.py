"""Losses, mixtures and orders with every task: what chooses among classes learns by any of them, and the cut of a batch changes nothing."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import burnish
from burnish import build
from burnish import recipe as recipes
from burnish.core.errors import RecipeError
from burnish.core.protocols import IGNORED
from burnish.engine.batches import Budget
from burnish.engine.step import Step
from burnish.optim.groups import parameter_groups
from cases import CASES, recipe_of

pytestmark = pytest.mark.usefixtures("quick")

TASKS = sorted(CASES)
WEIGHABLE = {"classify", "tag"}
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def make(task: str, **sections: Any) -> dict[str, Any]:
        return recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path, **sections)

    return make


def assembled(recipe: dict[str, Any]) -> build.Parts:
    checked = recipes.load(recipe)
    return build.assemble(checked, build.gather(checked), lambda message: None)


def gradient(parts: build.Parts, objective: Any, budget: Budget) -> tuple[float, torch.Tensor]:
    optimizer = parts.recipe.optimizer.build(parameter_groups(parts.model, 1e-3, 0.0))
    step = Step(parts.model, objective, parts.examples["train"], optimizer, parts.runtime, budget, seed=3)
    outcome = step.accumulated(list(range(8)), 5)
    found = torch.cat([p.grad.flatten() for p in parts.model.parameters() if p.grad is not None])
    optimizer.zero_grad(set_to_none=True)
    return outcome.loss, found


@pytest.mark.parametrize("task", TASKS)
def test_a_reshaped_loss_is_the_same_however_a_batch_is_cut(task: str, made: Make) -> None:
    loss: dict[str, Any] = {"name": "focal", "gamma": 1.5}
    parts = assembled(made(task, loss={**loss, "class_weights": "effective", "beta": 0.9} if task in WEIGHABLE else loss))
    objective = build.objective(parts)
    value, whole = gradient(parts, objective, Budget(8, "ex"))
    plain, unlike = gradient(parts, parts.learner, Budget(8, "ex"))
    assert math.isfinite(value) and value > 0 and abs(value - plain) > 1e-3 * plain
    assert float((whole - unlike).norm()) > 1e-3 * float(unlike.norm())
    for budget in (Budget(3, "ex"), Budget(60)):
        other, parted = gradient(parts, objective, budget)
        assert other == pytest.approx(value, rel=1e-5)
        assert float((parted - whole).norm() / whole.norm()) < 1e-5


@pytest.mark.parametrize("task", TASKS)
def test_focal_without_focus_is_the_plain_loss(task: str, made: Make) -> None:
    parts = assembled(made(task, loss={"name": "focal", "gamma": 0}))
    (value, found), (plain, wanted) = (gradient(parts, one, Budget(8, "ex")) for one in (build.objective(parts), parts.learner))
    assert value == pytest.approx(plain, rel=1e-5)
    assert float((found - wanted).norm()) < 1e-5 * float(wanted.norm())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("loss", [{"name": "focal"}, {"smoothing": 0.1}], ids=["focal", "smoothing"])
def test_runs_train_evaluate_by_the_plain_loss_and_predict(task: str, loss: dict[str, Any], made: Make) -> None:
    run = burnish.train(made(task, loss=loss))
    assert math.isfinite(run.summary["mean_loss"])
    measured = burnish.load(run.path).evaluate("validation").metrics
    assert measured["loss"] == pytest.approx(run.metrics["validation"]["loss"], rel=1e-5)
    assert burnish.load(run.path).predict([CASES[task].asked])


@pytest.mark.parametrize("task", sorted(set(TASKS) - WEIGHABLE))
def test_class_weights_are_for_few_labels(task: str, made: Make) -> None:
    with pytest.raises(RecipeError, match=r"`loss`: `class_weights` are for tasks with one label a row or word .*; this one chooses"):
        recipes.load(made(task, loss={"class_weights": "balanced"}))


@pytest.mark.parametrize("scheme", ["spans", "plain"])
def test_class_weights_of_tags_count_supervised_words(scheme: str, made: Make, tmp_path: Path) -> None:
    """The loss of a batch is that of torch with these weights, over its number of words."""
    made_ = made("tag", loss={"class_weights": "balanced"})
    if scheme == "plain":
        made_["task"] = {"name": "tag", "scheme": "plain"}
        (tmp_path / "train.jsonl").write_text(
            '{"tokens": "a lamp is here", "tags": "D N V A"}\n{"tokens": "the kettle", "tags": "D N"}\n' * 6
        )
        made_["data"].pop("validation")
    parts = assembled(made_)
    labels = [label for example in range(len(parts.examples["train"])) for label in parts.examples["train"].targets["labels"][example]]
    counts = [labels.count(number) for number in range(len(parts.recipe.task.labels))]
    there, total = [number for number in counts if number], sum(counts)
    wanted = [total / (len(there) * number) if number else 1.0 for number in counts]
    found = build.class_weights(parts)
    assert found is not None and [list(found), [units for units, _ in found.values()]] == [parts.recipe.task.labels, counts]
    assert [weight for _, weight in found.values()] == pytest.approx(wanted)
    batch = parts.learner.collate(parts.examples["train"], range(8), (0, 0))
    logits = parts.model.eval()(**batch.inputs).logits.flatten(0, 1)
    targets = batch.targets["labels"].flatten()
    expected = F.cross_entropy(logits, targets, torch.tensor(wanted), ignore_index=IGNORED, reduction="sum") / batch.weight
    losses = build.objective(parts).losses(parts.model, batch)
    assert float(losses.sum() / batch.weight) == pytest.approx(float(expected), rel=1e-5)
    assert batch.weight == (targets != IGNORED).sum()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_learns_from_a_mixture_in_an_order(task: str, made: Make, tmp_path: Path) -> None:
    recipe = made(task)
    shutil.copy(tmp_path / "train.jsonl", tmp_path / "more.jsonl")
    train = {str(tmp_path / "train.jsonl"): 3, str(tmp_path / "more.jsonl"): 1}
    recipe["data"] = {**recipe["data"], "train": train, "epoch_rows": 8, "order": {"name": "curriculum"}}
    run = burnish.train({**recipe, "train": {**recipe["train"], "batch_size": 4}})
    strata = run.folder.read("plan.json")["strata"]
    assert [(name, quota) for name, _, quota in strata] == [("train.jsonl", 6), ("more.jsonl", 2)]
    assert run.summary["epochs"] == 2 and burnish.load(run.path).predict([CASES[task].asked])
