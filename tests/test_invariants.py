"""The numerics contract: how a batch is cut, when it is evaluated and in which order it comes never changes what is learned."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import burnish
from burnish import build, recipe
from burnish.engine.batches import Budget, Order
from burnish.engine.inference import EVALUATION, Engine
from burnish.engine.signals import StopRequested
from burnish.engine.step import Accumulated, Step
from burnish.optim.groups import parameter_groups

PROBLEMS = ("single_label", "multi_label", "regression")
WORDS = ["lovely", "great", "broken", "awful", "parcel", "candle", "thanks", "refund", "late", "happy", "my", "is", "the"]
# The same, far longer, and as long as the model reads: 64 tokens.
SAME, MIXED = [9] * 24, [1, 60, 3, 2, 40, 5, 1, 17] * 3
CUTS = [Budget(size, "ex") for size in (4, 3, 2, 1)] + [Budget(size) for size in (1, 70, 130, 300)]


pytestmark = pytest.mark.usefixtures("quick")


def label(problem: str, number: int) -> Any:
    if problem == "regression":
        return number * 0.37 - 3
    return ["ab", "b", "", "ac"][number % 4].replace("", " ").split() if problem == "multi_label" else "abc"[number % 3]


def parts_for(bert: Path, folder: Path, problem: str, word_counts: list[int]) -> build.Parts:
    """A model with generic weights (gradients of every size), and rows of `word_counts` words."""
    draw = random.Random(5)
    rows = [{"text": " ".join(draw.choices(WORDS, k=k)), "label": label(problem, number)} for number, k in enumerate(word_counts)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"name": "classify", "problem": problem}
    checked = recipe.load({"model": str(bert), "task": task, "data": {"train": str(folder / "rows.jsonl")}, "train": {"device": "cpu"}})
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in parts.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return parts


def step_of(parts: build.Parts, budget: Budget) -> Step:
    optimizer = parts.recipe.optimizer.build(parameter_groups(parts.model, 1e-3, 0.01))
    return Step(parts.model, parts.learner, parts.examples["train"], optimizer, parts.runtime, budget)


def gradient(parts: build.Parts, budget: Budget, indices: list[int]) -> tuple[Accumulated, dict[str, torch.Tensor]]:
    parts.model.zero_grad(set_to_none=True)
    outcome = step_of(parts, budget).accumulated(indices, step=0)
    return outcome, {name: parameter.grad.clone() for name, parameter in parts.model.named_parameters() if parameter.grad is not None}


def assert_same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    """Every parameter's gradient, relative to the length of the whole gradient."""
    whole = math.sqrt(sum(tensor.square().sum().item() for tensor in wanted.values()))
    assert got.keys() == wanted.keys() and whole > 0.01
    for name, tensor in wanted.items():
        assert (got[name] - tensor).norm().item() <= tolerance * whole, name


# 1. A step is one update over batch_size examples


