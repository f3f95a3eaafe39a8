"""Whole runs of question answering: what is trained is what transformers opens, and it is trained as Trainer trains it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from oracles import by_trainer
from safetensors.torch import load_file

import burnish
from burnish.core.errors import DataError
from burnish.core.protocols import Batch

MakeRecipe = Callable[..., dict[str, Any]]
THINGS = ["candle", "parcel", "shears", "kettle", "lamp", "box"]
WORDS = ["the", "my", "is", "it", "and", "was", "for", "you", *THINGS]
BATCH, STEPS, LR, SEED = 8, 10, 2e-3, 4
# The slope of the loss is zero for a key's bias, and for what adds the same to the logits of all tokens (softmax does not see it):
# what arrives there is rounding, which Adam blows up.
BLIND = (".key.bias", "layer.1.output.LayerNorm.bias", "qa_outputs.bias")
LONG = " ".join(f"The {THINGS[number % 6]} is {'lovely' if number % 5 else 'broken'}." for number in range(40))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def made_rows(number: int, every: int = 0) -> list[dict[str, Any]]:
    """Questions about the place of words, of one length in tokens each; every so manyth has no answer."""
    draw = random.Random(5)
    rows = []
    for index in range(number):
        words = draw.sample(WORDS, len(WORDS))
        start = draw.randrange(len(words) - 3)
        answer = " ".join(words[start + 1 : start + 1 + draw.randint(1, 3)])
        context = " ".join(words)
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        if every and index % every == 0:
            answers = {"text": [], "answer_start": []}
        rows.append({"question": f"what is {words[start]}?", "context": context, "answers": answers})
    return rows


@pytest.fixture
def lively(tiny_bert: Path, tmp_path: Path) -> Path:
    """The tiny BERT under a head, with weights so large that losses, gradients and answers of every kind occur from the first step on."""
    torch.manual_seed(6)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(tiny_bert)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "lively")
    transformers.AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "lively")
    return tmp_path / "lively"


@pytest.fixture
def trained(recipe: MakeRecipe, lively: Path, tmp_path: Path) -> Callable[..., burnish.Run]:
    """A run of a few steps on 40 rows, of which some have no answer and two are long."""

    def train(data: dict[str, Any] | None = None, **sections: Any) -> burnish.Run:
        rows, long = made_rows(40, every=5), [{"question": "what is lovely?", "context": LONG, "answers": word} for word in ("lamp", "box")]
        parts = {"train": rows[:32] + long, "validation": rows[32:] + long[:1]}
        files = {part: str(write(tmp_path / f"{part}.jsonl", rows)) for part, rows in parts.items()}
        made = {
            "model": str(lively),
            "task": {"name": "answer", "stride": 16},
            "train": {"duration": "6st"},
            "optimizer": {"lr": 0.002},
            **sections,
        }
        return burnish.train(recipe(data={**files, **(data or {})}, **made))

    return train


def plain(folder: Path, question: str, context: str, stride: int) -> str:
    """The answer that the saved model and tokenizer give by themselves: the likeliest span of any window, or none."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer.model_max_length = min(tokenizer.model_max_length, 64)
    encoded = tokenizer(
        question, context, truncation="only_second", stride=stride, return_overflowing_tokens=True, return_offsets_mapping=True
    )
    spans, nulls = [], []
    for index, ids in enumerate(encoded["input_ids"]):
        given = {name: torch.tensor([encoded[name][index]]) for name in tokenizer.model_input_names}
        with torch.no_grad():
            found = model(**given)
        start, end = found.start_logits[0], found.end_logits[0]
        nulls.append(float(start[0] + end[0]))
        inside = [position for position in range(len(ids)) if encoded.sequence_ids(index)[position] == 1]
        offsets = encoded["offset_mapping"][index]
        for first in inside:
            for last in range(first, min(first + 30, inside[-1] + 1)):
                spans.append((float(start[first] + end[last]), context[offsets[first][0] : offsets[last][1]]))
    score, text = max(spans)
    return "" if min(nulls) > score else text


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_exported_model_gives_the_same_answers(trained: Callable[..., burnish.Run], method: str) -> None:
    run = trained(method=method, data={"max_length": 64})
    asked = [*made_rows(12), {"question": "what is broken?", "context": LONG}]
    ours = burnish.load(run.path).predict(asked)
    answers = [one["answer"] for one in ours]
    assert answers == [plain(run.folder.model, one["question"], one["context"], stride=16) for one in asked]
    assert len(set(answers)) > 3
    for one, row in zip(ours, asked, strict=True):
        assert not one["answer"] or row["context"][one["start"] : one["end"]] == one["answer"]
    assert run.predict([("what is broken?", LONG)]) == ours[-1:]


