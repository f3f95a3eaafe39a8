"""Whole runs in one process: what they leave, which weights they keep, and when they open the test rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import burnish
from burnish import recipe as recipes
from burnish.core.errors import DataError, RunError
from burnish.data import sources
from burnish.engine import checkpoint
from burnish.engine.events import Event, Noted, Saved, Stepped, Working
from burnish.engine.progress import Selection

MakeRecipe = Callable[..., dict[str, Any]]

WHOLE = {"savings": {"sparse_embedding": False}}
"""So that checkpoints hold the very tables that the model has."""


def weights(run: burnish.Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder.model / "model.safetensors")


def lines(run: burnish.Run, kind: str) -> list[dict[str, Any]]:
    return [line for line in run.folder.read_metrics() if line["kind"] == kind]


# What a run leaves


def test_a_run_leaves_all_that_the_folder_promises(recipe: MakeRecipe, rows_csv: Path, tmp_path: Path, with_report: None) -> None:
    test = shutil.copy(rows_csv, tmp_path / "test.csv")
    heard: list[Event] = []
    made = recipe(data={"test": str(test)}, train={"keep_best": "accuracy", "duration": "8ep"})
    run = burnish.train(made, overrides=["train.seed=1"], listeners=[heard.append])
    found = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file() and "checkpoints" not in path.parts}
    assert found >= {
        "recipe.yaml",
        "environment.json",
        "data.json",
        "plan.json",
        "metrics.jsonl",
        "summary.json",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "evaluations/validation.json",
        "evaluations/validation.predictions.jsonl",
        "evaluations/test.json",
        "evaluations/test.predictions.jsonl",
        "report/index.html",
    }
    assert not [name for name in found if name.endswith((".bin", ".pt", ".pkl", ".part"))]
    assert [path for path in run.path.rglob(".*") if path.name != ".lock"] == []
    assert [type(event).__name__ for event in heard if not isinstance(event, (Stepped, Noted, Working))] == [
        "Began",
        *["Evaluated", "Saved"] * 8,
    ]
    assert [event.step for event in heard if isinstance(event, Stepped)] == list(range(1, 41))
    assert set(run.metrics) == {"validation", "test"} and run.metrics["test"]["accuracy"] > 0.8
    assert repr(run) == f"Run({str(tmp_path / 'run')!r})"


def test_the_recipe_left_is_resolved_and_makes_the_same_run_again(recipe: MakeRecipe, rows_csv: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.yaml"
    given.write_text(yaml.safe_dump({**recipe(), "data": {"train": "rows.csv", "validation": "25%"}, "schedule": "cosine"}))
    run = burnish.train(given)
    left = yaml.safe_load(run.folder.recipe.read_text())
    assert left["data"]["train"] == str(rows_csv), "paths are absolute"
    assert left["task"]["labels"] == ["complaint", "praise"], "what the data taught is in it"
    assert (left["method"], left["schedule"]["name"]) == ({"name": "full"}, "cosine"), "bare names are written out"
    assert left["train"] | {"duration": "2ep", "save_limit": 2, "seed": 0, "micro_batch": "auto"} == left["train"], (
        "defaults are written out"
    )
    assert recipes.load(run.folder.recipe) == run.recipe
    again = burnish.train(run.folder.recipe, overrides=[f"run={tmp_path / 'again'}"])
    assert (again.folder.model / "model.safetensors").read_bytes() == (run.folder.model / "model.safetensors").read_bytes()


def test_metrics_have_a_line_for_each_step_and_evaluation(recipe: MakeRecipe) -> None:
    run = burnish.train(recipe(train={"evaluate_every": "4st"}, schedule={"name": "linear", "warmup": "20%"}))
    steps, evaluations = lines(run, "step"), lines(run, "evaluation")
    assert [line["step"] for line in steps] == list(range(1, 11))
    assert [line["step"] for line in evaluations] == [4, 8, 10]
    assert [line["examples"] for line in steps] == [8, 8, 8, 8, 4] * 2, "36 rows for training, 12 for validation"
    assert [line["lr"] for line in steps] == pytest.approx([0, 0.005, *(0.01 * (10 - step) / 8 for step in range(2, 10))])
    assert [line["epoch"] for line in steps] == pytest.approx([step / 5 for step in range(1, 11)])
    assert [line["fraction"] for line in steps] == pytest.approx([step / 10 for step in range(1, 11)])
    for line in steps:
        assert 0 < line["tokens"] <= line["slots"] and line["loss"] > 0 and line["grad_norm"] > 0 and line["memory"] > 1e8
    seconds = [line["seconds"] for line in steps]
    assert seconds == sorted(seconds)
    assert set(evaluations[0]["metrics"]) == {"loss", "accuracy", "macro_f1", "mcc"}


def test_summary_and_plan_hold_the_figures_people_know(recipe: MakeRecipe) -> None:
    run = burnish.train(recipe())
    summary, plan, steps = run.summary, run.folder.read("plan.json"), lines(run, "step")
    assert (summary["steps"], summary["epochs"], summary["ended"], summary["kept_step"]) == (10, 2.0, "duration reached", 10)
    assert summary["samples_per_second"] == pytest.approx(72 / summary["seconds"])
    assert summary["steps_per_second"] == pytest.approx(10 / summary["seconds"])
    assert summary["mean_loss"] == pytest.approx(sum(line["loss"] for line in steps) / 10)
    tokens, slots = (sum(line[name] for line in steps) for name in ("tokens", "slots"))
    assert summary["padding_share"] == pytest.approx(1 - tokens / slots)
    model = run.model
    embeddings = sum(p.numel() for name, p in model.named_parameters() if ".embeddings." in name)
    computing = sum(p.numel() for p in model.parameters()) - embeddings
    assert summary["flos"] == pytest.approx(6 * slots * computing)
    total = sum(p.numel() for p in model.parameters())
    assert (plan["parameters"]["total"], plan["parameters"]["trainable"], plan["steps"]) == (total, total, 10)
    data = run.folder.read("data.json")
    assert {part: facts["rows"] for part, facts in data["parts"].items()} == {"train": 36, "validation": 12}
    assert data["labels"]["validation"] == {"complaint": 6, "praise": 6}


# Which weights are kept


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """Lets the choice of the best weights see the given values instead of the metric found, by step; elsewhere 0.5."""

    def script(values: dict[int, float]) -> None:
        real = Selection.judge
        monkeypatch.setattr(
            Selection, "judge", lambda self, progress, metrics: real(self, progress, {self.metric: values.get(progress.step, 0.5)})
        )

    return script


@pytest.mark.parametrize(("metric", "value"), [("loss", 0.1), ("accuracy", 0.9)])
def test_keep_best_keeps_the_best_weights(recipe: MakeRecipe, scripted: Callable[..., None], metric: str, value: float) -> None:
    scripted({3: 1 - value, 6: value})
    run = burnish.train(recipe(train={"keep_best": metric, "evaluate_every": "1st", "save_limit": 1}, schedule="constant", engine=WHOLE))
    evaluations = {line["step"]: line for line in lines(run, "evaluation")}
    assert [step for step, line in evaluations.items() if line["best"]] == [1, 6]
    assert (run.summary["kept_step"], run.summary["best"]) == (6, {"metric": metric, "value": value, "step": 6})
    assert checkpoint.steps(run.folder) == [6, 10], "the best checkpoint outlives save_limit"
    kept, last = (load_file(checkpoint.folder_of(run.folder, step) / "model.safetensors") for step in (6, 10))
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, kept[name]), name
    assert any(not torch.equal(tensor, last[name]) for name, tensor in kept.items())
    assert evaluations[6]["metrics"]["loss"] != evaluations[10]["metrics"]["loss"]
    assert run.metrics["validation"] == pytest.approx(evaluations[6]["metrics"], abs=1e-6), (
        "the evaluation kept is that of the weights kept"
    )
    assert run.evaluate("validation").metrics == pytest.approx(evaluations[6]["metrics"], abs=1e-6), "and that of the model on disk"


def test_without_keep_best_the_last_weights_are_kept(recipe: MakeRecipe) -> None:
    run = burnish.train(recipe(train={"evaluate_every": "1st"}, engine=WHOLE))
    last = load_file(checkpoint.folder_of(run.folder, 10) / "model.safetensors")
    assert all(torch.equal(tensor, last[name]) for name, tensor in weights(run).items())
    assert run.summary["best"] is None and run.metrics["validation"] == pytest.approx(lines(run, "evaluation")[-1]["metrics"], abs=1e-6)


def test_early_stopping_ends_the_run(recipe: MakeRecipe, scripted: Callable[..., None]) -> None:
    scripted({1: 0.4, 2: 0.3, 4: 0.2, 7: 0.1})
    run = burnish.train(recipe(train={"keep_best": "loss", "patience": 2, "evaluate_every": "1st", "duration": "50ep"}, engine=WHOLE))
    assert run.summary["ended"] == "early stopping: no better in 2 evaluations"
    assert (run.summary["steps"], run.summary["kept_step"]) == (6, 4)
    assert [line["best"] for line in lines(run, "evaluation")] == [True, True, False, True, False, False]
    kept = load_file(checkpoint.folder_of(run.folder, 4) / "model.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights(run).items())


def test_a_best_checkpoint_that_is_damaged_is_not_passed_off_as_the_model(recipe: MakeRecipe, scripted: Callable[..., None]) -> None:
    path = Path(recipe()["run"])

    def damage(event: Event) -> None:
        if isinstance(event, Saved) and event.step == 5:
            file = path / "checkpoints/step-00000005/model.safetensors"
            file.write_bytes(file.read_bytes()[:-1] + b"\x55")

    scripted({5: 0.1})
    with pytest.raises(RunError, match=r"step-00000005, is torn: model.safetensors has changed"):
        burnish.train(recipe(train={"keep_best": "loss"}), listeners=[damage])
    assert not (path / "summary.json").exists()


# Lengths and formats


def test_a_duration_in_seconds(recipe: MakeRecipe) -> None:
    run = burnish.train(
        recipe(train={"duration": "1s", "evaluate_every": "0.4s", "save_every": "0.3s"}, schedule={"name": "linear", "warmup": "10%"})
    )
    steps = lines(run, "step")
    assert 1 <= run.summary["seconds"] < 5 and len(steps) > 5
    assert steps[-1]["fraction"] == 1.0 and steps[-2]["seconds"] < 1.0
    assert len(lines(run, "evaluation")) >= 2 and run.folder.read("plan.json")["steps"] is None
    rates = [line["lr"] for line in steps]
    assert rates[0] == 0 and 0 < max(rates) <= 0.01 and rates[-1] < 0.005


def test_bf16_trains_and_leaves_fp32_weights(recipe: MakeRecipe) -> None:
    half, full = (burnish.train(recipe(name, train={"precision": name, "duration": "8ep"})) for name in ("bf16", "fp32"))
    assert {tensor.dtype for tensor in weights(half).values()} == {torch.float32}
    first = [lines(run, "step")[0]["loss"] for run in (half, full)]
    assert first[0] != first[1] and first[0] == pytest.approx(first[1], rel=0.02)
    assert half.metrics["validation"]["accuracy"] > 0.8
    assert half.predict(["My kettle was awful"])[0]["label"] == "complaint"


def test_from_scratch_forgets_the_weights_and_seeds_differ(recipe: MakeRecipe, tiny_bert: Path) -> None:
    at_start = {"train": {"duration": "1st"}, "optimizer": {"lr": 1e-12}}
    fresh = {"model": {"from_scratch": True}, **at_start}
    seeds = [weights(burnish.train(recipe(f"scratch-{number}", **fresh), [f"train.seed={seed}"])) for number, seed in enumerate((1, 2, 2))]
    base = load_file(tiny_bert / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(seeds[1]["bert." + name], seeds[2]["bert." + name])
    assert not torch.allclose(seeds[0]["bert." + name], seeds[1]["bert." + name], atol=1e-3)
    assert not torch.allclose(seeds[0]["bert." + name], base[name], atol=1e-3)
    loaded = weights(burnish.train(recipe("loaded", **at_start)))
    assert torch.allclose(loaded["bert." + name], base[name], atol=1e-6)


# The test rows are opened once, at the end


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file of data that is opened, and every step, in order."""
    order: list[str] = []
    real = sources.open_bytes

    def spy(path: Path) -> Any:
        order.append(path.name)
        return real(path)

    monkeypatch.setattr(sources, "open_bytes", spy)
    return order


