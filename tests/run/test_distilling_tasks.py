"""Distillation of every task, and with what else a recipe may hold: LoRA, recomputed blocks, averaged weights, labels of other kinds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import burnish
from burnish import build, teaching
from burnish.core.errors import ModelError
from burnish.recipe import load
from burnish.run.finished import Run
from cases import CASES, recipe_of

Make = Callable[..., dict[str, Any]]
TASKS = sorted(CASES)


def silent(*told: Any) -> None:
    """Hears nothing."""


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """The recipe of a task on its tiny model, in a run of a name."""

    def make(task: str, name: str, **sections: Any) -> dict[str, Any]:
        settings = recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path, **sections)
        return {**settings, "run": str(tmp_path / name)}

    return make


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"]


def taught(teacher: Run, settings: dict[str, Any], **distill: Any) -> dict[str, Any]:
    """The recipe of a student of one block."""
    model = settings["model"] if isinstance(settings["model"], dict) else {"name": settings["model"]}
    model = {**model, "layers": 1}
    return {**settings, "model": model, "distill": {"teacher": str(teacher.path), "temperature": 2.0, **distill}}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_distilled_and_how_a_batch_is_cut_changes_nothing(task: str, made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers kept, asked anew, and whole batches or single examples: one and the same curve."""
    teacher = burnish.train(made(task, "teacher"))
    runs = []
    for name, cut, most in (("kept", 8, teaching.MOST_BYTES), ("single", 1, teaching.MOST_BYTES), ("asked", 8, 0)):
        monkeypatch.setattr(teaching, "MOST_BYTES", most)
        if most == 0:
            monkeypatch.setattr(teaching.cache, "root", lambda: Path("/nonexistent/cache"))
        settings = taught(teacher, made(task, name))
        settings["train"] = {**settings["train"], "micro_batch": cut, "duration": "1ep"}
        runs.append(burnish.train(settings))
    curves = [losses(run) for run in runs]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4) and curves[2][0] == pytest.approx(curves[0][0], abs=1e-6)
    told = [" ".join(run.folder.read("plan.json")["notes"]) for run in runs]
    assert ("not asked again" in told[0]) == (task != "fill") and "asked anew" in told[2]
    assert len(burnish.load(runs[0].path).predict([CASES[task].asked])) == 1


@pytest.mark.parametrize("task", ["chat", "classify", "rewrite"])
def test_a_student_like_its_teacher_loses_nothing_against_it(task: str, made: Make) -> None:
    """The teacher's own weights as the student: no soft loss, no distance of hidden states or attention, on decoders and two stacks."""
    teacher = burnish.train(made(task, "teacher"))
    settings = made(task, "student", optimizer={"lr": 1e-12})
    settings["model"] = {"name": str(teacher.folder.model)}
    settings["train"] = {**settings["train"], "duration": "2st"}
    settings["distill"] = {"teacher": str(teacher.path), "weight": 1.0, "hidden": 1.0, "attention": 1.0}
    assert losses(burnish.train(settings)) == pytest.approx([0.0, 0.0], abs=1e-5)


