"""Optimizers, schedules and the `selective` section in whole runs: resumed to the same bits, loaded again, told in what a run records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.core import registry
from burnish.core.errors import ModelError, RecipeError
from burnish.engine import checkpoint
from burnish.engine.events import Event, Stepped

MakeRecipe = Callable[..., dict[str, Any]]
SHORT = {"duration": "6st", "save_every": "3st", "evaluate_every": "99ep"}


class Broken(Exception):
    """What stops a run in these tests."""


def broken_off(event: Event) -> None:
    if isinstance(event, Stepped) and event.step == 5:
        raise Broken


def weights(run: Any) -> dict[str, torch.Tensor]:
    """What has learned, as the last checkpoint holds it."""
    last = max(checkpoint.steps(run.folder))
    return load_file(checkpoint.folder_of(run.folder, last) / "model.safetensors")


def steps(run: Any) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    return [{key: line[key] for key in ("loss", "lr", "grad_norm", "penalty") if key in line} for line in lines if line["kind"] == "step"]


def resumed_is_unbroken(make: MakeRecipe, **sections: Any) -> Any:
    """Trains once through and once broken off after step 5 of 6; both end alike. Returns the unbroken run."""
    whole = burnish.train(make("whole", train=SHORT, **sections))
    with pytest.raises(Broken):
        burnish.train(made := make("broken", train=SHORT, **sections), listeners=[broken_off])
    assert checkpoint.steps(burnish.core.rundir.RunFolder(made["run"])) == [3]
    again = burnish.resume(made["run"])
    assert steps(again) == steps(whole) and len(steps(whole)) == 6
    first, second = weights(whole), weights(again)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    return whole


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"weight_decay": 0.01},
    "sgd": {"nesterov": True},
    "plain sgd": {"name": "sgd", "momentum": 0},
    "rmsprop": {"momentum": 0.5, "centered": True},
    "adafactor": {"lr": 0.02},
    "lion": {"lr": 0.001},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_with_any_optimizer_resumes_to_the_same_bits_and_predicts(recipe: MakeRecipe, tiny_bert: Path, name: str) -> None:
    run = resumed_is_unbroken(recipe, optimizer={"name": name, **OPTIMIZERS[name]})
    start, end = load_file(tiny_bert / "model.safetensors"), weights(run)
    assert all(not torch.equal(value, end[f"bert.{name}"]) for name, value in start.items() if name.endswith("dense.weight"))
    assert burnish.load(run.path).predict(["The kettle is lovely"])[0]["label"] in ("praise", "complaint")


@pytest.mark.parametrize("name", sorted(set(registry.specs("schedule")) - {"plateau"}))
def test_a_run_follows_any_schedule(recipe: MakeRecipe, name: str) -> None:
    run = burnish.train(recipe(train=SHORT, schedule={"name": name, "warmup": "2st"}))
    spec: Any = registry.specs("schedule")[name].model_validate({"warmup": "2st"})
    assert [step["lr"] for step in steps(run)] == pytest.approx([0.01 * spec.factor(step, 6) for step in range(6)])


@pytest.mark.parametrize(
    ("warmup", "words"), [("12st", "12 steps is as long as the run or longer (6 steps)"), ("6st", "6 steps"), ("5st", "")]
)
def test_a_warm_up_that_never_ends_is_told(recipe: MakeRecipe, warmup: str, words: str) -> None:
    run = burnish.train(recipe(train=SHORT, schedule={"warmup": warmup}))
    (told,) = [warning for warning in run.folder.read("data.json")["warnings"] if "warm-up" in warning] or [""]
    assert words in told and bool(words) == bool(told)
    if told:
        assert f"gets to {max(step['lr'] for step in steps(run)) / 0.01:.1%} of its peak" in told


def test_a_timed_run_follows_a_joined_schedule(recipe: MakeRecipe) -> None:
    rates: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, Stepped):
            rates.append(event.lr)

    schedule = {"name": "wsd", "warmup": "10%", "decay": "30%"}
    burnish.train(recipe(train={"duration": "1s", "evaluate_every": "99ep", "save_every": "99ep"}, schedule=schedule), listeners=[watch])
    assert rates[0] == 0 and max(rates) == 0.01 and rates[-1] < 0.01


def test_steps_of_a_schedule_do_not_serve_a_timed_run(recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match=r"`schedule.decay`: a run limited by time has no fixed number of steps"):
        burnish.train(recipe(train={"duration": "1m"}, schedule={"name": "wsd", "decay": 5}))


SELECTIVE = {
    "layer_decay": 0.5,
    "head": 2.0,
    "rates": {"*.LayerNorm.*": 0.5},
    "decay": {"embeddings": 0.0},
    "l1": 1e-5,
    "l2": 1e-3,
    "l2_sp": {"alpha": 0.05, "beta": 0.02},
}


def test_a_selective_run_resumes_to_the_same_bits_and_tells_its_groups(recipe: MakeRecipe) -> None:
    run = resumed_is_unbroken(recipe, selective=SELECTIVE)
    assert all(step["penalty"] > 0 for step in steps(run))
    plan = run.folder.read("plan.json")
    assert sum(group["parameters"] for group in plan["groups"]) == plan["parameters"]["trainable"]
    assert {group["lr"] for group in plan["groups"]} == {0.02, 0.005, 0.0025, 0.00125, 0.000625}
    (note,) = [note for note in plan["notes"] if note.startswith("selective")]
    assert "5 learning rates from 0.000625 to 0.02" in note and "penalties: l1, l2, l2_sp" in note
    assert burnish.load(run.path).predict(["My kettle was broken"])[0]["label"] in ("praise", "complaint")


def test_penalties_are_the_same_however_the_batch_is_cut(recipe: MakeRecipe) -> None:
    ways = [
        burnish.train(
            recipe(f"run-{size}", train={**SHORT, "micro_batch": size}, selective=SELECTIVE, optimizer={"name": "sgd", "lr": 0.1})
        )
        for size in (8, 3)
    ]
    for one, other in zip(steps(ways[0]), steps(ways[1]), strict=True):
        assert one["penalty"] == pytest.approx(other["penalty"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_strong_l2_sp_keeps_the_model_near_the_pretrained_one(recipe: MakeRecipe, tiny_bert: Path) -> None:
    start = load_file(tiny_bert / "model.safetensors")
    far: list[float] = []
    for alpha in (0.0, 10.0):
        found = weights(
            burnish.train(
                recipe(
                    f"run-{alpha}",
                    train=SHORT,
                    selective={"l2_sp": {"alpha": alpha, "beta": 0}},
                    optimizer={"name": "sgd", "lr": 0.05, "momentum": 0},
                )
            )
        )
        far.append(
            sum(float((found[f"bert.{name}"] - value).square().sum()) for name, value in start.items() if f"bert.{name}" in found) ** 0.5
        )
    assert 0 < far[1] < 0.7 * far[0]


def test_selective_goes_with_lora(recipe: MakeRecipe) -> None:
    run = resumed_is_unbroken(recipe, method="lora", selective={"layer_decay": 0.8, "l2": 1e-3, "rates": {"*lora_B*": 4.0}})
    assert {round(group["lr"], 5) for group in run.folder.read("plan.json")["groups"]} == {0.01, 0.008, 0.0064, 0.032, 0.0256}


def test_what_cannot_act_is_refused(recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match=r"`selective.l2_sp` holds pretrained weights .* starts at random"):
        burnish.train(recipe(model={"from_scratch": True}, selective={"l2_sp": {}}))
    with pytest.raises(ModelError, match=r"`selective.rates`: no parameter is named 'clasifier.weight' - did you mean `classifier.weight`"):
        burnish.train(recipe(selective={"rates": {"clasifier.weight": 2}}))
    with pytest.raises(RecipeError, match=r"`selective.layer_decy` is unknown - did you mean `layer_decay`"):
        burnish.train(recipe(selective={"layer_decy": 0.5}))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_moves_weights_within_backward_to_the_same_bits(recipe: MakeRecipe, name: str) -> None:
    """Rates of their own for each depth, too; a penalty would need the whole gradient and is refused."""
    sections = {"optimizer": {"name": name, **OPTIMIZERS[name]}, "selective": {"layer_decay": 0.7}}
    plain = {**SHORT, "duration": "3st", "max_grad_norm": None}
    one = weights(burnish.train(recipe("plain", train=plain, **sections)))
    other = weights(burnish.train(recipe("within", train={**plain, "in_backward": True}, **sections)))
    assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(RecipeError, match=r"in_backward.*selective.l2 needs them all"):
        burnish.train(recipe("refused", train={**plain, "in_backward": True}, optimizer=name.rpartition(" ")[2], selective={"l2": 0.1}))


@pytest.mark.parametrize("method", ["adapters", "ia3", "prompt_tuning", "bitfit", "unfreeze", "dora"])
def test_depths_are_known_under_every_kind_of_method(recipe: MakeRecipe, method: str) -> None:
    """Two blocks: the head keeps the rate, nothing that learns is without a place."""
    run = resumed_is_unbroken(recipe, method=method, selective={"layer_decay": 0.5, "l1": 1e-6})
    rates = {group["first"]: group["lr"] for group in run.folder.read("plan.json")["groups"]}
    assert set(rates.values()) <= {0.01, 0.005, 0.0025, 0.00125}
    assert max(rates.values()) == 0.01 and len(set(rates.values())) >= 2
    assert all(rate == 0.0025 for name, rate in rates.items() if ".layer.0." in name)