def test_measured_again_it_is_the_same(trained: Callable[..., burnish.Run]) -> None:
    run = trained()
    assert run.recipe.task.no_answer is True and set(run.metrics["validation"]) >= {"loss", "f1", "exact_match"}
    assert run.metrics["before"].keys() == run.metrics["validation"].keys()
    facts = run.folder.read("data.json")["parts"]["train"]
    assert facts["examples"] > facts["rows"] == 34
    again = burnish.load(run.path).evaluate("validation")
    assert again.metrics == pytest.approx(run.metrics["validation"], rel=1e-5)
    kept = [json.loads(line) for line in (run.folder.evaluations / "validation.predictions.jsonl").read_text().splitlines()]
    assert [one["prediction"] for one in kept] == [one["prediction"] for one in again.predictions]
    predicted = run.predict_rows(run.rows("validation"))
    assert [one["answer"] for one in predicted] == [one["prediction"] for one in kept]
    assert [one["score"] for one in predicted] == pytest.approx([one["score"] for one in kept], abs=1e-6)


def test_a_rule_is_learned(recipe: MakeRecipe, tmp_path: Path) -> None:
    """The answer is the thing that is named; and there is none where nothing is."""
    draw, rows = random.Random(1), []
    for number in range(160):
        words = draw.choices(WORDS[:8], k=8)
        thing = draw.choice(THINGS) if number % 4 else ""
        words.insert(draw.randrange(9), thing)
        rows.append({"question": "what is it?", "context": " ".join(filter(None, words)), "answers": thing})
    data = {"train": str(write(tmp_path / "rule.jsonl", rows)), "validation": 40}
    made = recipe(task="answer", data=data, train={"duration": "14ep", "batch_size": 16}, optimizer={"lr": 0.01})
    metrics = burnish.train(made).metrics
    assert metrics["validation"]["exact_match"] > 0.9 > 0.4 > metrics["before"]["exact_match"]
    assert metrics["validation"]["no_answer_accuracy"] > 0.8


def test_questions_too_long_and_bad_rows_are_told_with_their_place(recipe: MakeRecipe, tmp_path: Path) -> None:
    rows = made_rows(6)
    rows[2]["answers"]["answer_start"] = [70]
    rows[4]["answers"] = "no such words"
    path = write(tmp_path / "bad.jsonl", rows)
    with pytest.raises(DataError) as caught:
        burnish.train(recipe(task="answer", data={"train": str(path)}))
    assert "2 rows of 6 cannot be used" in str(caught.value)
    assert "bad.jsonl row 3 (line 3): `answers`: " in str(caught.value) and "bad.jsonl row 5 (line 5)" in str(caught.value)
    long = write(tmp_path / "long.jsonl", [*made_rows(6), {"question": "why " * 60, "context": LONG, "answers": "lovely"}])
    with pytest.raises(DataError, match=r"long\.jsonl row 7 \(line 7\): the question takes 63 of 64 tokens"):
        burnish.train(recipe("long", task="answer", data={"train": str(long)}))


# Parity


def unpadded(batch: Batch) -> dict[str, torch.Tensor]:
    assert batch.inputs["attention_mask"].all(), "there is no padding that the architecture's loss would count"
    return {**batch.inputs, **batch.targets}


@pytest.mark.parametrize("micro_batch", ["auto", 3])
def test_ten_steps_as_trainer_takes_them(lively: Path, tmp_path: Path, micro_batch: Any) -> None:
    made = {
        "model": str(lively),
        "task": "answer",
        "data": {"train": str(write(tmp_path / "rows.jsonl", made_rows(48, every=6)))},
        "optimizer": {"name": "adamw", "lr": LR, "weight_decay": 0.01},
        "schedule": {"name": "linear", "warmup": 2},
        "train": {
            "duration": f"{STEPS}st",
            "batch_size": BATCH,
            "seed": SEED,
            "device": "cpu",
            "max_grad_norm": 1.0,
            "micro_batch": micro_batch,
        },
        "run": str(tmp_path / "run"),
    }
    losses, _, weights = by_trainer(made, tmp_path / "trainer", STEPS, unpadded)
    run = burnish.train(made)
    steps = [line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"]
    assert len(steps) == len(losses) == STEPS and steps == pytest.approx(losses, rel=1e-4)
    assert np.ptp(losses) > 0.3
    final = load_file(run.folder.model / "model.safetensors")
    assert final.keys() == weights.keys()
    for name, tensor in final.items():
        if not name.endswith(BLIND):
            torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
