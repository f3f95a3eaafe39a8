"""`burnish check` finds what is planted in lengths, tokens, templates, weights, gradients and the course of a run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish.data.chat.template import CHATML
from burnish.experiment.check import model, trying
from burnish.methods.select import Full

pytestmark = pytest.mark.usefixtures("quick")
Plant = Callable[..., dict[str, Any]]
Texts = Callable[..., list[str]]
Check = Callable[..., Any]

CYRILLIC = "Это совсем другой язык, которого словарь не знает"


@pytest.fixture
def chatting(plant: Plant, tiny_llama: Path, texts: Texts) -> Plant:
    """A recipe that learns to answer, by the tiny llama."""

    def made(rows: list[dict[str, Any]] | None = None, **sections: Any) -> dict[str, Any]:
        pairs = zip(texts(40, size=4), texts(40, seed=3, size=4), strict=True)
        own = [{"prompt": asked, "response": said} for asked, said in pairs] if rows is None else rows
        return plant(own, own[:12], **{"task": {"name": "chat"}, "model": {"name": str(tiny_llama)}, "optimizer": {"lr": 1e-3}, **sections})

    return made


def copied(source: Path, folder: Path) -> Path:
    """A model's folder to plant something in."""
    shutil.copytree(source, folder)
    return folder


