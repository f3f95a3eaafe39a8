"""Whole runs that spare memory or compute in half precision: every task, resumed, loaded, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import burnish
from burnish import build
from burnish.core.errors import Interrupted, ModelError, RecipeError
from burnish.core.protocols import Technique
from burnish.engine import checkpoint
from burnish.engine.events import Stepped
from cases import CASES, recipe_of

TASKS = sorted(CASES)
Make = Callable[..., dict[str, Any]]
SPARED = {"checkpoint_blocks": 1, "offload": ["activations", "optimizer"], "in_backward": True}
WHOLE = {"duration": "4st", "batch_size": 6, "max_grad_norm": None, "save_every": "2st", "evaluate_every": "4st", "device": "cpu"}


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """The recipe of a task on its tiny model, in a run folder of a given name."""

    def make(task: str, name: str, **sections: Any) -> dict[str, Any]:
        recipe = recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path)
        return {**recipe, "model": {"name": recipe["model"]}, **sections, "run": str(tmp_path / name)}

    return make


def weights(run: burnish.Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder.model / "model.safetensors")


def assert_same(one: burnish.Run, other: burnish.Run) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def broken_off(recipe: dict[str, Any], after: int) -> burnish.Run:
    """The run, stopped after some steps by a signal, and resumed."""
    import os
    import signal

    def stop(event: Any) -> None:
        if isinstance(event, Stepped) and event.step == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        burnish.train(recipe, listeners=[stop])
    return burnish.resume(recipe["run"])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_learns_the_same_bits_with_all_that_spares_memory(task: str, made: Make) -> None:
    plain = burnish.train(made(task, "plain", train={**WHOLE, "micro_batch": 6}))
    spared = burnish.train(made(task, "spared", train={**WHOLE, **SPARED}))
    assert_same(plain, spared)
    asked = CASES[task].asked
    assert burnish.load(spared.path).predict([asked]) == burnish.load(plain.path).predict([asked])
    steps = [[line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"] for run in (plain, spared)]
    assert steps[0] == steps[1] and len(steps[0]) == 4


@pytest.mark.parametrize("method", ["full", "lora"])
def test_spared_and_resumed_it_ends_with_the_same_bits(made: Make, method: str) -> None:
    options: dict[str, Any] = {"method": method, "train": {**WHOLE, **SPARED}}
    whole = burnish.train(made("classify", "whole", **options))
    assert_folders_same(whole, broken_off(made("classify", "broken", **options), 3))


def assert_folders_same(one: burnish.Run, other: burnish.Run) -> None:
    """The last checkpoints, moments and all, are the same files."""
    for name in checkpoint.FILES[:3]:
        files = [checkpoint.folder_of(run.folder, 4) / name for run in (one, other)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_the_header_says_what_is_spared_and_what_is_not(made: Make) -> None:
    notes = burnish.train(made("classify", "run", train={**WHOLE, **SPARED, "checkpoint_blocks": 2})).folder.read("plan.json")["notes"]
    assert "1 block of 2 computed again in backward instead of being kept" in notes
    assert "activations and optimizer wait in the CPU's memory, in which they are anyway here: this saves nothing" in notes
    assert "each weight moves within backward: its gradient is dropped at once" in notes
    assert not any("bfloat16" in note for note in notes)


# Composed with what else a recipe may say

SECTIONS: dict[str, dict[str, Any]] = {
    "adapters": {"method": "adapters"},
    "bitfit": {"method": "bitfit"},
    "gradual unfreezing": {"method": {"name": "unfreeze", "every": 0.5}},
    "pissa": {"method": "pissa"},
    "prompt tuning": {"method": "prompt_tuning"},
    "dropout": {"dropout": {"all": 0.2, "head": 0.4}},
    "layer decay": {"selective": {"layer_decay": 0.7, "head": 3.0}},
    "focal loss": {"loss": {"name": "focal", "gamma": 2.0}},
    "augmented rows": {"augment": {"steps": ["swap", "delete"], "share": 1.0}},
    "control": {"control": {"name": "dynamic", "patience": 1}},
    "lion": {"optimizer": {"name": "lion", "lr": 1e-3}},
    "rmsprop": {"optimizer": {"name": "rmsprop", "lr": 1e-3}},
    "adafactor": {"optimizer": {"name": "adafactor", "lr": 1e-3}},
    "8-bit state": {"optimizer": {"name": "adamw8bit", "lr": 1e-3, "min_8bit_size": 64}},
    "averaged weights": {"train": {"ema": 0.8}},
}


@pytest.mark.parametrize("name", SECTIONS)
def test_with_every_other_section_it_learns_the_same_bits(name: str, made: Make, dropout_bert: Path) -> None:
    sections = dict(SECTIONS[name])
    if name == "8-bit state":
        pytest.importorskip("bitsandbytes")
    more, augment = sections.pop("train", {}), sections.pop("augment", None)

    def ran(folder: str, train: dict[str, Any]) -> burnish.Run:
        recipe = made("classify", folder, **sections, train={**WHOLE, **more, **train})
        recipe["model"] = {"name": str(dropout_bert)}
        recipe["data"] |= {"max_length": 40} | ({"augment": augment} if augment else {})
        return burnish.train(recipe)

    plain, spared = ran("plain", {"micro_batch": 6}), ran("spared", SPARED)
    assert_folders_same(plain, spared)
    text = CASES["classify"].asked
    assert burnish.load(plain.path).predict([text]) == burnish.load(spared.path).predict([text])


@pytest.mark.parametrize("wanted", [{"weight": 0.5}, {"hidden": 1.0}, {"hidden": 0.5, "attention": 1.0}])
def test_a_student_learns_the_same_bits(wanted: dict[str, float], made: Make) -> None:
    teacher = burnish.train(made("classify", "teacher", train=WHOLE))
    options: dict[str, Any] = {"distill": {"teacher": str(teacher.path), **wanted}}
    plain = burnish.train(made("classify", "plain", **options, train={**WHOLE, "micro_batch": 6}))
    assert_folders_same(plain, burnish.train(made("classify", "spared", **options, train={**WHOLE, **SPARED})))


def test_quantised_weights_learn_the_same_bits(made: Make) -> None:
    pytest.importorskip("bitsandbytes")
    recipes = [
        made("continue", name, method="lora", train={**WHOLE, **train})
        for name, train in (("plain", {"micro_batch": 6}), ("spared", SPARED))
    ]
    for recipe in recipes:
        recipe["model"]["quantize"] = "nf4"
    assert_folders_same(*map(burnish.train, recipes))


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"method": "adalora"}, "method=adalora needs them all"),
        ({"selective": {"l2": 0.1, "l1": 0.1}}, "selective.l1 and selective.l2 needs them all"),
        ({"method": "prefix_tuning"}, "prefix_tuning keeps what it learns in a cache"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_loaded(sections: dict[str, Any], reason: str, made: Make) -> None:
    with pytest.raises(RecipeError) as caught:
        burnish.train(made("classify", "run", **sections, train={**WHOLE, **SPARED}))
    assert reason in str(caught.value) and len(caught.value.problems) == 1


# Half precision


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_under_autocast(task: str, precision: str, made: Make) -> None:
    run = burnish.train(made(task, "run", train={**WHOLE, "precision": precision}))
    plain = burnish.train(made(task, "plain", train=WHOLE))
    losses = [[line["loss"] for line in found.folder.read_metrics() if line["kind"] == "step"] for found in (run, plain)]
    left_out = [line["message"] for line in run.folder.read_metrics() if line["kind"] == "note" and "update left out" in line["message"]]
    assert losses[0] != losses[1] and losses[0][0] == pytest.approx(losses[1][0], rel=0.01)
    assert len(left_out) <= (precision == "fp16")
    assert losses[0] == pytest.approx(losses[1], rel=0.25 if left_out else 0.05)
    assert {tensor.dtype for tensor in weights(run).values()} == {torch.float32}
    assert burnish.load(run.path).predict([CASES[task].asked])


def test_fp16_resumes_with_its_scale_and_the_same_bits(made: Make, dropout_bert: Path) -> None:
    options: dict[str, Any] = {"model": {"name": str(dropout_bert)}, "train": {**WHOLE, "precision": "fp16", "ema": 0.9}}
    whole = burnish.train(made("classify", "whole", **options))
    broken = broken_off(made("classify", "broken", **options), 3)
    assert_folders_same(whole, broken)
    kept = yaml.safe_load((checkpoint.folder_of(broken.folder, 4) / "state.json").read_text())["techniques"]
    assert {"_growth_tracker": 4, "scale": 65536.0}.items() <= next(own["scaler"] for own in kept if "scaler" in own).items()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_evaluates_saves_and_predicts_in_weights_of_bf16(task: str, made: Make) -> None:
    recipe = made(task, "run", train={**WHOLE, **SPARED})
    recipe["model"]["dtype"] = "bfloat16"
    run = burnish.train(recipe)
    note = "weights and computation in bfloat16; what learns, and the optimizer's state, in bfloat16"
    assert note in run.folder.read("plan.json")["notes"]
    saved = weights(run)
    assert {tensor.dtype for tensor in saved.values() if tensor.is_floating_point()} == {torch.bfloat16}
    assert all(math.isfinite(value) for part in run.metrics.values() for value in part.values())
    loaded = burnish.load(run.path)
    assert loaded.model.dtype == torch.bfloat16 and loaded.predict([CASES[task].asked])


def test_weights_of_bf16_resume_with_the_same_bits(made: Make, dropout_bert: Path) -> None:
    options: dict[str, Any] = {"model": {"name": str(dropout_bert), "dtype": "bfloat16"}, "train": WHOLE}
    whole = burnish.train(made("classify", "whole", **options))
    broken = broken_off(made("classify", "broken", **options), 3)
    assert_same(whole, broken)
    assert_folders_same(whole, broken)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lora_learns_in_float32_over_weights_of_half_precision(dtype: str, made: Make) -> None:
    recipe = made("continue", "run", method="lora", train=WHOLE)
    recipe["model"]["dtype"] = dtype
    run = burnish.train(recipe)
    note = f"weights and computation in {dtype}; what learns, and the optimizer's state, in float32"
    assert note in run.folder.read("plan.json")["notes"]
    assert all(math.isfinite(value) for part in run.metrics.values() for value in part.values())
    assert burnish.load(run.path).predict([CASES["continue"].asked])


# What is refused


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ({}, "the norm of the whole gradient cannot be clipped; say train.max_grad_norm=null"),
        ({"max_grad_norm": None, "precision": "fp16"}, "an overflow of fp16 would be seen too late"),
        ({"max_grad_norm": None, "micro_batch": 4}, "leave train.micro_batch out, or say train.micro_batch=6"),
        ({"max_grad_norm": None, "micro_batch": "4096tok"}, "a batch goes through at once"),
    ],
)
def test_what_updates_within_backward_cannot_do_is_refused(train: dict[str, Any], reason: str, made: Make) -> None:
    recipe = made("classify", "run", train={"batch_size": 6, "in_backward": True, **train})
    with pytest.raises(RecipeError) as caught:
        burnish.train(recipe)
    assert reason in str(caught.value) and len(caught.value.problems) == 1
    assert not Path(recipe["run"]).exists()


def test_a_technique_that_needs_the_whole_gradient_is_refused_within_backward(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Penalty(Technique):
        def differentiated(self) -> float:
            return 1.0

    monkeypatch.setattr(build, "techniques", lambda *parts: [Technique(), Penalty()])
    with pytest.raises(ModelError, match=r"Penalty needs the whole gradient: leave one of the two out"):
        burnish.train(made("classify", "run", train={**WHOLE, "in_backward": True}))
    monkeypatch.setattr(build, "techniques", lambda *parts: [Technique()])
    burnish.train(made("classify", "run", train={**WHOLE, "in_backward": True}))


def test_weights_of_half_precision_that_cannot_learn_are_refused(made: Make) -> None:
    recipe = made("classify", "run", train=WHOLE)
    recipe["model"]["dtype"] = "float16"
    with pytest.raises(ModelError, match=r"weights in float16 cannot learn.*model.dtype=float32 with train.precision=fp16"):
        burnish.train(recipe)
    recipe["train"] = {**WHOLE, "precision": "fp16"}
    with pytest.raises(RecipeError, match=r"fp16 needs weights in float32 to add small steps to; model.dtype is float16"):
        burnish.train(recipe)


@pytest.mark.parametrize("train", [{"checkpoint_blocks": 0}, {"offload": ["weights"]}, {"precision": "fp8"}, {"offload": "optimizer"}])
def test_wrong_values_are_refused_before_anything_is_loaded(train: dict[str, Any], made: Make) -> None:
    with pytest.raises(RecipeError, match=next(iter(train))):
        burnish.train(made("classify", "run", train=train))