@pytest.mark.parametrize("word_counts", [SAME, MIXED], ids=["same-lengths", "mixed-lengths"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_micro_batches_do_not_change_loss_or_gradient(tiny_bert: Path, tmp_path: Path, problem: str, word_counts: list[int]) -> None:
    parts = parts_for(tiny_bert, tmp_path, problem, word_counts)
    indices = [5, 0, 14, 7, 2, 21, 9, 8]
    whole, wanted = gradient(parts, Budget(8, "ex"), indices)
    assert whole.slots == 8 * max(int(parts.examples["train"].lengths[index]) for index in indices)
    for budget in CUTS:
        outcome, got = gradient(parts, budget, indices)
        assert outcome.loss == pytest.approx(whole.loss, rel=1e-6), budget
        assert (outcome.examples, outcome.tokens) == (8, whole.tokens)
        assert_same(got, wanted)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_smaller_last_batch_is_normalized_by_its_own_size(tiny_bert: Path, tmp_path: Path, problem: str) -> None:
    parts = parts_for(tiny_bert, tmp_path, problem, MIXED[:11])
    last = Order(11, 8, seed=0).batch(1)
    assert len(last) == 3
    singles = [gradient(parts, Budget(8, "ex"), [index]) for index in last]
    mean = {name: torch.stack([grads[name] for _, grads in singles]).mean(dim=0) for name in singles[0][1]}
    for budget in (Budget(8, "ex"), Budget(2, "ex"), Budget(1, "ex"), Budget(64)):
        outcome, got = gradient(parts, budget, last)
        assert outcome.loss == pytest.approx(sum(single.loss for single, _ in singles) / 3, rel=1e-6)
        assert_same(got, mean)


def test_loss_is_that_of_transformers(tiny_bert: Path, tmp_path: Path) -> None:
    """The number that the loop reports is the one that the model itself gives for the whole padded batch."""
    for problem in PROBLEMS:
        parts = parts_for(tiny_bert, tmp_path, problem, MIXED)
        batch = parts.learner.collate(parts.examples["train"], range(8), (0, 0))
        labels = batch.targets["labels"]
        targets = labels.squeeze(-1) if problem == "regression" else labels
        expected = parts.model.eval()(**batch.inputs, labels=targets).loss.item()
        outcome, _ = gradient(parts, Budget(3, "ex"), list(range(8)))
        assert outcome.loss == pytest.approx(expected, rel=1e-6)


def test_runs_with_different_micro_batches_end_alike(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    weights = {}
    for cut in ("auto", 1, "100tok"):
        run = burnish.train(recipe_of(tiny_bert, rows_csv, tmp_path / f"run-{cut}", micro_batch=cut))
        weights[cut] = load_file(run.folder.model / "model.safetensors")
        assert run.summary["steps"] == 10
    for cut in (1, "100tok"):
        for name, tensor in weights["auto"].items():
            torch.testing.assert_close(weights[cut][name], tensor, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


# 2. The order of the data is a function of (seed, epoch)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 200), batch=st.integers(1, 60), seed=st.integers(0, 2**32), epoch=st.integers(0, 5))
def test_every_epoch_covers_each_example_once(size: int, batch: int, seed: int, epoch: int) -> None:
    order = Order(size, batch, seed)
    first = epoch * order.steps_per_epoch
    batches = [order.batch(step) for step in range(first, first + order.steps_per_epoch)]
    assert sorted(index for found in batches for index in found) == list(range(size))
    assert all(len(found) == batch for found in batches[:-1]) and 1 <= len(batches[-1]) <= batch
    flat = [index for found in batches for index in found]
    for other in (1, size):  # the order is that of the data, not of the batches
        again = Order(size, other, seed)
        assert [index for step in range(again.steps_per_epoch) for index in again.batch(epoch * again.steps_per_epoch + step)] == flat


def test_order_differs_over_epochs_and_seeds_and_has_no_memory() -> None:
    order = Order(100, 100, seed=3)
    epochs = [order.batch(epoch) for epoch in range(4)]
    seeds = [Order(100, 100, seed).batch(0) for seed in range(4)]
    assert len({tuple(found) for found in epochs}) == 4
    assert len({tuple(found) for found in seeds}) == 4
    assert [Order(100, 100, seed=3).batch(epoch) for epoch in (3, 1, 2, 0)] == [epochs[3], epochs[1], epochs[2], epochs[0]]
    assert all(found != sorted(found) for found in epochs)


# 4. Evaluation never disturbs training (3, resume, is tested in tests/run/test_resume.py)


def recipe_of(bert: Path, rows: Path, run: Path, **train: Any) -> dict[str, Any]:
    return {
        "model": str(bert),
        "task": "classify",
        "data": {"train": str(rows), "validation": "25%"},
        "optimizer": {"name": "adamw", "lr": 1e-4},
        "train": {"duration": "2ep", "batch_size": 8, "device": "cpu", "save_every": "100ep", **train},
        "run": str(run),
    }


def test_evaluation_at_every_step_leaves_the_very_same_weights(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_bert / "config.json").read_text())
    bert = tmp_path / "dropout-bert"
    bert.mkdir()
    for file in tiny_bert.iterdir():
        (bert / file.name).write_bytes(file.read_bytes())
    (bert / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}))
    often = burnish.train(recipe_of(bert, rows_csv, tmp_path / "often", evaluate_every="1st"))
    never = burnish.train(recipe_of(bert, rows_csv, tmp_path / "never", evaluate_every="100ep"))
    without = burnish.train(recipe_of(tiny_bert, rows_csv, tmp_path / "without", evaluate_every="100ep"))
    counts = [sum(line["kind"] == "evaluation" for line in run.folder.read_metrics()) for run in (often, never)]
    assert counts == [10, 1]
    bytes_ = [(run.folder.model / "model.safetensors").read_bytes() for run in (often, never, without)]
    assert bytes_[0] == bytes_[1]
    assert bytes_[0] != bytes_[2], "dropout did nothing, so that this test could not fail"


class Meddler:
    """A forward hook that uses every generator, as models may, and looks at the modes that it meets."""

    def __init__(self) -> None:
        self.modes: set[bool] = set()
        self.grads: set[bool] = set()
        self.calls = 0

    def __call__(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        random.random(), np.random.rand(), torch.rand(3)
        self.calls += 1
        self.modes |= {inner.training for inner in module.modules()}
        self.grads.add(torch.is_grad_enabled())


@pytest.mark.parametrize("stopped", [False, True], ids=["to-the-end", "stopped-within"])
def test_outputs_leave_modes_generators_and_gradients_untouched(tiny_bert: Path, tmp_path: Path, stopped: bool) -> None:
    parts = parts_for(tiny_bert, tmp_path, "single_label", MIXED * 4)
    model, meddler = parts.model, Meddler()
    model.train()
    model.bert.encoder.layer[1].eval()  # type: ignore[union-attr, index]
    gradient_before = gradient(parts, Budget(8, "ex"), [0, 1, 2])[1]
    model.bert.encoder.layer[1].eval()  # type: ignore[union-attr, index]
    modes = {name: module.training for name, module in model.named_modules()}
    assert set(modes.values()) == {True, False}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.register_forward_hook(meddler)
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()

    def check() -> None:
        if stopped and meddler.calls > 0:
            raise StopRequested(2)

    try:
        Engine(model, parts.learner, parts.runtime, check).outputs(parts.examples["train"])
        assert not stopped
    except StopRequested:
        assert stopped
    assert meddler.calls == (1 if stopped else 2) and meddler.modes == {False} and meddler.grads == {False}
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert all(np.array_equal(now, before) for now, before in zip(np.random.get_state(), states[1], strict=True))
    assert random.getstate() == states[2]
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad and torch.equal(parameter.grad, gradient_before[name])  # type: ignore[arg-type]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_outputs_come_in_the_order_of_the_examples_whatever_fits(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted by length, and cut further where memory runs out, each output still belongs to its example."""
    parts = parts_for(tiny_bert, tmp_path, "single_label", MIXED)
    model, learner, examples = parts.model.eval(), parts.learner, parts.examples["train"]
    with torch.no_grad():
        alone = np.stack(
            [learner.outputs(model, learner.collate(examples, [index], EVALUATION))[0].numpy() for index in range(len(examples))]
        )
    assert np.abs(np.diff(alone, axis=0)).max(axis=1).min() > 1e-4
    np.testing.assert_allclose(Engine(model, learner, parts.runtime).outputs(examples), alone, atol=1e-5)
    forward, sizes = model.forward, []

    def cramped(**inputs: torch.Tensor) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", cramped)
    np.testing.assert_allclose(Engine(model, learner, parts.runtime).outputs(examples), alone, atol=1e-5)
    assert max(sizes) > 2
