"""Whole runs of the rewriting task on tiny T5, BART and Marian models: as Trainer trains them, and as transformers opens them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from oracles import by_trainer
from safetensors.torch import load_file, save_file

import burnish
from burnish import build
from burnish.core.errors import DataError, ModelError
from burnish.core.protocols import Batch

BATCH, STEPS, LR, SEED = 8, 10, 3e-3, 4
THINGS, PLACES = ["kettle", "lamp", "throw", "candle"], ["Leeds", "Bergen", "Porto"]
KINDS = ("t5", "bart", "marian")
BLIND = ".k_proj.bias"
"""The loss has no slope for a key's bias (softmax does not see it): what arrives there is rounding, which Adam blows up."""


def pair(number: int) -> dict[str, Any]:
    thing, place, amount = THINGS[number % 4], PLACES[number % 3], 1 + number % 5
    extra = " and hurry, I have waited for a long time" * (number % 3)
    return {"request": f"please send {amount} of the {thing} to {place}{extra}", "order": f"{thing} {amount}; {place}"}


DOCUMENT = " ".join(f"{number}. {pair(number)['request']}." for number in range(30))


@pytest.fixture
def folder(tiny_t5: Path, tmp_path: Path) -> Callable[..., Path]:
    """A folder with a tiny model of a kind and its tokenizer; with more `noise`, what it writes depends more on what it reads.

    BART's puts <s> and </s> around every text, Marian's puts </s> behind it, T5's adds nothing.
    """

    def make(kind: str, noise: float) -> Path:
        target = tmp_path / kind
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(tiny_t5)
        torch.manual_seed(6)
        if kind == "t5":
            model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(tiny_t5)
        else:
            model = transformers.AutoModelForSeq2SeqLM.from_config(config_of(kind, tokenizer))
            framed(tokenizer, "<s> $A </s>" if kind == "bart" else "$A </s>")
            model.generation_config.update(num_beams=4, early_stopping=True, length_penalty=2.0, min_length=30, no_repeat_ngram_size=3)
            if kind == "marian":
                model.generation_config.update(bad_words_ids=[[tokenizer.pad_token_id]])
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        weights = {name: tensor + noise * torch.randn_like(tensor) for name, tensor in load_file(target / "model.safetensors").items()}
        save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
        return target

    return make


def config_of(kind: str, tokenizer: Any) -> Any:
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))
    }
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    start = tokenizer.eos_token_id if kind == "bart" else tokenizer.pad_token_id
    sizes = {"d_model": 32, "max_position_embeddings": 64, "vocab_size": len(tokenizer), "dropout": 0.0, **sides}
    return transformers.AutoConfig.for_model(kind, **sizes, **ids, decoder_start_token_id=start, forced_eos_token_id=tokenizer.eos_token_id)


def framed(tokenizer: Any, frame: str) -> None:
    from tokenizers.processors import TemplateProcessing

    special = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=frame, special_tokens=special)


