"""`burnish show`: schedules drawn, groups and parameters listed, as the run that follows has them; without reading weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import burnish
from burnish.cli import app, guarded
from burnish.core.errors import ModelError
from burnish.run.outlook import outline, show_groups, show_parameters, show_schedule

MakeRecipe = Callable[..., dict[str, Any]]


def test_groups_and_parameters_are_those_of_the_run(recipe: MakeRecipe) -> None:
    for name, sections in {
        "plain": {},
        "selective": {"selective": {"layer_decay": 0.5, "head": 3.0, "decay": {"*pooler*": 0.3}}},
        "lora": {"method": "lora", "selective": {"layer_decay": 0.5}},
        "frozen": {"method": {"name": "freeze", "blocks": 1}},
    }.items():
        made = recipe(name, train={"duration": "1st"}, **sections)
        groups, parts = show_groups(made), show_parameters(made)
        plan = burnish.train(made).folder.read("plan.json")
        assert groups == plan["groups"], name
        assert sum(part.total for part in parts) == plan["parameters"]["total"]
        assert sum(part.learning for part in parts) == plan["parameters"]["trainable"]


def test_no_weights_are_read(recipe: MakeRecipe) -> None:
    found = outline(recipe())
    assert {parameter.device.type for parameter in found.model.parameters()} == {"meta"}
    assert set(found.anatomy.fresh) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "roberta"])
def test_models_of_random_weights_have_parts_too(recipe: MakeRecipe, name: str) -> None:
    parts = show_parameters(recipe(model={"name": f"new:{name}", "tokenizer": "bundled:tokenizer"}))
    assert parts and all(part.total > 0 for part in parts)


@pytest.mark.parametrize(("method", "numbers"), [("prompt_tuning", 5 * 32), ("prefix_tuning", 5 * 2 * 2 * 32)])
def test_virtual_tokens_are_counted(recipe: MakeRecipe, method: str, numbers: int) -> None:
    """n embeddings of the width of the model, or n keys and as many values in each of its two blocks."""
    parts = show_parameters(recipe(method={"name": method, "virtual_tokens": 5}))
    assert [(part.place, part.learning) for part in parts if part.role == "added by the method"] == [("embeddings", numbers)]


def test_a_method_that_computes_from_weights_is_refused_with_the_reason(recipe: MakeRecipe) -> None:
    with pytest.raises(ModelError, match=r"method=pissa computes from the weights where it begins"):
        show_parameters(recipe(method="pissa"))


def test_a_drawn_schedule_is_the_one_that_the_run_follows(recipe: MakeRecipe) -> None:
    made = recipe(schedule={"name": "wsd", "warmup": "30%"})
    panel = show_schedule(made)
    run = burnish.train(made)
    lines = [yaml.safe_load(line) for line in run.folder.metrics.read_text().splitlines()]
    assert [rate for _, rate in panel.lines[0].points] == pytest.approx([line["lr"] for line in lines if line["kind"] == "step"])
    assert panel.x_label == "step (1 epoch = 5)" and panel.last_step == 10


def test_a_timed_run_is_drawn_over_seconds(recipe: MakeRecipe) -> None:
    panel = show_schedule(recipe(train={"duration": "2m"}))
    (first, peak), (last, low) = panel.lines[0].points[0], panel.lines[0].points[-1]
    assert (first, peak, panel.x_label, panel.last_step) == (0, 0.01, "seconds", 120)
    assert 119 < last < 120 and low < 0.001


def test_the_commands(recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = tmp_path / "recipe.yaml", tmp_path / "pictures" / "schedule.svg"
    path.write_text(yaml.safe_dump(recipe()))
    for words, told in {
        ("schedule", "schedule=cosine", "-o", str(picture)): [
            "Learning rate, cosine",
            "*****",
            "10 step (1 epoch = 5)",
            f"picture: {picture}",
        ],
        ("groups", "selective.head=4"): ["0.04", "bert.pooler.dense.weight", "bert.embeddings"],
        ("parameters", "method=lora"): ["blocks 1 to 2: attention", "2 (4 D² + 4 D)", "added by the method", "all but the head"],
    }.items():
        command, *rest = words
        assert guarded(lambda command=command, rest=rest: app(["show", command, str(path), *rest], standalone_mode=False)) == 0
        shown = capsys.readouterr().out
        for word in told:
            assert word in shown.replace("\n", " "), (word, shown)
    root = ElementTree.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "learning rate" in picture.read_text()


def test_a_faulty_recipe_is_refused_before_anything_heavy(recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe()))
    assert guarded(lambda: app(["show", "schedule", str(path), "schedule=cosin"], standalone_mode=False)) == 2
    assert "there is no `cosin` - did you mean `cosine`?" in capsys.readouterr().err