def with_template(source: Path, folder: Path, template: str) -> Path:
    """A copy of a model with another chat template, and embeddings for its tokens."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(copied(source, folder))
    tokenizer.chat_template = template
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(folder)
    llama = LlamaForCausalLM.from_pretrained(folder)
    llama.resize_token_embeddings(len(tokenizer))
    llama.save_pretrained(folder)
    return folder


def with_weights(source: Path, folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """A copy of a model with other weights."""
    path = copied(source, folder) / "model.safetensors"
    save_file({name: change(name, tensor) for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    return folder


# Lengths and what is learned


def test_a_limit_far_below_the_rows_cuts_every_row(plant: Plant, check: Check) -> None:
    done = check(plant(data={"max_length": 5}))
    assert done.code == 1 and "60 train rows (100%): cut at the end" in done.told("lengths")
    assert "The model reads 64 tokens and data.max_length allows 5: raise it" in done.told("lengths")


def test_rows_longer_than_the_model_reads(plant: Plant, check: Check, texts: Texts) -> None:
    long = {"text": " ".join(texts(10, seed=5)), "label": "praise"}
    done = check(plant([*({"text": text, "label": "complaint"} for text in texts(30)), long, *[long | {"text": long["text"] + " lamp"}]]))
    assert done.state("lengths") == "warn" and "2 train rows (6.25%): cut at the end" in done.told("lengths")
    assert "take one that does" in done.told("lengths")


def test_targets_whose_end_is_cut(plant: Plant, check: Check, tiny_t5: Path, texts: Texts) -> None:
    rows = [{"source": text, "target": text} for text in texts(40)]
    recipe = plant(rows, rows[:10], model={"name": str(tiny_t5)}, task={"name": "rewrite", "target_length": 3}, optimizer={"lr": 1e-3})
    done = check(recipe)
    assert done.code == 1 and "40 train rows (100%): the end of the target is cut" in done.told("lengths")
    assert "40 of the first 40 rows lose supervised tokens" in done.told("lengths")
    assert "end supervised" in done.failing() and "will not stop by itself" in done.told("end supervised")


def test_rows_in_which_nothing_is_supervised(plant: Plant, check: Check, texts: Texts) -> None:
    rows = [
        {"question": "which words?", "context": text, "answers": {"text": [text if number < 2 else text.split()[3]]}}
        for number, text in enumerate(texts(30, size=30))
    ]
    done = check(plant(rows, rows[10:20], task={"name": "answer", "stride": 2}, data={"max_length": 24}))
    assert done.code == 1 and "supervised share" in done.failing()
    assert "nothing is supervised in 2 train rows of 30: train.jsonl row 1 (line 1)" in done.told("supervised share")


def test_an_end_that_is_never_learned(plant: Plant, check: Check, tiny_llama: Path, texts: Texts) -> None:
    rows = [{"text": text} for text in texts(40)]
    writing = {"task": {"name": "continue", "end": False}, "model": {"name": str(tiny_llama)}, "optimizer": {"lr": 1e-3}}
    done = check(plant(rows, rows[:10], **writing))
    assert done.code == 1 and "the end is learned in no train row" in done.told("end supervised") and "task.end=true" in done.out


# Tokens and templates


def test_a_begin_that_the_template_writes_twice(chatting: Plant, check: Check, tiny_llama: Path, tmp_path: Path) -> None:
    sound = with_template(tiny_llama, tmp_path / "sound", "{{- bos_token }}" + CHATML)
    assert check(chatting(model={"name": str(sound)})).failing() == ["rows in two parts"]
    twice = with_template(tiny_llama, tmp_path / "twice", "{{- bos_token + bos_token }}" + CHATML)
    done = check(chatting(model={"name": str(twice)}))
    assert done.code == 1 and "40 examples of 40 begin with the same token twice: train.jsonl row 1" in done.told("doubled BOS or EOS")


def test_a_turn_that_ends_twice(chatting: Plant, check: Check, tiny_llama: Path, tmp_path: Path) -> None:
    twice = with_template(tiny_llama, tmp_path / "ends", CHATML.replace("'<|im_end|>'", "'<|im_end|><|im_end|>'"))
    done = check(chatting(model={"name": str(twice)}))
    assert "in 40 conversations of 40 a turn ends twice" in done.told("doubled BOS or EOS") and "doubled BOS or EOS" in done.failing()


def test_answers_without_a_word(chatting: Plant, check: Check, texts: Texts) -> None:
    rows = [{"prompt": text, "response": "" if number % 10 == 0 else "help says"} for number, text in enumerate(texts(40, size=4))]
    done = check(chatting(rows))
    assert done.state("template round trip") == "warn"
    assert "4 conversations of 40: the assistant says nothing" in done.told("template round trip")


def test_a_model_that_sees_what_it_is_to_write(chatting: Plant, check: Check, tiny_bert: Path) -> None:
    done = check(chatting(model={"name": str(tiny_bert)}))
    assert "next token unseen" in done.failing() and "it learns to copy" in done.told("next token unseen")
    assert check(chatting()).state("next token unseen") == "pass"


def test_texts_in_another_alphabet(plant: Plant, check: Check, texts: Texts) -> None:
    rows = [{"text": f"{CYRILLIC} {text}", "label": ("praise", "complaint")[number % 2]} for number, text in enumerate(texts(40, size=3))]
    done = check(plant(rows))
    assert done.code == 1 and "are [UNK], most in train.jsonl row" in done.told("unknown tokens")


def test_texts_that_are_spelled_letter_by_letter(chatting: Plant, check: Check, texts: Texts) -> None:
    rows = [{"prompt": text, "response": CYRILLIC[:12]} for text in texts(40, size=1)]
    done = check(chatting(rows))
    assert done.state("unknown tokens") == "warn" and "the tokenizer was made for other texts" in done.told("unknown tokens")


def test_a_tokenizer_larger_than_the_model(plant: Plant, check: Check, tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.add_tokens(["lampshade", "kettledrum"])
    tokenizer.save_pretrained(tmp_path / "larger")
    done = check(plant(model={"tokenizer": str(tmp_path / "larger")}))
    assert done.code == 1 and "vocabularies" in done.failing()
    assert f"the tokenizer knows {len(tokenizer):,} tokens and the model {len(tokenizer) - 2:,}" in done.told("vocabularies")


def test_a_tokenizer_that_leaves_most_of_the_model_idle(plant: Plant, check: Check, tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    folder = copied(tiny_bert, tmp_path / "wide")
    BertModel(BertConfig.from_pretrained(folder, vocab_size=2000)).save_pretrained(folder)
    done = check(plant(model={"name": str(folder)}))
    assert done.state("vocabularies") == "warn" and "is this the model's own tokenizer?" in done.told("vocabularies")


@pytest.mark.parametrize(
    ("template", "state", "told"),
    [
        (CHATML.replace("ns.system }}", "'' }}"), "fail", "the system message is left out or changed, train.jsonl row 1"),
        (
            CHATML.replace("(message.content or '') + '<|im_end|>'", "(message.content or '')[:9] + '<|im_end|>'"),
            "fail",
            "the user message is left out",
        ),
        (CHATML.replace("(message.content or '') + '<|im_end|>'", "(message.content or '') * 2 + '<|im_end|>'"), "fail", "more than once"),
        (
            CHATML.replace("(message.content or '') + '<|im_end|>'", "(message.content or '') | trim + '<|im_end|>'"),
            "warn",
            "blanks around",
        ),
    ],
)
def test_a_template_that_does_not_write_what_is_said(
    chatting: Plant, check: Check, tiny_llama: Path, tmp_path: Path, texts: Texts, template: str, state: str, told: str
) -> None:
    assert template != CHATML
    folder = with_template(tiny_llama, tmp_path / "told", template)
    rows = [{"prompt": f"{asked} \n", "response": said} for asked, said in zip(texts(30, size=3), texts(30, seed=3, size=3), strict=True)]
    done = check(chatting(rows, model={"name": str(folder)}, task={"name": "chat", "system": "You are kind, and brief."}))
    assert done.state("template round trip") == state and told in done.told("template round trip"), done.out
    assert (done.code == 1) is (done.found["passed"] is False)


def test_texts_that_the_tokenizer_cannot_write(plant: Plant, check: Check, tiny_bert: Path, texts: Texts, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(tmp_path / "uncased")
    rows = [{"source": text, "target": text.capitalize()} for text in texts(30, size=4)]
    uncased = {"name": "new:t5", "tokenizer": str(tmp_path / "uncased"), "config": {"num_hidden_layers": 1}}
    done = check(plant(rows, rows[:8], model=uncased, task={"name": "rewrite"}))
    assert done.state("texts come back") == "warn" and "30 texts of 30 (100%) do not come back" in done.told("texts come back")
    first = rows[0]["target"]
    assert f"{first[:20]!r} became {first[:20].lower()!r}" in done.told("texts come back")


# Weights, loss, gradients


def test_weights_that_are_not_numbers(plant: Plant, check: Check, tiny_bert: Path, tmp_path: Path) -> None:
    broken = with_weights(
        tiny_bert, tmp_path / "nan", lambda name, tensor: tensor * float("nan") if "layer.1.output.dense.weight" in name else tensor
    )
    done = check(plant(model={"name": str(broken)}))
    assert done.code == 1 and "1 parameter of" in done.told("numbers") and "layer.1.output.dense.weight" in done.told("numbers")
    assert "the loss of 16 examples of 16 in the first batch is not a number: train.jsonl row" in done.told("numbers")


def test_a_pretrained_model_that_knows_nothing_is_worth_a_word(plant: Plant, check: Check, tiny_t5: Path, texts: Texts) -> None:
    rows = [{"source": source, "target": target} for source, target in zip(texts(40), texts(40, seed=1), strict=True)]
    done = check(plant(rows, rows[:10], model={"name": str(tiny_t5)}, task={"name": "rewrite"}, optimizer={"lr": 1e-3}))
    assert done.state("first loss") == "warn" and "were these weights ever trained?" in done.told("first loss")


def test_a_pretrained_model_that_is_worse_than_guessing(chatting: Plant, check: Check, tiny_llama: Path, tmp_path: Path) -> None:
    loud = with_weights(tiny_llama, tmp_path / "loud", lambda name, tensor: tensor * 100 if "embed" in name else tensor)
    done = check(chatting(model={"name": str(loud)}))
    assert done.code == 1 and "weights and tokenizer do not belong together" in done.told("first loss")


def test_a_fresh_head_that_is_sure_of_something(plant: Plant, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = trying.assembled

    def assembled(*given: Any) -> Any:
        finding, parts = honest(*given)
        with torch.no_grad():
            parts.model.classifier.bias += torch.tensor([40.0, 0.0])
        return finding, parts

    monkeypatch.setattr("burnish.experiment.check.inspect.assembled", assembled, raising=True)
    done = check(plant())
    assert done.code == 1 and "sure of what it cannot know" in done.told("first loss")
    assert done.line("first loss")["measured"]["expected"] == pytest.approx(math.log(2))


def test_a_fresh_head_begins_as_by_guessing(plant: Plant, check: Check) -> None:
    measured = check(plant()).line("first loss")["measured"]
    assert measured["fresh"] and measured["loss"] == pytest.approx(math.log(2), rel=0.2)


def test_nothing_to_train(chatting: Plant, check: Check, tiny_llama: Path, tmp_path: Path) -> None:
    known = with_template(tiny_llama, tmp_path / "known", CHATML)
    done = check(chatting(method={"name": "freeze", "blocks": 2, "names": ["model.norm.weight"]}, model={"name": str(known)}))
    assert done.code == 1 and "leaves nothing to learn" in done.told("trainable parameters")


def test_a_head_that_starts_at_random_and_stays_so(plant: Plant, check: Check) -> None:
    done = check(plant(method={"name": "freeze", "blocks": 0, "names": ["classifier.*"]}))
    assert done.code == 1 and "starts at random and stays so: classifier." in done.told("trainable parameters")


def test_a_parameter_that_no_gradient_reaches(plant: Plant, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Full.apply

    def apply(self: Full, bert: Any, anatomy: Any) -> Any:
        bert.unused = torch.nn.Linear(32, 64)
        return honest(self, bert, anatomy)

    monkeypatch.setattr(Full, "apply", apply)
    done = check(plant())
    assert done.code == 1 and "get no gradient: unused.bias, unused.weight" in done.told("gradients")


@pytest.mark.parametrize("broken", ["asks", "moves"])
def test_frozen_parameters_that_are_not_left_alone(plant: Plant, check: Check, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    honest = trying.make_step

    def make_step(parts: Any, *given: Any) -> Any:
        step = honest(parts, *given)
        weight = parts.model.get_input_embeddings().weight
        if broken == "asks":
            weight.requires_grad_(True)
        else:
            before = step.mover.move
            step.mover.move = lambda: (weight.data.mul_(1.001), before())[-1]
        return step

    monkeypatch.setattr(trying, "make_step", make_step)
    done = check(plant(method={"name": "freeze", "blocks": 1}, engine={"savings": {"frozen_prefix": False}}))
    wanted = {"asks": "1 parameter get a gradient and are not to learn", "moves": "1 frozen parameter changed within the first steps"}
    assert done.code == 1 and wanted[broken] in done.told("gradients") and "word_embeddings" in done.told("gradients")


@pytest.mark.parametrize(
    "method",
    [
        {"name": "lora", "r": 2},
        {"name": "adalora", "r": 4, "target_r": 2},
        {"name": "prompt_tuning", "virtual_tokens": 4},
        "adapters",
        "unfreeze",
        "ia3",
    ],
)
def test_sound_methods_reach_what_they_train(plant: Plant, check: Check, method: Any) -> None:
    done = check(plant(method=method, data={"max_length": 32}, optimizer={"lr": 1e-3}))
    assert done.failing() == [] and done.state("gradients") == done.state("trainable parameters") == "pass", done.out


def test_quantized_weights_are_looked_at_too(plant: Plant, check: Check) -> None:
    done = check(plant(model={"quantize": "nf4"}, method={"name": "lora", "r": 2}, optimizer={"lr": 1e-3}))
    assert done.failing() == [] and done.state("gradients") == "pass", done.out


# The course of the run


@pytest.mark.parametrize(("lr", "told"), [(5.0, "far too high"), (1e-9, "far too low")])
def test_an_absurd_learning_rate(plant: Plant, check: Check, lr: float, told: str) -> None:
    done = check(plant(optimizer={"lr": lr}))
    assert done.code == 1 and told in done.told("learning rate")


@pytest.mark.parametrize(("lr", "told"), [(3e-3, "is high"), (2e-7, "is low")])
def test_an_unusual_learning_rate_is_worth_a_word(plant: Plant, check: Check, lr: float, told: str) -> None:
    done = check(plant(optimizer={"lr": lr}))
    assert done.code == 0 and done.state("learning rate") == "warn" and "find-lr" in done.told("learning rate")
    assert told in done.told("learning rate")


def test_a_warm_up_that_outlasts_the_run(plant: Plant, check: Check) -> None:
    done = check(plant(schedule={"name": "linear", "warmup": "500st"}))
    assert done.code == 1 and "the warm-up of 500 steps is as long as the run or longer" in done.told("warm-up and steps")


def test_too_few_steps(plant: Plant, check: Check) -> None:
    done = check(plant(train={"duration": "1ep", "batch_size": 16, "device": "cpu"}))
    assert done.state("warm-up and steps") == "warn" and "4 steps are few" in done.told("warm-up and steps")
    assert "1 step is few" in check(plant(train={"duration": "1st"})).told("warm-up and steps")


def test_a_disk_without_room(plant: Plant, check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model, "free_bytes", lambda folder: 1 << 18)
    done = check(plant())
    assert done.code == 1 and f"256 KiB free at {tmp_path}" in done.told("disk")
    assert len(done.line("disk")["found"]) == 1, "it is said once"
    size = sum(tensor.numel() * 4 for tensor in load_file(Path(plant()["model"]["name"]) / "model.safetensors").values())
    assert done.line("disk")["measured"]["checkpoint"] == pytest.approx(3 * size, rel=0.3), "weights and Adam's two moments"


def test_a_folder_that_cannot_be_written(plant: Plant, check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model, "writable", lambda folder: False)
    done = check(plant())
    assert done.code == 1 and f"nothing can be written to {tmp_path}" in done.told("disk")
