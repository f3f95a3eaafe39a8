"""Instruction tuning, from recipe to answers: parity with TRL's SFTTrainer, the end is learned, the same answers in transformers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from oracles import by_trl

import burnish
from burnish.core.errors import DataError

BATCH, STEPS, LR, SEED, ROWS = 8, 10, 3e-3, 5, 40
THINGS = ("candle", "parcel", "shears", "kettle")
PLACES = ("Leeds", "Bergen", "Porto")


def row(number: int, draw: random.Random) -> dict[str, Any]:
    """A conversation of one or two turns, some with a system message."""
    turns: list[dict[str, str]] = [{"role": "system", "content": "Be kind."}] if number % 4 == 0 else []
    for _ in range(number % 2 + 1):
        thing = draw.randrange(4)
        turns += [{"role": "user", "content": f"The {THINGS[thing]}?"}, {"role": "assistant", "content": f"In {PLACES[thing % 3]}."}]
    return {"messages": turns}


@pytest.fixture
def made(tiny_llama: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A recipe on 40 short conversations, five batches an epoch."""
    draw = random.Random(3)
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row(number, draw)) + "\n" for number in range(ROWS)))

    def make(name: str = "run", **sections: Any) -> dict[str, Any]:
        whole: dict[str, Any] = {
            "model": {"name": str(tiny_llama)},
            "task": {"name": "chat", "generation": {"samples": 8, "max_new_tokens": 12}},
            "data": {"train": str(tmp_path / "chats.jsonl")},
            "optimizer": {"name": "adamw", "lr": LR, "weight_decay": 0.01},
            "schedule": {"name": "linear", "warmup": 2},
            "train": {"duration": f"{STEPS}st", "batch_size": BATCH, "seed": SEED, "device": "cpu"},
            "run": str(tmp_path / name),
        }
        for key, value in sections.items():
            whole[key] = {**whole[key], **value} if isinstance(value, dict) else value
        return whole

    return make


Make = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("supervise", ["response", "everything"])
def test_ten_steps_as_trl_takes_them(made: Make, tmp_path: Path, supervise: str) -> None:
    recipe = made(task={"supervise": supervise}, train={"micro_batch": 3})
    losses, norms, _ = by_trl(recipe, tmp_path / "trl", STEPS, lambda row: row.values, assistant_only_loss=supervise == "response")
    run = burnish.train(recipe)
    steps = [line for line in run.folder.read_metrics() if line["kind"] == "step"]
    assert len(steps) == len(losses) == STEPS
    assert [line["loss"] for line in steps] == pytest.approx(losses, rel=1e-4)
    assert [line["grad_norm"] for line in steps] == pytest.approx(norms, rel=1e-3)
    assert max(losses) - min(losses) > 0.3


def test_the_end_is_learned_and_transformers_answers_alike(made: Make) -> None:
    run = burnish.train(made(train={"duration": "120st"}))
    before, after = (run.folder.read(f"evaluations/{part}.json")["metrics"] for part in ("before", "seen"))
    assert before["written_ended"] == 0 and after["written_ended"] == 1
    assert after["loss"] < 0.7 * before["loss"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.folder.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(run.folder.model).eval()
    assert tokenizer.chat_template and model.get_input_embeddings().num_embeddings >= len(tokenizer)
    pipeline = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
    for thing in THINGS[:2]:
        question = [{"role": "user", "content": f"The {thing}?"}]
        mine = burnish.load(run.path).predict([{"messages": question}, {"messages": f"The {thing}?"}])
        inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            whole = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
        answer = tokenizer.decode(whole[inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        assert mine[0]["ended"] and mine[0]["answer"] == mine[1]["answer"] == answer != ""
        assert pipeline(question)[0]["generated_text"][-1]["content"].strip() == answer


def test_added_tokens_learn_under_lora_too(made: Make) -> None:
    run = burnish.train(made(method="lora", train={"duration": "30st"}))
    model = transformers.AutoModelForCausalLM.from_pretrained(run.folder.model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.folder.model)
    question = [{"role": "user", "content": "The kettle?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        whole = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
    answer = tokenizer.decode(whole[inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert burnish.load(run.path).predict(["The kettle?"])[0]["answer"] == answer


def test_rows_in_which_nothing_is_learned_are_named_or_dropped(made: Make, tiny_llama: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token if m.role == 'assistant' else ':' }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "terse")

    def write(*pairs: tuple[str, str]) -> None:
        lines = [json.dumps({"prompt": prompt, "response": response}) + "\n" for prompt, response in pairs]
        (tmp_path / "odd.jsonl").write_text("".join(lines))

    short, hopeless, long = ("lamp", "no"), ("lamp " * 40, "no"), ("lamp", "no " * 40)
    write(short, hopeless, long, short)
    recipe = made(model={"tokenizer": str(tmp_path / "terse")}, data={"train": str(tmp_path / "odd.jsonl"), "max_length": 14})
    with pytest.raises(DataError, match=r"nothing is supervised in 1 row of 4.*\n.*odd.jsonl row 2 \(line 2\)"):
        burnish.train(recipe)
    dropping = {**recipe, "data": {**recipe["data"], "bad_rows": "drop"}}
    run = burnish.train(dropping)
    facts = run.folder.read("data.json")
    assert facts["parts"]["train"]["rows"] == 3
    assert any("1 train row left out" in warning for warning in facts["warnings"])
    assert any("the response was cut at its end" in warning for warning in facts["warnings"])
    write(hopeless, hopeless)
    with pytest.raises(DataError, match=r"from any of them"):
        burnish.train({**dropping, "run": str(tmp_path / "none")})
