"""The card of a model: readable for the hub, true to the run, free of the machine's folders; and its code runs where the model lies."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

import burnish
from burnish.core import registry
from burnish.recipe import Recipe
from burnish.report.wording import spoken
from burnish.run.card.origin import measured_data
from burnish.run.card.results import standard_error
from burnish.run.training import train
from cases import CASES, recipe_of

MakeRecipe = Callable[..., dict[str, Any]]
assert Recipe.model_fields, "the recipe's import is what fills the registry"

METHODS = [name for name in registry.specs("method") if name not in ("freeze", "tokens", "pissa", "unfreeze", "adalora", "oft")]
"""Those left out cannot be trained on so small a model, or leave folders of the same kind as others."""


def card_of(run: burnish.Run) -> ModelCard:
    path = run.folder.model / "README.md"
    assert metadata_load(path)
    return ModelCard.load(path)


def code_of(card: ModelCard) -> str:
    found = re.search(r"```python\n(.*?)```", card.text, re.S)
    assert found
    return found[1]


def ran(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    monkeypatch.chdir(folder)
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(code, names)
    return capsys.readouterr().out, names


@pytest.mark.parametrize("task", CASES)
def test_each_tasks_code_runs_in_the_folder_of_the_model(
    task: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = request.getfixturevalue(CASES[task].model)
    run = train(recipe_of(task, model, tmp_path, train={"duration": "1st", "batch_size": 4, "device": "cpu"}))
    card = card_of(run)
    assert card.data.pipeline_tag and card.data.library_name == "transformers"
    assert card.data.base_model is None and f"the weights of `{model.name}`" in card.text, "a folder is no id of the hub"
    ran(code_of(card), run.folder.model, monkeypatch, capsys)
    assert str(tmp_path) not in card.content and "/root" not in card.content


@pytest.mark.parametrize("method", METHODS)
def test_each_methods_code_gives_what_the_run_gives(
    recipe: MakeRecipe, method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(recipe(method=method, train={"duration": "2st"}))
    card = card_of(run)
    code = code_of(card)
    adapted = (run.folder.model / "adapter_config.json").is_file()
    assert card.data.library_name == ("burnish" if method == "adapters" else "peft" if adapted else "transformers")
    if method == "adapters":
        ran(code, run.path, monkeypatch, capsys)
        return
    _, names = ran(code, run.folder.model, monkeypatch, capsys)
    text = "Where is my parcel?"
    with torch.no_grad():
        logits = names["model"](**names["tokenizer"](text, return_tensors="pt")).logits
    found = dict(zip(run.learner.task.labels, logits.softmax(-1)[0].tolist(), strict=True))
    assert found == pytest.approx(run.predict(text)[0]["probabilities"], abs=1e-5)


def test_the_head_is_the_hubs_and_its_numbers_the_runs(recipe: MakeRecipe, rows_csv: Path) -> None:
    run = train(recipe(data={"train": str(rows_csv), "validation": "25%", "test": str(rows_csv)}, train={"duration": "2st"}))
    card = card_of(run)
    (result,) = {(one.dataset_split, one.task_type) for one in card.data.eval_results}
    assert result == ("test", "text-classification") and card.data.model_name == "run"
    values = {one.metric_name: one.metric_value for one in card.data.eval_results}
    assert values == pytest.approx({spoken(name): value for name, value in run.metrics["test"].items()}, abs=1e-6)
    types = {one.metric_name: one.metric_type for one in card.data.eval_results}
    assert (types["macro F1"], types["MCC"]) == ("f1", "matthews_correlation")
    assert card.data.metrics == ["accuracy", "f1", "matthews_correlation"], "the hub's ids, each once"
    assert {one.dataset_name for one in card.data.eval_results} == {rows_csv.stem}
    rows = len(rows_csv.read_text().splitlines()) - 1
    accuracy = run.metrics["test"]["accuracy"]
    told = next(line for line in card.text.splitlines() if line.startswith("| test | accuracy"))
    value, error, number = (float(cell) for cell in told.strip("| ").split(" | ")[2:5])
    assert (value, number) == (pytest.approx(accuracy, abs=5e-4), rows)
    assert error == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / rows), rel=0.15, abs=2e-3)
    known = json.loads((run.path / "uncertainty.json").read_text())
    assert known["test"]["accuracy"] == pytest.approx(error, abs=6e-4) and set(known) == {"test", "validation"}
    for heading in ("Results", "How to use it", "Data", "Training", "Intended use", "Limits", "Versions"):
        assert f"## {heading}\n" in card.text
    digest = json.loads((run.path / "data.json").read_text())["parts"]["test"]["sha256"]
    assert digest[:16] in card.text and "rows.csv" in card.text


def test_what_was_not_measured_or_is_rare_stands_among_the_limits(recipe: MakeRecipe) -> None:
    text = card_of(train(recipe(train={"duration": "2st", "keep_best": "accuracy"}, model={"from_scratch": True}))).text
    assert "No test rows were measured" in text and "best accuracy" in text
    assert "Every weight started at random" in text
    assert "from 10 rows only" in text or re.search(r"from \d+ rows only", text)


def test_rows_that_are_all_alike_tell_no_error() -> None:
    rows = [{"row": row, "truth": "a", "label": "a", "loss": 0.1 * row} for row in range(9)]
    assert standard_error("accuracy", 1.0, rows) is None
    mixed = [{**row, "label": "b" if number < 3 else "a"} for number, row in enumerate(rows)]
    assert standard_error("accuracy", 6 / 9, mixed) == pytest.approx(math.sqrt(6 / 9 * 3 / 9 / 9), rel=0.1)


def test_results_are_of_the_rows_that_were_measured() -> None:
    content = {"model": "starter:minilm", "task": {"name": "classify", "text": "text", "label": "label"}, "method": "lora"}
    apart = Recipe.model_validate({**content, "data": {"train": "hub:ada/mail:train", "test": "hub:ada/letters:test", "validation": "10%"}})
    assert measured_data(apart, "test") == ("ada/letters", "letters")
    assert measured_data(apart, "validation") == ("ada/mail", "mail")
    own = Recipe.model_validate({**content, "data": {"train": "a/news.csv", "test": "b/reviews.csv.gz"}})
    assert measured_data(own, "test") == ("reviews", "reviews")


def test_labels_are_shown_as_they_are(recipe: MakeRecipe, tmp_path: Path) -> None:
    rows = tmp_path / "odd.csv"
    rows.write_text("text,label\n" + "".join(f"a parcel {number},{('<b>x</b>', 'a```b')[number % 2]}\n" for number in range(24)))
    card = card_of(train(recipe(data={"train": str(rows), "validation": "25%"}, train={"duration": "1st"})))
    told = next(line for line in card.text.splitlines() if line.startswith("Labels of the training rows"))
    assert "&lt;b&gt;x&lt;/b&gt;" in told and "<b>" not in told and r"a\`\`\`b" in told
    assert "\n````yaml\n" in card.text and "\n````\n" in card.text, "a fence that the recipe does not close"


def test_the_license_and_the_name_of_a_local_base_come_from_its_own_card(recipe: MakeRecipe, tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    base = shutil.copytree(tiny_bert, tmp_path / "private folder" / "my-base")
    (base / "README.md").write_text("---\nlicense: mit\nlanguage: [en, fr]\n---\n# Base\n")
    card = card_of(train(recipe(model={"name": str(base)}, method="lora", train={"duration": "1st"})))
    assert card.data.license == "mit" and card.data.base_model is None
    assert "`my-base`" in card.text and "it knows: en, fr" in card.text and "private folder" not in card.content
