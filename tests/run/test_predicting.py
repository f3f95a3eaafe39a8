"""What was trained is what anyone opens: transformers' pipeline, peft and `burnish.load` give the scores that training measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import burnish
from burnish.core.errors import DataError, ModelError, RunError

MakeRecipe = Callable[..., dict[str, Any]]
TEXTS = ["My kettle was awful on day 3!", "lovely", "The parcel is perfect, number 2. I have waited for it a long time"]
PAIRS = [("lovely candle", "great candle"), ("broken", "The shears are wonderful and I am happy"), ("late parcel", "late")]
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "head": {"method": "head"},
    "freeze": {"method": {"name": "freeze", "blocks": 1}},
    "lora": {"method": {"name": "lora", "r": 4}},
    "lora from scratch": {"method": {"name": "lora", "r": 4}, "model": {"from_scratch": True}},
}
PROBLEMS = ("single_label", "multi_label", "regression", "pairs")


@pytest.fixture
def trained(recipe: MakeRecipe, tmp_path: Path) -> Callable[..., burnish.Run]:
    """A run of a few steps by a method on one of the problems; its weights are far from where they began."""

    def train(method: str, problem: str) -> burnish.Run:
        labels = {"multi_label": [["praise", "goods"], [], ["anger"], ["goods"]], "regression": [2.5, -1, 0.25, 7]}
        rows = []
        for number in range(24):
            first, second = PAIRS[number % 3]
            given = labels.get(problem, ["same", "other", "third"])
            rows.append({"text": f"{TEXTS[number % 3]} {first}", "other": second, "label": given[number % len(given)]})
        (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = {"pair": "other"} if problem == "pairs" else {"problem": problem}
        made = recipe(data={"train": str(tmp_path / "many.jsonl")}, task=task, train={"duration": "6st"}, **METHODS[method])
        return burnish.train(made, ["train.seed=3", "data.validation=6"])

    return train


def scores(found: dict[str, Any]) -> dict[str, float]:
    return found["probabilities"] if "probabilities" in found else {"value": found["value"]}


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        *((method, "single_label") for method in METHODS),
        *(("full", problem) for problem in PROBLEMS[1:]),
        ("lora", "multi_label"),
        ("lora", "pairs"),
    ],
)
def test_the_pipeline_of_transformers_gives_the_same_scores(trained: Callable[..., burnish.Run], method: str, problem: str) -> None:
    run = trained(method, problem)
    texts: list[Any] = PAIRS if problem == "pairs" else TEXTS
    ours = burnish.load(run.path).predict(texts)
    pipeline = transformers.pipeline("text-classification", model=str(run.folder.model), device="cpu")
    given = [{"text": first, "text_pair": second} for first, second in PAIRS] if problem == "pairs" else TEXTS
    theirs = [pipeline(one, top_k=None) for one in given]
    for mine, its in zip(ours, theirs, strict=True):
        assert {entry["label"]: entry["score"] for entry in its} == pytest.approx(scores(mine), abs=1e-5)
    values = [value for mine in ours for value in scores(mine).values()]
    assert len({round(value, 4) for value in values}) >= 3, "the texts are told apart, so that a wrong order would show"
    if problem in ("single_label", "pairs"):
        best = [pipeline(one) for one in given]
        best = [one[0] if isinstance(one, list) else one for one in best]
        assert [one["label"] for one in best] == [mine["label"] for mine in ours]
        assert [one["score"] for one in best] == pytest.approx([mine["score"] for mine in ours], abs=1e-5)


@pytest.mark.parametrize("method", ["full", "lora", "lora from scratch"])
def test_the_model_on_disk_is_the_model_that_was_measured(trained: Callable[..., burnish.Run], method: str) -> None:
    """The predictions kept while the trained model was in memory are those of the one that is loaded again."""
    run = trained(method, "single_label")
    kept = [json.loads(line) for line in (run.folder.evaluations / "validation.predictions.jsonl").read_text().splitlines()]
    rows = burnish.load(run.path).rows("validation")
    again = burnish.load(run.path).predict([row.values["text"] for row in rows])
    assert [record["row"] for record in kept] == [row.number for row in rows]
    for before, now in zip(kept, again, strict=True):
        assert now["probabilities"] == pytest.approx(before["probabilities"], abs=1e-6) and now["label"] == before["label"]


@pytest.mark.parametrize("method", ["lora", "lora from scratch"])
def test_peft_opens_a_lora_run(trained: Callable[..., burnish.Run], method: str) -> None:
    import peft

    run = trained(method, "single_label")
    folder = run.folder.model
    assert (folder / "adapter_config.json").is_file() and (folder / "adapter_model.safetensors").stat().st_size < 100_000
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        found = torch.softmax(model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits, dim=-1)
    ours = [list(one["probabilities"].values()) for one in run.predict(TEXTS)]
    torch.testing.assert_close(found, torch.tensor(ours, dtype=torch.float32), rtol=0, atol=1e-5)


def test_methods_change_what_they_say_and_nothing_else(trained: Callable[..., burnish.Run], tiny_bert: Path) -> None:
    from safetensors.torch import load_file

    before = {f"bert.{name}": tensor for name, tensor in load_file(tiny_bert / "model.safetensors").items()}
    run = trained("freeze", "single_label")
    after = load_file(run.folder.model / "model.safetensors")
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved and all(name.startswith(("bert.encoder.layer.1.", "bert.pooler.")) for name in moved)
    assert run.folder.read("plan.json")["parameters"]["trainable"] < run.folder.read("plan.json")["parameters"]["total"]


# In Python


def test_predict_takes_a_text_several_rows_or_none(trained: Callable[..., burnish.Run]) -> None:
    run = trained("full", "single_label")
    one = run.predict(TEXTS[0])
    assert len(one) == 1 and run.predict([]) == []
    assert run.predict([{"text": TEXTS[0]}]) == run.predict({"text": TEXTS[0]}) == one
    many = run.predict(TEXTS)
    assert many[0]["probabilities"] == pytest.approx(one[0]["probabilities"], abs=1e-6), "what stands beside a text does not matter"
    assert run.predict(TEXTS[::-1])[::-1] == many, "order is kept"
    for found in many:
        assert sum(found["probabilities"].values()) == pytest.approx(1) and found["score"] == max(found["probabilities"].values())
    with pytest.raises(DataError, match="the given texts row 2"):
        run.predict(["fine", " "])
    with pytest.raises(DataError, match="no column `text`"):
        run.predict([{"message": "fine"}])


def test_pairs_are_expected_where_the_task_has_pairs(trained: Callable[..., burnish.Run]) -> None:
    run = trained("full", "pairs")
    assert run.predict([PAIRS[1]]) == run.predict([{"text": PAIRS[1][0], "other": PAIRS[1][1]}])
    assert run.predict([PAIRS[1]]) != run.predict([PAIRS[1][::-1]])
    with pytest.raises(DataError, match=r"2 texts are expected for each row \(text, other\), got 1"):
        run.predict(["alone"])


@pytest.mark.parametrize("method", METHODS)
def test_a_run_can_be_moved_and_used_without_its_data(trained: Callable[..., burnish.Run], tmp_path: Path, method: str) -> None:
    run = trained(method, "multi_label")
    before = run.predict(TEXTS)
    shutil.move(run.path, tmp_path / "elsewhere")
    (tmp_path / "many.jsonl").unlink()
    assert burnish.load(tmp_path / "elsewhere").predict(TEXTS) == before
    assert all(set(one) == {"labels", "probabilities"} for one in before)


def test_evaluate_measures_another_file(trained: Callable[..., burnish.Run], tmp_path: Path) -> None:
    run = trained("full", "single_label")
    (tmp_path / "more.csv").write_text("text,label\nlovely,same\nbroken,third\n")
    found = run.evaluate(source=tmp_path / "more.csv")
    assert len(found.predictions) == 2 and (run.folder.evaluations / "of-more.json").is_file()
    assert [record["label"] for record in found.predictions] == [one["label"] for one in run.predict(["lovely", "broken"])]
    with pytest.raises(DataError, match="has no test rows: name a file"):
        run.evaluate("test")


def test_long_texts_are_cut_alike_in_training_and_prediction(recipe: MakeRecipe) -> None:
    run = burnish.train(recipe(data={"max_length": 6}, train={"duration": "3st"}))
    facts = run.folder.read("data.json")
    assert facts["parts"]["train"]["truncated"] > 0 and any("longer than 6 tokens" in warning for warning in facts["warnings"])
    long = "lovely great perfect thanks " + "broken " * 90
    assert run.predict([long]) == run.predict(["lovely great perfect thanks"])


def test_what_is_no_finished_run_is_refused(tmp_path: Path, trained: Callable[..., burnish.Run]) -> None:
    run = trained("full", "single_label")
    with pytest.raises(RunError, match="did you mean `run`"):
        burnish.load(run.path.with_name("runn"))
    (run.folder.model / "model.safetensors").write_bytes(b"half a model")
    with pytest.raises(ModelError, match="damaged or half written"):
        burnish.load(run.path).predict("lovely")
