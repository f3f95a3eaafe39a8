"""Whole runs that turn their own knobs, average their weights or drop by place: what is told, kept, resumed and refused."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.core.errors import Interrupted, ModelError, RecipeError
from burnish.core.rundir import RunFolder
from burnish.engine.events import Event, Moved, Stepped
from burnish.recipe import load

MakeRecipe = Callable[..., dict[str, Any]]
EAGER = {"name": "dynamic", "patience": 1, "min_delta": 9.0, "dropout_step": 0.05, "dropout_max": 0.2}
"""With such a min_delta no evaluation but the first is ever better."""
OFTEN = {"evaluate_every": "2st", "save_every": "3st", "seed": 3}
STEADY = ("step", "loss", "grad_norm", "lr", "metrics", "best", "what", "before", "after", "limit", "why")


def lines(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [{key: line[key] for key in STEADY if key in line} for line in folder.read_metrics() if line["kind"] == kind]


def weights(run: burnish.Run) -> bytes:
    return (run.folder.model / "model.safetensors").read_bytes()


def broken_and_resumed(made: dict[str, Any], step: int) -> burnish.Run:
    """A run that ends as if killed when `step` is told, and is gone on with."""

    def strike(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == step:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        burnish.train(made, listeners=[strike])
    return burnish.resume(made["run"])


def test_a_control_moves_tells_and_is_recorded(recipe: MakeRecipe, dropout_bert: Path) -> None:
    heard: list[Event] = []
    schedule = {"name": "constant"}
    run = burnish.train(recipe(model={"name": str(dropout_bert)}, control=EAGER, train=OFTEN, schedule=schedule), listeners=[heard.append])
    moves = lines(run.folder, "move")
    assert [(move["step"], move["what"], move["after"]) for move in moves if move["what"] != "dropout"] == [
        (4, "learning rate", 0.5), (4, "weight decay", 1.5), (6, "learning rate", 0.25), (6, "weight decay", 2.25),
        (8, "learning rate", 0.125), (8, "weight decay", 3.375)
    ]  # fmt: skip
    assert [(move["step"], move["after"]) for move in moves if move["what"] == "dropout"] == [(4, 0.05), (6, pytest.approx(0.1))]
    assert [event.step for event in heard if isinstance(event, Moved)] == [move["step"] for move in moves]
    assert [step["lr"] for step in lines(run.folder, "step")] == pytest.approx([0.01] * 4 + [0.005] * 2 + [0.0025] * 2 + [0.00125] * 2)
    told = "control: after 1 evaluation without a better loss: learning rate ×0.5 (to ×0.01), dropout +0.05 (to 0.2), weight decay ×1.5 (to 0.1)"
    assert told in run.folder.read("plan.json")["notes"]
    assert set(run.predict(["lovely"])[0]["probabilities"]) == {"praise", "complaint"}


@pytest.mark.parametrize("step", [4, 5, 9])
def test_a_control_resumes_to_the_same_weights_and_moves(recipe: MakeRecipe, dropout_bert: Path, step: int) -> None:
    settings = {
        "model": {"name": str(dropout_bert)},
        "control": {**EAGER, "gap": 0.01},
        "train": {**OFTEN, "keep_best": "accuracy", "ema": 0.9},
    }
    whole = burnish.train(recipe("whole", **settings))
    again = broken_and_resumed(recipe("broken", **settings), step)
    for kind in ("step", "evaluation", "move"):
        assert lines(again.folder, kind) == lines(whole.folder, kind)
    assert lines(whole.folder, "move")
    assert weights(again) == weights(whole)


def test_stopped_between_a_step_and_its_evaluation_no_move_comes_twice(recipe: MakeRecipe) -> None:
    made = recipe(control=EAGER, train={"evaluate_every": "2st", "save_every": "99ep"})

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 4:
            signal.raise_signal(signal.SIGTERM)

    def strike(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 5:
            raise ZeroDivisionError

    with pytest.raises(Interrupted):
        burnish.train(made, listeners=[stop])
    with pytest.raises(ZeroDivisionError):
        burnish.resume(made["run"], [strike])
    run = burnish.resume(made["run"])
    rates = [move["step"] for move in lines(run.folder, "move") if move["what"] == "learning rate"]
    assert rates == [4, 6, 8]


def test_a_replay_without_validation_ends_with_the_very_same_weights(recipe: MakeRecipe, dropout_bert: Path, rows_csv: Path) -> None:
    model = {"name": str(dropout_bert)}
    data = {"train": str(rows_csv), "validation": str(rows_csv)}
    watching = burnish.train(recipe("watching", model=model, control=EAGER, train=OFTEN, data=data))
    blind = {"model": model, "train": {**OFTEN, "evaluate_every": "1ep"}, "data": {"validation": None}}
    replay = {"name": "replay", "run": str(watching.path)}
    again = burnish.train(recipe("again", control=replay, **blind))
    assert weights(again) == weights(watching)
    assert lines(again.folder, "move") == lines(watching.folder, "move") != []
    assert lines(again.folder, "evaluation") == []
    assert weights(burnish.train(recipe("plain", **blind))) != weights(watching)
    resumed = broken_and_resumed(recipe("resumed", control=replay, **blind), 7)
    assert weights(resumed) == weights(watching) and lines(resumed.folder, "move") == lines(watching.folder, "move")


def test_a_plateau_lowers_the_rate_and_resumes(recipe: MakeRecipe) -> None:
    schedule = {"name": "plateau", "patience": 1, "min_delta": 9.0, "lr_factor": 0.1, "lr_min": 0.05, "warmup": "2st"}
    whole = burnish.train(recipe("whole", schedule=schedule, train=OFTEN))
    rates = [step["lr"] for step in lines(whole.folder, "step")]
    assert rates == pytest.approx([0.0, 0.005, 0.01, 0.01, 0.001, 0.001, 0.0005, 0.0005, 0.0005, 0.0005])
    assert {move["what"] for move in lines(whole.folder, "move")} == {"learning rate"}
    again = broken_and_resumed(recipe("broken", schedule=schedule, train=OFTEN), 8)
    assert weights(again) == weights(whole) and lines(again.folder, "move") == lines(whole.folder, "move")


def averages_by_hand(folder: RunFolder, start: dict[str, torch.Tensor], decay: float, steps: int) -> dict[str, torch.Tensor]:
    """The average of the weights in the checkpoints of every step."""
    average = {name: weight.double() for name, weight in start.items()}
    for step in range(steps):
        now = min(decay, (1 + step) / (10 + step))
        learning = load_file(folder.checkpoints / f"step-{step + 1:08d}" / "model.safetensors")
        average = {name: now * average[name] + (1 - now) * learning[name].double() for name in average}
    return average


def test_the_average_is_evaluated_and_kept_while_the_weights_go_on(recipe: MakeRecipe, tiny_bert: Path) -> None:
    often = {"save_every": "1st", "save_limit": 99, "evaluate_every": "5st"}
    whole = {"savings": {"sparse_embedding": False}}  # so that checkpoints hold the tables that the model has
    run = burnish.train(recipe("averaged", train={**often, "ema": 0.8}, engine=whole))
    plain = burnish.train(recipe("plain", train=often, engine=whole))
    assert [step["loss"] for step in lines(run.folder, "step")] == [step["loss"] for step in lines(plain.folder, "step")]
    kept = load_file(run.folder.model / "model.safetensors")
    start = {f"bert.{name}": weight for name, weight in load_file(tiny_bert / "model.safetensors").items()}
    expected = averages_by_hand(
        run.folder, {name: weight for name, weight in start.items() if "pooler" not in name and name in kept}, 0.8, 10
    )
    assert len(expected) > 30
    for name, average in expected.items():
        torch.testing.assert_close(kept[name].double(), average, rtol=1e-5, atol=1e-6)
    last = run.folder.read("evaluations/validation.json")["metrics"]
    assert (
        lines(run.folder, "evaluation")[-1]["metrics"]["loss"]
        == last["loss"]
        == pytest.approx(burnish.load(run.path).evaluate().metrics["loss"])
    )
    assert last["loss"] != plain.folder.read("evaluations/validation.json")["metrics"]["loss"]


def test_the_best_average_is_kept(recipe: MakeRecipe) -> None:
    """A learning rate so high that the last weights are not the best."""
    settings = {"duration": "4ep", "evaluate_every": "2st", "keep_best": "loss", "ema": 0.9}
    run = burnish.train(recipe(train=settings, optimizer={"lr": 0.5}, schedule={"name": "constant"}))
    best = run.summary["best"]
    assert best["step"] < run.summary["steps"]
    assert burnish.load(run.path).evaluate().metrics["loss"] == pytest.approx(best["value"], rel=1e-5)


@pytest.mark.parametrize("method", ["lora", {"name": "freeze", "blocks": 1}, "head"])
def test_averages_go_with_other_methods_and_resume(recipe: MakeRecipe, method: Any) -> None:
    settings = {"method": method, "train": {**OFTEN, "ema": 0.7}, "dropout": {"all": 0.1}, "control": EAGER}
    whole, again = burnish.train(recipe("whole", **settings)), broken_and_resumed(recipe("broken", **settings), 8)
    assert whole.predict(["lovely", "late"]) == again.predict(["lovely", "late"])
    assert lines(whole.folder, "step") == lines(again.folder, "step")


@pytest.mark.parametrize("train", [{"in_backward": True, "max_grad_norm": None}, {"checkpoint_blocks": 1}])
def test_ways_to_spare_memory_change_nothing_of_it(recipe: MakeRecipe, train: dict[str, Any]) -> None:
    settings = {"control": EAGER, "dropout": {"feed_forward": 0.2, "head": 0.1}}
    frugal = burnish.train(recipe("frugal", train={**OFTEN, "ema": 0.7, **train}, **settings))
    plain = burnish.train(
        recipe("plain", train={**OFTEN, "ema": 0.7, "micro_batch": 8, "max_grad_norm": None if "in_backward" in train else 1.0}, **settings)
    )
    assert weights(frugal) == weights(plain)


def test_dropout_by_place_acts_and_is_not_saved(recipe: MakeRecipe, tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "the candle is lovely and number {n} is late"}}\n' for n in range(8)))
    shared = {"model": {"name": str(tiny_llama)}, "task": {"name": "continue"}, "data": {"train": str(tmp_path / "texts.jsonl")}}
    runs = [
        burnish.train(recipe(f"run{number}", **shared, dropout=dropout, train={"duration": "2st"}))
        for number, dropout in enumerate(({}, {"feed_forward": 0.3, "last": {"blocks": 1, "p": 0.5}}, {"all": 0.0}))
    ]
    losses = [lines(run.folder, "step")[0]["loss"] for run in runs]
    assert losses[0] == losses[2] != losses[1]
    place = "dropout: attention 0 to 0.5, feed_forward 0.3 to 0.5"
    assert [place in run.folder.read("plan.json")["notes"] for run in runs] == [False, True, False]
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM.from_pretrained(runs[1].folder.model)
    assert found.config.attention_dropout == 0.0
    assert burnish.load(runs[1].path).predict(["the"])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"control": {"name": "dynamic", "metric": "acuracy"}}, "`control.metric`: there is no metric `acuracy` - did you mean `accuracy`"),
    ({"control": "dynamic", "data": {"validation": None}}, "`control` needs validation rows to watch"),
    ({"control": {"patience": None}}, "it watches nothing"),
    ({"control": {"lr_factr": 0.5}}, "`control.lr_factr` is unknown"),
    ({"control": {"gap": 0.1}, "loss": {"smoothing": 0.1}}, "`control.gap` compares the training loss with the validation loss"),
    ({"control": "dynamic", "schedule": "plateau"}, "`control` and schedule=plateau both turn the learning rate"),
    ({"schedule": "plateau", "data": {"validation": None}}, "`schedule` needs validation rows to watch"),
    ({"schedule": {"name": "plateau", "metric": "f2"}}, "`schedule.metric`: there is no metric `f2`"),
    ({"control": {"name": "replay", "run": "no-such-run"}}, "`control.run`: .*no-such-run is not a run"),
    ({"control": {"name": "replay"}}, "`control.run` is missing"),
    ({"control": "dynamik"}, "`control`: there is no `dynamik` - did you mean `dynamic`"),
    ({"dropout": {"heads": 0.1}}, "`dropout.heads` is unknown - did you mean `head`"),
    ({"dropout": {"head": 1.0}}, "`dropout.head`: .* less than 1"),
    ({"dropout": {"last": {"p": 0.1}}}, "`dropout.last.blocks` is missing"),
    ({"train": {"ema": 1.0}}, "`train.ema`: .* less than 1"),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "reason"), REFUSED)
def test_what_cannot_go_together_is_refused_before_anything_is_loaded(recipe: MakeRecipe, sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        burnish.train(recipe(**sections))


def test_a_run_without_moves_cannot_be_replayed(recipe: MakeRecipe, tmp_path: Path) -> None:
    burnish.train(recipe("plain", train={"duration": "1st"}))
    with pytest.raises(RecipeError, match="made no moves"):
        burnish.train(recipe("again", control={"name": "replay", "run": str(tmp_path / "plain")}))


def test_the_run_to_replay_is_found_from_everywhere(recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    burnish.train(recipe("moved", control=EAGER, train=OFTEN))
    monkeypatch.chdir(tmp_path)
    made = load(recipe("again", control={"name": "replay", "run": "moved"}))
    assert made.control.run == str(tmp_path / "moved")
    assert load(made).control == made.control


def test_a_block_that_the_model_does_not_have_is_refused(recipe: MakeRecipe) -> None:
    with pytest.raises(ModelError, match="has 2 blocks, not 5"):
        burnish.train(recipe(dropout={"last": {"blocks": 5, "p": 0.1}}))
