"""Runs on quantised weights: the same numbers as peft and bitsandbytes give by hand, exact resume, opened again, int8 for any run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from typer.testing import CliRunner

import burnish
from burnish import build
from burnish import recipe as recipes
from burnish.cli import app
from burnish.core import registry
from burnish.core.errors import RecipeError, RunError
from burnish.engine.events import Saved

pytest.importorskip("bitsandbytes")

Make = Callable[..., dict[str, Any]]
LORA = {"name": "lora", "r": 4}


@pytest.fixture
def texts(tiny_llama: Path, tmp_path: Path) -> Make:
    """A recipe on 24 short texts for the tiny llama: six batches of four an epoch."""
    rows = [
        {"text": f"The {thing} number {n} is in Leeds." + " It is late." * (n % 3)}
        for n in range(8)
        for thing in ("candle", "kettle", "lamp")
    ]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(name: str = "run", quantize: Any = "nf4", **sections: Any) -> dict[str, Any]:
        whole: dict[str, Any] = {
            "model": {"name": str(tiny_llama), "quantize": quantize},
            "task": {"name": "continue", "prompt_tokens": 4, "generation": {"samples": 2, "max_new_tokens": 8}},
            "data": {"train": str(tmp_path / "texts.jsonl")},
            "method": LORA,
            "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.01},
            "schedule": "constant",
            "train": {"duration": "5st", "batch_size": 4, "micro_batch": 4, "seed": 5, "device": "cpu"},
            "run": str(tmp_path / name),
        }
        for key, value in sections.items():
            whole[key] = {**whole[key], **value} if isinstance(whole.get(key), dict) else value
        return whole

    return make


def steps_of(run: burnish.Run) -> list[dict[str, Any]]:
    return [line for line in run.folder.read_metrics() if line["kind"] == "step"]


def by_hand(recipe: dict[str, Any], steps: int) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each step with transformers, peft and bitsandbytes alone, from the adapters that Burnish begins with."""
    import peft

    checked = recipes.load(recipe)
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    if checked.model.quantize.name == "nf4":
        settings = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    else:
        settings = transformers.BitsAndBytesConfig(load_in_8bit=True)
    base = transformers.AutoModelForCausalLM.from_pretrained(checked.model.name, quantization_config=settings, dtype=torch.float32)
    base = peft.prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=16, target_modules=layers, task_type="CAUSAL_LM"))
    started = {name: p.detach() for name, p in parts.model.named_parameters() if p.requires_grad}
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert learning.keys() == started.keys()
    for name, parameter in learning.items():
        parameter.data.copy_(started[name])
    optimizer = torch.optim.AdamW(learning.values(), lr=checked.optimizer.lr, weight_decay=checked.optimizer.weight_decay)
    order, found = build.order(parts), []
    model.train()
    for step in range(steps):
        batch = parts.learner.collate(parts.examples["train"], order.batch(step), (0, 0))
        logits = model(**batch.inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets["labels"].flatten(), ignore_index=-100)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(learning.values(), checked.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        found.append((loss.item(), norm.item()))
    return found


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_five_steps_as_peft_and_bitsandbytes_take_them(texts: Make, quantize: str) -> None:
    recipe = texts(quantize=quantize)
    expected = by_hand(recipe, 5)
    run = burnish.train(recipe)
    assert [line["loss"] for line in steps_of(run)] == pytest.approx([loss for loss, _ in expected], rel=1e-5)
    assert [line["grad_norm"] for line in steps_of(run)] == pytest.approx([norm for _, norm in expected], rel=1e-4)
    assert expected[0][0] - expected[-1][0] > 0.05


def test_micro_batches_do_not_change_nf4(texts: Make) -> None:
    whole, cut = (burnish.train(texts(f"run-{size}", train={"micro_batch": size})) for size in (4, 1))
    for one, two in zip(steps_of(whole), steps_of(cut), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5) and one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-4)


class Cut(Exception):
    """The end of a process, as far as a run can tell."""


def cut_at(step: int) -> Callable[[Any], None]:
    def listener(event: Any) -> None:
        if isinstance(event, Saved) and event.step == step:
            raise Cut

    return listener