def test_the_test_file_is_opened_once_and_after_training(
    recipe: MakeRecipe, rows_csv: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(rows_csv, tmp_path / "test.csv")
    digests: list[str] = []
    real = sources.fingerprint
    monkeypatch.setattr(
        sources, "fingerprint", lambda source: (digests.append(f"{Path(source).name} after {len(opened)}"), real(source))[1]
    )

    def listen(event: Event) -> None:
        if isinstance(event, (Stepped, Saved)):
            opened.append(type(event).__name__)

    run = burnish.train(recipe(data={"test": str(tmp_path / "test.csv")}), listeners=[listen])
    assert opened.count("test.csv") == 1 and opened[-1] == "test.csv"
    assert opened.count("Stepped") == 10 and opened[-2] == "Saved"
    assert [entry for entry in digests if entry.startswith("test")] == [f"test.csv after {len(opened)}"]
    assert run.folder.read("data.json")["parts"]["test"]["rows"] == 48
    assert "36 test rows of 48 also stand in training" in " ".join(run.folder.read("data.json")["warnings"])


def test_a_test_share_is_held_out_and_measured(recipe: MakeRecipe) -> None:
    run = burnish.train(recipe(data={"test": "25%"}))
    parts = run.folder.read("data.json")["parts"]
    assert {part: facts["rows"] for part, facts in parts.items()} == {"train": 24, "validation": 12, "test": 12}
    numbers = {
        part: {json.loads(line)["row"] for line in (run.folder.evaluations / f"{part}.predictions.jsonl").read_text().splitlines()}
        for part in ("validation", "test")
    }
    assert len(numbers["test"]) == 12 and not numbers["test"] & numbers["validation"]


FAULTY = {
    "unknown label": ("text,label\nlovely,praise\nmeh,shrug\n", "shrug"),
    "empty text": ("text,label\n,praise\n", "row 1"),
    "no such column": ("message,label\nlovely,praise\n", "no column `text`"),
    "empty": ("", "empty"),
    "no rows": ("text,label\n", "empty"),
}


@pytest.mark.parametrize(("content", "word"), FAULTY.values(), ids=FAULTY)
def test_faulty_test_rows_cost_no_training(recipe: MakeRecipe, tmp_path: Path, content: str, word: str) -> None:
    test = tmp_path / "test.csv"
    test.write_text(content)
    made = recipe(data={"test": str(test)}, train={"duration": "2st"})
    with pytest.raises(DataError, match=r"The model is trained and saved, but the test rows cannot be used") as caught:
        burnish.train(made)
    assert caught.value.exit_code == 2
    assert word in str(caught.value) and f"burnish evaluate {made['run']} --part test" in str(caught.value)
    run = burnish.load(made["run"])
    assert (
        run.summary["steps"] == 2 and run.predict(["lovely"])[0]["label"] in ("praise", "complaint") and set(run.metrics) == {"validation"}
    )
    test.write_text("text,label\nlovely,praise\nawful,complaint\n")
    assert len(run.evaluate("test").predictions) == 2
    assert set(burnish.load(made["run"]).metrics) == {"validation", "test"}
    assert burnish.resume(made["run"]).summary == run.summary, "it counts as finished"