def test_numbers_are_drawn_to_the_teachers_numbers(recipe: Make, tmp_path: Path) -> None:
    """Alone against the teacher (weight 1) the loss is the squared error to what the teacher predicts, whatever the rows say."""
    rows = [{"text": f"{number} candles are lovely", "label": number / 8} for number in range(16)]
    (tmp_path / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections: dict[str, Any] = {"data": {"train": str(tmp_path / "numbers.jsonl"), "validation": None}, "task": {"problem": "regression"}}
    teacher = burnish.train(recipe("teacher", **sections))
    settings = recipe("student", **sections, train={"batch_size": 16, "duration": "1st"}, optimizer={"lr": 1e-12})
    run = burnish.train(taught(teacher, settings, weight=1.0))
    theirs, ours = ([one["value"] for one in each.predict([row["text"] for row in rows])] for each in (teacher, run))
    assert losses(run) == pytest.approx([float(np.mean((np.array(theirs) - np.array(ours)) ** 2))], rel=1e-4)


def test_several_labels_are_each_a_choice_of_their_own(recipe: Make, tmp_path: Path) -> None:
    """Against the teacher alone: T^2 times the divergence of two coins for each label, averaged over labels, by hand."""
    rows = [{"text": f"{number} candles", "label": ["few"] * (number < 9) + ["even"] * (number % 2 == 0)} for number in range(16)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections: dict[str, Any] = {"data": {"train": str(tmp_path / "many.jsonl"), "validation": None}, "task": {"problem": "multi_label"}}
    teacher = burnish.train(recipe("teacher", **sections))
    settings = recipe("student", **sections, train={"batch_size": 16, "duration": "1st"}, optimizer={"lr": 1e-12})
    run = burnish.train(taught(teacher, settings, weight=1.0))
    p, q = (
        np.array([list(one["probabilities"].values()) for one in each.predict([row["text"] for row in rows])]) for each in (teacher, run)
    )
    p, q = (1 / (1 + np.exp(-np.log(each / (1 - each)) / 2)) for each in (p, q))
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert losses(run) == pytest.approx([4 * divergence.mean()], rel=1e-3)


@pytest.mark.parametrize(
    "sections",
    [
        {"method": {"name": "lora", "r": 4}},
        {"method": {"name": "adapters", "reduction": 4}},
        {"train": {"checkpoint_blocks": 1}},
        {"train": {"ema": 0.9}},
        {"train": {"in_backward": True, "max_grad_norm": None}},
        {"train": {"precision": "bf16"}},
        {"selective": {"layer_decay": 0.9, "l2_sp": {"alpha": 0.01, "beta": 0.01}}},
        {"dropout": {"all": 0.1}},
        {"data": {"augment": {"steps": ["swap"]}}},
        {"data": {"balance": "oversample"}},
        {"method": {"name": "prompt_tuning", "virtual_tokens": 4}, "distill": {"hidden": 0.0, "attention": 0.0}},
    ],
    ids=["lora", "adapters", "recomputed", "averaged", "in-backward", "bf16", "selective", "dropout", "augmented", "balanced", "prompts"],
)
def test_it_goes_with_what_else_a_recipe_may_hold(recipe: Make, tmp_path: Path, sections: dict[str, Any]) -> None:
    """A teacher that learned by LoRA; insides matched; saved and opened again, the student says the same."""
    teacher = burnish.train(recipe("teacher", method={"name": "lora", "r": 4}))
    insides = {"hidden": 0.5, "attention": 0.5, **sections.get("distill", {})}
    run = burnish.train(taught(teacher, recipe("student", **{**sections, "optimizer": {"lr": 1e-3}}), **insides))
    curve = losses(run)
    assert np.isfinite(curve).all() and np.mean(curve[-4:]) < np.mean(curve[:4])
    texts = ["The candle is lovely.", "My kettle was broken."]
    kept = [json.loads(line) for line in (run.folder.evaluations / "validation.predictions.jsonl").read_text().splitlines()]
    again = burnish.load(run.path)
    assert len(again.predict(texts)) == 2
    evaluated = again.evaluate("validation")
    assert evaluated.metrics["loss"] == pytest.approx(run.metrics["validation"]["loss"], abs=1e-5)
    assert [one["label"] for one in evaluated.predictions] == [one["label"] for one in kept]


def test_a_student_by_lora_holds_the_weights_of_its_few_blocks(recipe: Make) -> None:
    """They are in no other file: the folder has them, and no link."""
    run = burnish.train(recipe("student", model={"layers": [1]}, method={"name": "lora", "r": 4}))
    weights = [path for path in run.folder.model.rglob("*.safetensors") if "adapter" not in path.name]
    assert weights and not any(path.is_symlink() for path in weights)
    assert len(burnish.load(run.path).predict(["lovely"])) == 1


def test_insides_of_other_shapes_are_refused(recipe: Make, tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    from transformers import BertConfig, BertModel

    teacher = burnish.train(recipe("teacher"))
    other = tmp_path / "four-heads"
    shutil.copytree(tiny_bert, other)
    config = json.loads((tiny_bert / "config.json").read_text())
    BertModel(BertConfig(**{**config, "num_attention_heads": 4})).save_pretrained(other)
    settings = recipe("student", distill={"teacher": str(teacher.path), "attention": 1.0})
    with pytest.raises(ModelError, match="the heads and tokens of student and teacher differ"):
        burnish.train({**settings, "model": {"name": str(other)}})


def test_rows_that_a_teacher_cannot_read_whole_are_refused(recipe: Make, tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    from transformers import AutoTokenizer, BertConfig, BertModel

    short = tmp_path / "short"
    shutil.copytree(tiny_bert, short)
    config = json.loads((tiny_bert / "config.json").read_text())
    BertModel(BertConfig(**{**config, "max_position_embeddings": 12})).save_pretrained(short)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.model_max_length = 12
    tokenizer.save_pretrained(short)
    teacher = burnish.train(recipe("teacher", model={"name": str(short)}))
    with pytest.raises(ModelError, match=r"it reads 12 tokens at most.*Set data\.max_length=12"):
        burnish.train(recipe("student", distill={"teacher": str(teacher.path)}))


def test_what_is_packed_is_unpacked() -> None:
    blocked = torch.tensor([[1.0, -2.0, float("-inf")], [0.5, float("-inf"), float("-inf")]])
    parts = [torch.randn(3, 2), blocked, torch.zeros(0, 4)]
    found = teaching.unpacked(teaching.packed(parts).numpy())
    assert np.array_equal(found[0], parts[0].numpy()) and np.array_equal(found[1], blocked[:, :2].numpy())
    assert found[2].shape[0] == 0


def test_a_short_run_or_words_hidden_anew_are_not_kept(recipe: Make) -> None:
    teacher = burnish.train(recipe("teacher"))
    settings = load(recipe("student", distill={"teacher": str(teacher.path)}, train={"duration": "2st"}))
    parts = build.assemble(settings, build.gather(settings), silent)
    build.call_teacher(parts, silent, silent)
    assert parts.teaching is not None and isinstance(parts.teaching.ask, teaching.Teacher)
    assert any("less than all rows" in note for note in parts.teaching.notes)


def test_a_learning_rate_is_found_with_the_teacher(recipe: Make) -> None:
    """The losses tried are those of the distilled student: with all weight on a teacher that is the student itself, none at first."""
    from burnish.run.finding import find_lr

    teacher = burnish.train(recipe("teacher"))
    settings = recipe("student", model={"name": str(teacher.folder.model)}, distill={"teacher": str(teacher.path), "weight": 1.0})
    assert max(map(abs, find_lr(settings, lr_min=1e-9, lr_max=1e-8, steps=12).losses)) < 1e-4
