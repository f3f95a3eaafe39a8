"""Masked language models, from recipe to pipeline: a head that starts fresh, parity with Trainer, the same fillings in transformers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from oracles import by_trainer
from safetensors.torch import load_file

import burnish
from burnish.core.errors import DataError

BATCH, STEPS, LR, SEED = 8, 10, 3e-3, 5
THINGS = ("candle", "parcel", "shears", "kettle")
PLACES = ("shop", "train", "garden")


@pytest.fixture
def made(tiny_bert: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A recipe on 60 texts, some longer than a window, in which each thing has its place."""
    draw = random.Random(3)
    lines = []
    for number in range(60):
        things = draw.choices(range(4), k=draw.choice([1, 2, 9]))
        text = " ".join(f"The {THINGS[thing]} is in the {PLACES[thing % 3]}." for thing in things)
        lines.append(json.dumps({"text": f"{text} Number {number}"}) + "\n")
    (tmp_path / "texts.jsonl").write_text("".join(lines))

    def make(name: str = "run", **sections: Any) -> dict[str, Any]:
        whole: dict[str, Any] = {
            "model": str(tiny_bert),
            "task": {"name": "fill"},
            "data": {"train": str(tmp_path / "texts.jsonl"), "validation": 12, "max_length": 40},
            "optimizer": {"name": "adamw", "lr": LR, "weight_decay": 0.01},
            "schedule": {"name": "linear", "warmup": 2},
            "train": {"duration": f"{STEPS}st", "batch_size": BATCH, "seed": SEED, "device": "cpu", "evaluate_every": f"{STEPS}st"},
            "run": str(tmp_path / name),
        }
        for key, value in sections.items():
            whole[key] = {**whole[key], **value} if isinstance(whole.get(key), dict) else value
        return whole

    return make


Make = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("settings", [{}, {"whole_words": True, "mask_share": 0.3}])
@pytest.mark.parametrize("micro_batch", ["auto", 3])
def test_ten_steps_as_trainer_takes_them(made: Make, tmp_path: Path, settings: dict[str, Any], micro_batch: Any) -> None:
    recipe = made(task={"name": "fill", **settings}, train={"micro_batch": micro_batch})
    losses, _, weights = by_trainer(recipe, tmp_path / "trainer", STEPS, lambda batch: {**batch.inputs, **batch.targets})
    run = burnish.train(recipe)
    found = [line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"]
    assert len(found) == STEPS and found == pytest.approx(losses, rel=1e-4)
    assert max(losses) - min(losses) > 0.1
    final = load_file(run.folder.model / "model.safetensors")
    for name, tensor in final.items():
        if not name.endswith(".key.bias"):  # softmax does not see them: their gradients are rounding
            torch.testing.assert_close(tensor, weights[name], rtol=0, atol=2e-4)


def test_a_head_that_starts_fresh_learns_and_stays_tied(made: Make) -> None:
    run = burnish.train(made(train={"duration": "120st", "evaluate_every": "60st"}))
    before, after = run.metrics["before"], run.metrics["validation"]
    assert before["loss"] == pytest.approx(math.log(len(run.tokenizer)), abs=0.3), "at first any token is as likely as any"
    assert after["loss"] < 3.5 and after["masked_accuracy"] > before["masked_accuracy"] + 0.2
    model = run.model
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    names = load_file(run.folder.model / "model.safetensors").keys()
    assert "bert.embeddings.word_embeddings.weight" in names and "cls.predictions.decoder.weight" not in names
    again = run.evaluate("validation")
    assert dict(again.metrics) == pytest.approx(after, rel=1e-5), "the same tokens are hidden"
    (table,) = again.sections
    assert table.title == "Filled" and len(table.rows) == 20  # type: ignore[union-attr]


TEXTS = ["The [MASK] is in the garden.", "The kettle is [MASK] the [MASK]. Number [MASK]", "[MASK]", "late [MASK] late"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_pipeline_of_transformers_fills_the_same(made: Make, method: str) -> None:
    run = burnish.train(made(method=method, train={"duration": "30st"}))
    ours = burnish.load(run.path).predict(TEXTS)
    pipeline = transformers.pipeline("fill-mask", model=str(run.folder.model), device="cpu")
    scores = set()
    for text, mine in zip(TEXTS, ours, strict=True):
        theirs = pipeline(text)
        theirs = theirs if isinstance(theirs[0], list) else [theirs]
        assert len(theirs) == len(mine["fills"]) == text.count("[MASK]")
        for its, fills in zip(theirs, mine["fills"], strict=True):
            assert [one["score"] for one in its] == pytest.approx([fill["score"] for fill in fills], abs=1e-5)
            assert [one["token_str"] for one in its] == [fill["token"] for fill in fills]
        if len(theirs) == 1:
            assert mine["text"] == theirs[0][0]["sequence"]
        scores |= {round(fills[0]["score"], 5) for fills in mine["fills"]}
        assert "[MASK]" not in mine["text"]
    assert len(scores) >= 5, "the blanks are told apart, so that a wrong order would show"


def test_what_cannot_be_filled_is_told(made: Make) -> None:
    run = burnish.train(made(train={"duration": "2st"}))
    assert run.predict("my <mask> is late") == run.predict({"text": "my [MASK] is late"})
    with pytest.raises(DataError, match=r"the given texts row 2: there is nothing to fill in `text`: write \[MASK\]"):
        run.predict(["my [MASK]", "my parcel"])
    with pytest.raises(DataError, match=r"(?s)longer than the 40 tokens.*the given texts row 1: 5\d tokens"):
        run.predict("late " * 50 + "[MASK]")


def test_a_causal_language_model_is_refused(made: Make, tiny_llama: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    (tmp_path / "llama").mkdir()
    for file in tiny_llama.iterdir():
        (tmp_path / "llama" / file.name).write_bytes(file.read_bytes())
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>", pad_token="<pad>")
    plain.save_pretrained(tmp_path / "llama")
    with pytest.raises(DataError, match="no mask token"):
        burnish.train(made(model=str(tmp_path / "llama")))
