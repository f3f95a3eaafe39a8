"""Students that learn from a teacher: every task, every match, with and without kept answers, resumed; and teachers that do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import burnish
from burnish import teaching
from burnish.core.errors import BurnishError, ModelError, RecipeError
from burnish.core.protocols import Course
from burnish.data import sources
from burnish.engine import checkpoint

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def teacher(recipe: Make) -> Path:
    """A run of 2 blocks that learned the rows for an epoch."""
    return burnish.train(recipe("teacher", train={"duration": "1ep"})).path


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Numbers of examples of each batch that a teacher reads."""
    found: list[int] = []
    before = teaching.Teacher.output

    def counted(self: teaching.Teacher, batch: Any) -> Any:
        found.append(len(batch.examples))
        return before(self, batch)

    monkeypatch.setattr(teaching.Teacher, "output", counted)
    yield found


def losses(run: burnish.Run) -> list[float]:
    return [line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"]


def student(recipe: Make, teacher: Path, name: str = "student", **sections: Any) -> dict[str, Any]:
    distill = {"teacher": str(teacher), "temperature": 2.0, "weight": 0.6, **sections.pop("distill", {})}
    return recipe(name, model={"layers": 1}, distill=distill, **sections)


def test_the_first_loss_is_the_formula_and_the_student_is_an_ordinary_model(recipe: Make, teacher: Path) -> None:
    """The first step's loss by hand: both models opened by transformers alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    settings = student(recipe, teacher, train={"batch_size": 48, "duration": "1st"}, optimizer={"lr": 1e-12}, data={"validation": None})
    settings["model"]["name"] = str(teacher / "model")
    run = burnish.train(settings)
    wise = AutoModelForSequenceClassification.from_pretrained(teacher / "model").eval()
    small = AutoModelForSequenceClassification.from_pretrained(run.folder.model).eval()
    assert small.config.num_hidden_layers == 1 and len(small.bert.encoder.layer) == 1
    tokenizer = AutoTokenizer.from_pretrained(teacher / "model")
    rows = sources.read(settings["data"]["train"])
    batch = tokenizer([row.values["text"] for row in rows], padding=True, return_tensors="pt")
    labels = torch.tensor([wise.config.label2id[row.values["label"]] for row in rows])
    with torch.no_grad():
        theirs, ours = wise(**batch).logits, small(**batch).logits
    soft = 4 * F.kl_div(F.log_softmax(ours / 2, -1), F.softmax(theirs / 2, -1), reduction="none").sum(-1)
    expected = 0.4 * F.cross_entropy(ours, labels) + 0.6 * soft.mean()
    assert losses(run) == pytest.approx([expected.item()], rel=1e-5)
    assert run.predict(["The candle is lovely."])[0]["label"] in ("praise", "complaint")


def test_kept_answers_are_those_of_the_teacher_and_a_second_run_does_not_ask_it(
    recipe: Make, teacher: Path, forwards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = burnish.train(student(recipe, teacher, "first"))
    assert sum(forwards) >= 36
    del forwards[:]
    second = burnish.train(student(recipe, teacher, "second"))
    assert forwards == []
    assert losses(second) == losses(first)
    plan = second.folder.read("plan.json")
    assert any("not asked again" in note for note in plan["notes"]) and plan["model"].endswith("tiny-bert (1 block of each stack)")
    assert any("from the teacher teacher (" in note and "temperature 2, weight 0.6" in note for note in plan["notes"])
    monkeypatch.setattr(teaching, "MOST_BYTES", 1)
    shutil.rmtree(teaching.cache.root())
    asked = burnish.train(student(recipe, teacher, "asked"))
    assert any("more than" in note for note in asked.folder.read("plan.json")["notes"])
    assert sum(forwards) > 36 and losses(asked) == pytest.approx(losses(first), abs=1e-6)


def test_another_teacher_is_asked_itself(recipe: Make, teacher: Path, forwards: list[int]) -> None:
    burnish.train(student(recipe, teacher, "first"))
    other = burnish.train(recipe("other", train={"duration": "1ep", "seed": 3})).path
    del forwards[:]
    burnish.train(student(recipe, other, "second"))
    assert sum(forwards) >= 36


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"loss": {"name": "cross_entropy", "smoothing": 0.1}},
        {"loss": {"name": "focal", "class_weights": "balanced"}},
        {"distill": {"hidden": 0.5, "attention": 2.0}},
    ],
    ids=["plain", "smoothed", "focal", "insides"],
)
def test_how_a_batch_is_cut_changes_nothing(recipe: Make, teacher: Path, more: dict[str, Any]) -> None:
    curves = [
        losses(burnish.train(student(recipe, teacher, f"by-{size}", train={"micro_batch": size, "duration": "4st"}, **more)))
        for size in (8, 3)
    ]
    assert curves[0] == pytest.approx(curves[1], rel=2e-4)
    assert curves[0][0] == pytest.approx(curves[1][0], rel=1e-5)


def stopped(settings: dict[str, Any], step: int) -> Path:
    """A run that is thrown back to its checkpoint of `step`, as if it had been killed there."""
    run = burnish.train(settings)
    for name in ("summary.json",):
        (run.path / name).unlink()
    for at in checkpoint.steps(run.folder):
        if at > step:
            shutil.rmtree(checkpoint.folder_of(run.folder, at))
    return run.path


@pytest.mark.parametrize("distill", [{}, {"hidden": 0.5, "attention": 1.0}], ids=["answers", "insides"])
def test_resumed_it_is_the_same_to_the_bit_with_its_projections(
    recipe: Make, tiny_bert: Path, tmp_path: Path, teacher: Path, distill: dict[str, Any]
) -> None:
    narrow = narrower(tiny_bert, tmp_path / "narrow")
    settings = student(recipe, teacher, "whole", train={"duration": "8st", "save_every": "3st", "save_limit": 9}, distill=distill)
    settings["model"] = {"name": str(narrow)}
    whole = burnish.train(settings)
    kept = [checkpoint.folder_of(whole.folder, 8) / name for name in ("model.safetensors", "optimizer.safetensors")]
    before, model = [path.read_bytes() for path in kept], (whole.folder.model / "model.safetensors").read_bytes()
    broken = stopped({**settings, "run": str(tmp_path / "broken")}, 3)
    burnish.resume(broken)
    assert [(broken / "checkpoints" / "step-00000008" / path.name).read_bytes() for path in kept] == before
    assert (broken / "model" / "model.safetensors").read_bytes() == model
    from safetensors.torch import load_file

    projections = [name for name in load_file(kept[0]) if name.startswith("distill.")]
    assert bool(projections) == bool(distill)
    assert not [name for name in load_file(whole.folder.model / "model.safetensors") if "distill" in name]


def narrower(source: Path, target: Path) -> Path:
    """A BERT of one block, 16 wide, with the tokenizer of another."""
    from transformers import BertConfig, BertModel

    shutil.copytree(source, target)
    config = json.loads((source / "config.json").read_text())
    torch.manual_seed(5)
    BertModel(BertConfig(**{**config, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32})).save_pretrained(target)
    return target


def test_projections_learn(recipe: Make, tiny_bert: Path, tmp_path: Path, teacher: Path) -> None:
    from burnish import build
    from burnish.recipe import load
    from burnish.run.stepping import make_step

    settings = student(recipe, teacher, distill={"hidden": 1.0})
    settings["model"] = {"name": str(narrower(tiny_bert, tmp_path / "narrow"))}
    checked = load(settings)
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    build.call_teacher(parts, lambda message: None, lambda what, done, total: None)
    step = make_step(parts, Course(5, 10))
    assert parts.teaching is not None
    (projection,) = parts.teaching.projections.parameters()
    assert projection.shape == (32, 16)
    before = projection.detach().clone()
    step(range(8), 0, 1.0)
    assert not torch.equal(projection, before)
    assert not any(parameter.requires_grad for parameter in parts.teaching.ask.model.parameters())  # type: ignore[attr-defined]


def test_labels_in_another_order_are_put_in_the_students(recipe: Make, teacher: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped"
    shutil.copytree(teacher / "model", swapped)
    config = json.loads((swapped / "config.json").read_text())
    names = [config["id2label"]["1"], config["id2label"]["0"]]
    config |= {
        "id2label": {str(place): name for place, name in enumerate(names)},
        "label2id": {name: place for place, name in enumerate(names)},
    }
    (swapped / "config.json").write_text(json.dumps(config))
    from safetensors.torch import load_file, save_file

    weights = load_file(swapped / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, swapped / "model.safetensors", metadata={"format": "pt"})
    runs = [burnish.train(student(recipe, source, f"of-{source.name}")) for source in (teacher, swapped)]
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=1e-6)


def test_teachers_that_do_not_fit_are_refused_with_the_reason(
    recipe: Make, teacher: Path, tiny_bert: Path, tiny_llama: Path, tmp_path: Path, rows_csv: Path
) -> None:
    with pytest.raises(ModelError, match="not trained for this task"):
        burnish.train(student(recipe, tiny_bert))
    renamed = tmp_path / "renamed"
    shutil.copytree(teacher / "model", renamed)
    (renamed / "config.json").write_text((renamed / "config.json").read_text().replace("praise", "applause"))
    with pytest.raises(ModelError, match="other labels than the student: applause, complaint; expected complaint, praise"):
        burnish.train(student(recipe, renamed))
    other = student(recipe, teacher)
    other["model"] = {"name": str(tiny_llama)}
    with pytest.raises(ModelError, match="cuts text into other tokens"):
        burnish.train(other)
    rows_csv.with_name("fill.csv").write_text("text\n" + "\n".join(f"the parcel is late {number}" for number in range(16)))
    filling = student(recipe, teacher, data={"train": str(rows_csv.with_name("fill.csv")), "validation": None}, task={"name": "fill"})
    with pytest.raises(ModelError, match="learned to classify single_label, the student is to fill"):
        burnish.train(filling)


@pytest.mark.parametrize(
    ("distill", "words"),
    [
        ({"teacher": "/nowhere/run"}, "the folder /nowhere/run does not exist"),
        ({"layers": {0: 1}}, "neither `hidden` nor `attention`"),
        ({"temperature": 0}, "distill.temperature"),
        ({"weight": 1.5}, "distill.weight"),
    ],
)
def test_plain_faults_are_told_before_anything_is_loaded(recipe: Make, tmp_path: Path, distill: dict[str, Any], words: str) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "recipe.yaml").write_text("{}")
    with pytest.raises(RecipeError) as told:
        burnish.train(student(recipe, unfinished, distill=distill))
    assert words in str(told.value)
    with pytest.raises(RecipeError, match="has no model yet"):
        burnish.train(student(recipe, unfinished))


def test_blocks_that_are_not_there_are_named(recipe: Make, teacher: Path) -> None:
    with pytest.raises(ModelError, match="the teacher has no block 2, it has 2 blocks"):
        burnish.train(student(recipe, teacher, distill={"hidden": 1.0, "layers": {0: 2}}))
    with pytest.raises(BurnishError, match="the student has no block 1, it has 1 block"):
        burnish.train(student(recipe, teacher, distill={"attention": 1.0, "layers": {1: 1}}))