@pytest.fixture
def made(folder: Callable[..., Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A recipe of 10 steps on 40 rows, 8 of them to watch."""

    def make(kind: str, noise: float = 0.1, **sections: Any) -> dict[str, Any]:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(pair(number)) + "\n" for number in range(48)))
        generation = {"max_new_tokens": 24, "samples": 0}
        task = {"name": "rewrite", "source": "request", "target": "order", "target_length": 32, "generation": generation}
        recipe: dict[str, Any] = {
            "model": str(folder(kind, noise)),
            "task": task,
            "data": {"train": str(tmp_path / "rows.jsonl"), "validation": 8},
            "optimizer": {"name": "adamw", "lr": LR, "weight_decay": 0.01},
            "train": {"duration": f"{STEPS}st", "batch_size": BATCH, "seed": SEED, "device": "cpu", "max_grad_norm": 1.0},
            "run": str(tmp_path / "run"),
        }
        for key, value in sections.items():
            recipe[key] = {**recipe.get(key, {}), **value} if isinstance(value, dict) else value
        return recipe

    return make


def by_transformers(model_folder: Path, texts: list[str], **options: Any) -> list[str]:
    """What anyone gets who opens the folder and calls `generate` with the settings that are saved in it."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(model_folder).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model_folder)
    written = []
    for text in texts:
        ids = model.generate(**tokenizer(text, return_tensors="pt"), **options)
        written.append(tokenizer.decode(ids[0], skip_special_tokens=True).strip())
    return written


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_writes_what_burnish_writes(made: Callable[..., dict[str, Any]], kind: str, beams: int) -> None:
    recipe = made(kind, noise=0.4, train={"duration": "3st"}, optimizer={"lr": 1e-3})
    run = burnish.train(recipe, [f"task.generation={{max_new_tokens: 24, samples: 0, beams: {beams}, repetition_penalty: 1.5}}"])
    texts = [pair(number)["request"] for number in range(10)]
    found = burnish.load(run.path).predict(texts)
    written = [one["written"] for one in found]
    assert written == by_transformers(run.folder.model, texts)
    assert len(set(written)) > 3, "what is read matters"
    saved = json.loads((run.folder.model / "generation_config.json").read_text())
    assert saved["num_beams"] == beams and saved["max_new_tokens"] == 24 and saved["repetition_penalty"] == 1.5
    left_out = {"forced_eos_token_id", "min_length", "no_repeat_ngram_size", "length_penalty", "early_stopping"}
    assert not left_out & {name for name, value in saved.items() if value is not None}


def test_bart_begins_its_texts_as_its_targets_begin(made: Callable[..., dict[str, Any]]) -> None:
    run = burnish.train(made("bart", train={"duration": "1st"}))
    model = run.model
    ids = model.generate(**run.tokenizer(pair(0)["request"], return_tensors="pt"))
    assert ids[0, :2].tolist() == [run.tokenizer.eos_token_id, run.tokenizer.bos_token_id]
    assert model.generation_config.forced_bos_token_id == run.tokenizer.bos_token_id


def test_a_text_that_is_broken_off_has_not_ended(made: Callable[..., dict[str, Any]]) -> None:
    run = burnish.train(made("bart", train={"duration": "1st"}), ["task.generation={max_new_tokens: 3, samples: 8}"])
    found = run.predict([pair(number)["request"] for number in range(8)])
    assert not any(one["ended"] for one in found) and run.metrics["validation"]["ended"] == 0


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_adapter_is_opened_too(made: Callable[..., dict[str, Any]], kind: str) -> None:
    run = burnish.train(made(kind, noise=0.4, method={"name": "lora", "r": 4}, train={"duration": "3st"}))
    assert (run.folder.model / "adapter_config.json").is_file()
    texts = [pair(number)["request"] for number in range(6)]
    assert [one["written"] for one in burnish.load(run.path).predict(texts)] == by_transformers(run.folder.model, texts)


def test_a_small_model_learns_orders(made: Callable[..., dict[str, Any]]) -> None:
    run = burnish.train(
        made("t5", train={"duration": "40st", "batch_size": 16, "evaluate_every": "40st"}, optimizer={"lr": 0.02}),
        ["task.generation.samples=4"],
    )
    before, after = run.metrics["before"], run.metrics["validation"]
    assert after["loss"] < before["loss"] / 4 and after["ended"] == 1 and after["chrf"] > before["chrf"] + 0.3
    kept = [json.loads(line) for line in (run.folder.evaluations / "validation.predictions.jsonl").read_text().splitlines()]
    assert [("written" in record, "loss" in record) for record in kept] == [(True, True)] * 4 + [(False, True)] * 4
    again = burnish.load(run.path).evaluate("validation")
    assert dict(again.metrics) == pytest.approx(after, rel=1e-5)


def sources_and_labels(batch: Batch) -> dict[str, torch.Tensor]:
    """What the decoder reads is made by the architecture itself."""
    return {**{name: batch.inputs[name] for name in ("input_ids", "attention_mask")}, "labels": batch.targets["labels"]}


@pytest.mark.parametrize(("kind", "micro_batch"), [("t5", 8), ("t5", 3), ("bart", "auto"), ("marian", 1)])
def test_ten_steps_as_trainer_takes_them(made: Callable[..., dict[str, Any]], tmp_path: Path, kind: str, micro_batch: Any) -> None:
    recipe = made(kind, schedule={"name": "linear", "warmup": 2}, train={"micro_batch": micro_batch})
    losses, norms, weights = by_trainer(recipe, tmp_path / "trainer", STEPS, sources_and_labels)
    run = burnish.train(recipe)
    steps = [line for line in run.folder.read_metrics() if line["kind"] == "step"]
    assert len(steps) == len(losses) == STEPS
    assert [line["loss"] for line in steps] == pytest.approx(losses, rel=1e-4)
    assert [line["grad_norm"] for line in steps] == pytest.approx(norms, rel=1e-4)
    final = load_file(run.folder.model / "model.safetensors")
    for name, tensor in final.items():
        if not name.endswith(BLIND):
            torch.testing.assert_close(tensor, weights[name], rtol=0, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert losses[0] - losses[-1] > 0.3 and math.isfinite(sum(losses))


@pytest.mark.parametrize("kind", KINDS)
def test_documents_of_any_length_are_trained_on_and_written_about(made: Callable[..., dict[str, Any]], tmp_path: Path, kind: str) -> None:
    recipe = made(kind, train={"duration": "2st", "batch_size": 2})
    rows = [{"request": f"{number}. {DOCUMENT}", "order": f"{pair(number)['order']}. {pair(20)['order']}."} for number in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = burnish.train({**recipe, "data": {"train": str(tmp_path / "rows.jsonl"), "validation": 2}})
    facts = run.folder.read("data.json")["parts"]["train"]
    assert facts["rows"] == 4 and facts["examples"] > 4
    found = run.predict([DOCUMENT, "a lamp"])
    learner: Any = run.learner
    pieces = learner.read([build.Row({"request": DOCUMENT}, "here", 1)], [DOCUMENT])[0]
    assert "".join(piece.text for piece in pieces) == DOCUMENT
    assert found[0]["chunks"] == len(pieces) > 8 and found[1]["chunks"] == 1
    assert max(len(piece.ids) for piece in pieces) <= 64


def test_what_a_model_cannot_do_is_told_before_anything_is_learned(made: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"`task\.target_length`: 65 tokens are more than the model can write, 64"):
        burnish.train(made("bart"), ["task.target_length=65"])
    recipe = made("t5", run=str(tmp_path / "other"))
    for name in ("config.json", "generation_config.json"):
        path = Path(recipe["model"]) / name
        path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "decoder_start_token_id"}))
    with pytest.raises(ModelError, match="decoder_start_token_id"):
        burnish.train(recipe)


def test_rows_to_predict_are_checked(made: Callable[..., dict[str, Any]]) -> None:
    run = burnish.train(made("t5", train={"duration": "1st"}))
    with pytest.raises(DataError, match="the given texts row 2: the text in `request` is empty"):
        run.predict(["a lamp", " "])
    with pytest.raises(DataError, match="no column `request`"):
        run.predict([{"source": "a lamp"}])
