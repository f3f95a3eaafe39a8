"""Causal language models, from recipe to `generate`: parity with TRL's SFTTrainer, ends, the same continuations in transformers."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from oracles import by_trl

import burnish

BATCH, STEPS, LR, SEED, ROWS = 8, 10, 3e-3, 5, 40
THINGS = ("candle", "parcel", "shears", "kettle")
PLACES = ("Leeds", "Bergen", "Porto")
PROMPTS = ["The kettle is", "The", "The shears is in Porto. The lamp"]


@pytest.fixture
def made(tiny_llama: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A recipe on 40 short texts of different lengths, five batches an epoch."""
    draw = random.Random(3)
    lines = []
    for number in range(ROWS):
        things = draw.choices(range(4), k=number % 3 + 1)
        lines.append(json.dumps({"text": " ".join(f"The {THINGS[thing]} is in {PLACES[thing % 3]}." for thing in things)}) + "\n")
    (tmp_path / "texts.jsonl").write_text("".join(lines))

    def make(name: str = "run", **sections: Any) -> dict[str, Any]:
        whole: dict[str, Any] = {
            "model": str(tiny_llama),
            "task": {"name": "continue", "prompt_tokens": 4, "generation": {"samples": 2, "max_new_tokens": 16}},
            "data": {"train": str(tmp_path / "texts.jsonl")},
            "optimizer": {"name": "adamw", "lr": LR, "weight_decay": 0.01},
            "schedule": {"name": "linear", "warmup": 2},
            "train": {"duration": f"{STEPS}st", "batch_size": BATCH, "seed": SEED, "device": "cpu"},
            "run": str(tmp_path / name),
        }
        for key, value in sections.items():
            whole[key] = {**whole[key], **value} if isinstance(whole.get(key), dict) else value
        return whole

    return make


Make = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("micro_batch", ["auto", 4])
def test_ten_steps_as_trl_takes_them(made: Make, tmp_path: Path, micro_batch: Any) -> None:
    recipe = made(train={"micro_batch": micro_batch})
    losses, norms, weights = by_trl(recipe, tmp_path / "trl", STEPS, lambda row: {"text": row.values["text"]})
    run = burnish.train(recipe)
    steps = [line for line in run.folder.read_metrics() if line["kind"] == "step"]
    assert len(steps) == len(losses) == STEPS
    assert [line["loss"] for line in steps] == pytest.approx(losses, rel=1e-4)
    assert [line["grad_norm"] for line in steps] == pytest.approx(norms, rel=1e-3)
    assert max(losses) - min(losses) > 0.3
    for name, tensor in run.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=2e-4)


def learned(run: burnish.Run) -> dict[str, float]:
    """The metrics of the trained model on its training rows, for there are no others."""
    return dict(run.folder.read("evaluations/seen.json")["metrics"])  # type: ignore[index]


def generated(run: burnish.Run, text: str) -> str:
    """What transformers alone makes of the saved folder, with the settings saved in it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.folder.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(run.folder.model).eval()
    inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        whole = model.generate(**inputs, pad_token_id=tokenizer.pad_token_id)[0]
    return str(tokenizer.decode(whole, skip_special_tokens=True))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_generate_of_transformers_goes_on_alike(made: Make, method: str) -> None:
    run = burnish.train(made(method=method, train={"duration": "40st"}))
    found = burnish.load(run.path).predict(PROMPTS)
    assert [text + one["continuation"] for text, one in zip(PROMPTS, found, strict=True)] == [generated(run, text) for text in PROMPTS]
    pipeline = transformers.pipeline("text-generation", model=str(run.folder.model), device="cpu")
    assert pipeline(PROMPTS[0])[0]["generated_text"] == PROMPTS[0] + found[0]["continuation"]
    assert len({one["continuation"] for one in found}) == 3


def test_a_model_learns_its_texts_and_to_end_them(made: Make) -> None:
    run = burnish.train(made(optimizer={"lr": 0.01}, train={"duration": "70st"}))
    before, after = run.metrics["before"], learned(run)
    assert before["loss"] == pytest.approx(6, abs=0.3) and after["loss"] < 1
    assert after["bits_per_byte"] < before["bits_per_byte"] / 4 and after["perplexity"] < 3
    assert before["written_ended"] == 0 and after["written_ended"] == 1
    (one,) = run.predict("The kettle is in")
    assert one["ended"] and one["continuation"].startswith((" Leeds.", " Bergen.", " Porto."))


def test_without_ends_a_model_never_ends(made: Make) -> None:
    task = {"name": "continue", "end": False, "generation": {"samples": 2, "max_new_tokens": 30}}
    run = burnish.train(made(task=task, optimizer={"lr": 0.01}, train={"duration": "50st"}))
    assert learned(run)["written_ended"] == 0 and not run.predict("The kettle is in")[0]["ended"]
    assert learned(run)["loss"] < 2


def test_one_token_for_beginning_end_and_padding(made: Make, tiny_llama: Path, tmp_path: Path) -> None:
    """As GPT-2 has it: the end is learned, though padding looks the same."""
    folder = tmp_path / "gpt2-like"
    shutil.copytree(tiny_llama, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    run = burnish.train(made(model=str(folder), optimizer={"lr": 0.01}, train={"duration": "70st"}))
    assert learned(run)["written_ended"] == 1
    found = run.predict(PROMPTS)
    assert [text + one["continuation"] for text, one in zip(PROMPTS, found, strict=True)] == [generated(run, text) for text in PROMPTS]


def test_a_pretrained_temperature_does_not_spoil_the_end_of_a_run(made: Make, tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drawing"
    shutil.copytree(tiny_llama, folder)
    settings = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [2, 5]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    run = burnish.train(made(model=str(folder), train={"duration": "20st"}))
    kept = json.loads((run.folder.model / "generation_config.json").read_text())
    assert kept["do_sample"] is False and kept["max_new_tokens"] == 16 and "temperature" not in kept
    assert kept["eos_token_id"] == run.tokenizer.eos_token_id
    assert PROMPTS[0] + run.predict(PROMPTS[0])[0]["continuation"] == generated(run, PROMPTS[0])


def test_windows_of_long_documents_are_announced(made: Make) -> None:
    run = burnish.train(made(data={"max_length": 20}, task={"name": "continue", "overlap": 4, "generation": {"samples": 0}}))
    facts = run.folder.read("data.json")
    assert any("longer than 20 tokens: read in consecutive windows, nothing is lost" in warning for warning in facts["warnings"])
    assert facts["parts"]["train"]["rows"] == ROWS < facts["parts"]["train"]["examples"]