@pytest.mark.parametrize(("quantize", "optimizer"), [("nf4", {"name": "adamw8bit", "min_8bit_size": 64}), ("int8", {"name": "adamw"})])
def test_a_resumed_run_ends_with_the_same_bits(texts: Make, quantize: str, optimizer: dict[str, Any], tmp_path: Path) -> None:
    sections: dict[str, Any] = {"quantize": quantize, "train": {"duration": "6st", "save_every": "2st"}, "optimizer": optimizer}
    sections["data"] = {"validation": "25%"}
    sections["train"]["evaluate_every"] = "2st"
    whole = burnish.train(texts("whole", **sections))
    with pytest.raises(Cut):
        burnish.train(texts("cut", **sections), listeners=[cut_at(4)])
    resumed = burnish.resume(tmp_path / "cut")
    adapters = [run.folder.model / "adapter_model.safetensors" for run in (whole, resumed)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    assert whole.metrics == resumed.metrics
    weights = whole.folder.checkpoints / "step-00000006" / "model.safetensors"
    assert weights.stat().st_size < 60_000  # adapters alone, and nothing of the quantised weights


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_run_is_opened_as_it_was_trained(texts: Make, quantize: str, tiny_llama: Path) -> None:
    run = burnish.train(texts(quantize=quantize, data={"validation": "25%"}))
    again = burnish.load(run.path)
    assert again.evaluate().metrics == run.metrics["validation"]
    assert (run.folder.model / "model.safetensors").resolve() == tiny_llama / "model.safetensors"
    # Anyone can open the folder without bitsandbytes: the adapters on weights in full precision.
    plain = transformers.AutoModelForCausalLM.from_pretrained(run.folder.model)
    assert {p.dtype for p in plain.parameters()} == {torch.float32}


def test_weights_that_are_in_no_file_are_kept_quantised(texts: Make, tmp_path: Path) -> None:
    """A chat adds tokens, so that the table of embeddings is in no file: everything is written out, in few bits."""
    turns = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "In Leeds."}]
    (tmp_path / "chats.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 8)
    for quantize in ("nf4", "int8"):
        made = texts(quantize, quantize, task={"name": "chat"}, data={"train": str(tmp_path / "chats.jsonl"), "validation": 2})
        made["task"] = {"name": "chat", "generation": {"max_new_tokens": 4}}
        run = burnish.train(made)
        assert not (run.folder.model / "model.safetensors").is_symlink()
        assert burnish.load(run.path).evaluate().metrics == run.metrics["validation"]


def fitting() -> list[tuple[str, str]]:
    """(method, format) of all that go together, but for `tokens`, which this task gives nothing to learn."""
    methods = registry.specs("method").items()
    return [(name, held) for name, cls in methods for held in getattr(cls, "takes_quantized", ()) if name != "tokens"]


@pytest.mark.parametrize(("method", "quantize"), fitting())
def test_each_method_that_leaves_the_weights_learns_on_bert(recipe: Make, method: str, quantize: str, tiny_bert: Path) -> None:
    run = burnish.train(recipe(model={"quantize": quantize}, method=method, optimizer={"lr": 1e-2}, train={"duration": "6st"}))
    again = burnish.load(run.path)
    assert again.evaluate().metrics == run.metrics["validation"]
    losses = [line["loss"] for line in steps_of(run)]
    assert losses[-1] < losses[0]
    kinds = {type(module).__name__ for module in again.model.modules()}
    assert ("Linear4bit" if quantize == "nf4" else "Linear8bitLt") in kinds


@pytest.mark.parametrize(
    ("method", "quantize"),
    [("full", "nf4"), ({"name": "freeze", "blocks": 1}, "int8"), ("pissa", "nf4"), ("lokr", "nf4"), ("dora", "int8")],
)
def test_a_method_that_needs_the_weights_themselves_is_refused(recipe: Make, method: Any, quantize: str) -> None:
    with pytest.raises(RecipeError, match=r"`model\.quantize`: method=\w+ changes the pretrained weights.*lora") as caught:
        recipes.load(recipe(model={"quantize": quantize}, method=method))
    assert len(caught.value.problems) == 1


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 70}
OTHERS: dict[str, dict[str, Any]] = {
    "roberta": SMALL,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
}


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
@pytest.mark.parametrize("architecture", OTHERS)
def test_other_architectures_learn_and_are_opened_again(
    recipe: Make, tiny_llama: Path, tmp_path: Path, architecture: str, quantize: str
) -> None:
    """GPT-2 keeps its weights the other way round (Conv1D), DistilBERT and RoBERTa have heads that start at random."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_llama)
    config = transformers.AutoConfig.for_model(architecture, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    torch.manual_seed(0)
    config.update(OTHERS[architecture])
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    model = {"name": str(tmp_path / "base"), "quantize": quantize}
    run = burnish.train(recipe(model=model, method=LORA, train={"duration": "8st"}))
    losses = [line["loss"] for line in steps_of(run)]
    assert min(losses[4:]) < losses[0]
    assert burnish.load(run.path).evaluate().metrics == run.metrics["validation"]


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_blocks_computed_again_change_no_bit_and_bf16_little(texts: Make, quantize: str) -> None:
    plain = steps_of(burnish.train(texts("plain", quantize)))
    again = steps_of(burnish.train(texts("again", quantize, train={"checkpoint_blocks": 1})))
    half = steps_of(burnish.train(texts("half", quantize, train={"precision": "bf16"})))
    assert [line["loss"] for line in again] == [line["loss"] for line in plain]
    assert [line["grad_norm"] for line in again] == [line["grad_norm"] for line in plain]
    assert [line["loss"] for line in half] == pytest.approx([line["loss"] for line in plain], rel=1e-3)


def test_t5_learns_on_quantised_weights(tiny_t5: Path, texts: Make, tmp_path: Path) -> None:
    rows = [{"source": f"the {n} candle", "target": f"{n} candles"} for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = texts(data={"train": str(tmp_path / "pairs.jsonl"), "validation": 4}, model={"name": str(tiny_t5)})
    made["task"] = {"name": "rewrite", "generation": {"max_new_tokens": 6}}
    run = burnish.train(made)
    assert burnish.load(run.path).evaluate().metrics == run.metrics["validation"]


def test_header_plan_and_report_tell_what_the_weights_take(texts: Make, with_report: None) -> None:
    told: list[Any] = []
    run = burnish.train(texts(), listeners=[told.append])
    plan = run.folder.read("plan.json")
    assert plan is not None and plan["quantize"] == "nf4"
    plain = transformers.AutoModelForCausalLM.from_pretrained(run.recipe.model.name)
    assert plan["weights"]["float32_bytes"] == 4 * plain.num_parameters() > 1.5 * plan["weights"]["bytes"]
    adapters = sum(p.numel() for name, p in run.model.named_parameters() if "lora_" in name)
    assert plan["parameters"]["total"] == plain.num_parameters() + adapters
    assert "in nf4" in run.folder.report.read_text()


# int8 for a run in full precision


@pytest.mark.parametrize("method", ["full", "lora"])
def test_any_run_can_be_opened_in_int8(recipe: Make, method: str) -> None:
    run = burnish.train(recipe(method=method))
    eight = burnish.load(run.path, quantize="int8")
    texts = ["The kettle is lovely", "My parcel was broken"]
    for whole, held in zip(run.predict(texts), eight.predict(texts), strict=True):
        assert held["probabilities"] == pytest.approx(whole["probabilities"], abs=0.05)
        assert held["probabilities"] != whole["probabilities"]
    assert any(type(module).__name__ == "Linear8bitLt" for module in eight.model.modules())
    before = run.metrics["validation"]
    assert eight.evaluate().metrics["loss"] == pytest.approx(before["loss"], abs=0.05)
    assert run.metrics["validation"] == before and (run.path / "evaluations" / "validation-int8.json").is_file()


@pytest.mark.parametrize(("method", "held"), [("dora", "int8"), ("lokr", "nf4")])
def test_a_run_that_computes_with_the_weights_is_not_opened_in_few_bits(recipe: Make, method: str, held: Any) -> None:
    run = burnish.train(recipe(method=method))
    with pytest.raises(RunError, match=f"method={method} learned has to compute with the weights themselves, which {held} does not bear"):
        burnish.load(run.path, quantize=held)


def test_the_command_line_opens_runs_in_int8(recipe: Make, tmp_path: Path) -> None:
    run = burnish.train(recipe())
    done = CliRunner().invoke(app, ["evaluate", str(run.path), "--int8"])
    assert done.exit_code == 0 and "accuracy" in done.output
    (tmp_path / "new.jsonl").write_text('{"text": "The parcel is late"}\n')
    done = CliRunner().invoke(app, ["predict", str(run.path), str(tmp_path / "new.jsonl"), "--int8"])
    assert done.exit_code == 0 and json.loads(done.output.splitlines()[0])["label"] in ("praise", "complaint")


def test_a_quantised_run_is_not_quantised_again(texts: Make) -> None:
    run = burnish.train(texts())
    with pytest.raises(RunError, match="held in nf4 already"):
        burnish.load(run.path, quantize="int8")
