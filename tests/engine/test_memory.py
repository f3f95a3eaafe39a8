"""Ways to spare memory, each proved not to change a bit: losses, gradients, weights and moments, with dropout on."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toy import ToyModel, ToyObjective, toy_examples

from burnish.core.errors import ModelError, NonFiniteError
from burnish.core.protocols import IGNORED, Batch, Key, Technique
from burnish.core.rundir import RunFolder
from burnish.engine import checkpoint
from burnish.engine.batches import Budget
from burnish.engine.memory import OnHost, offloaded, recompute_blocks
from burnish.engine.progress import Progress
from burnish.engine.runtime import Runtime
from burnish.engine.step import Outcome, Step
from burnish.engine.update import InBackward, Scaled, Update
from burnish.models.blocks import anatomy
from burnish.optim.groups import parameter_groups

DROPOUT = 0.3
STEPS = 3
ROWS = 6
Prepare = Callable[[Any], Any]


def bert() -> Any:
    from transformers import BertConfig, BertForMaskedLM

    size = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}
    return BertForMaskedLM(BertConfig(hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT, **size))


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"n_embd": 16, "n_layer": 3, "n_head": 2, "vocab_size": 40, "n_positions": 32}
    return GPT2LMHeadModel(GPT2Config(resid_pdrop=DROPOUT, attn_pdrop=DROPOUT, embd_pdrop=DROPOUT, **size))


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}
    return LlamaForCausalLM(LlamaConfig(attention_dropout=DROPOUT, tie_word_embeddings=True, **size))


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2, "vocab_size": 40}
    return T5ForConditionalGeneration(T5Config(dropout_rate=DROPOUT, decoder_start_token_id=0, **size))


def albert() -> Any:
    from transformers import AlbertConfig, AlbertForMaskedLM

    size = {
        "hidden_size": 16,
        "embedding_size": 8,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 40,
    }
    return AlbertForMaskedLM(AlbertConfig(hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT, **size))


MODELS = {"bert": bert, "gpt2": gpt2, "llama": llama, "t5": t5}


class Sentences:
    """Rows of token ids of unlike lengths."""

    def __init__(self) -> None:
        draw = np.random.default_rng(1)
        self.ids = [draw.integers(1, 40, size=length) for length in (5, 9, 3, 12, 7, 4)]
        self.lengths = np.array([len(ids) for ids in self.ids])


class Language:
    """The loss that each model class itself takes for labels, summed over an example's tokens."""

    def collate(self, examples: Sentences, indices: Sequence[int], key: Key) -> Batch:
        longest = max(len(examples.ids[index]) for index in indices)
        ids = torch.zeros(len(indices), longest, dtype=torch.long)
        for row, index in enumerate(indices):
            ids[row, : len(examples.ids[index])] = torch.from_numpy(examples.ids[index])
        mask = (ids > 0).long()
        labels = ids.masked_fill(mask == 0, IGNORED)
        return Batch({"input_ids": ids, "attention_mask": mask}, {"labels": labels}, list(indices), float(mask.sum()), int(mask.sum()))

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        labels = batch.targets["labels"]
        more = {"labels": labels} if model.config.is_encoder_decoder else {}  # type: ignore[union-attr]
        logits = model(**batch.inputs, **more).logits  # (B, T, V)
        return nn.functional.cross_entropy(logits.transpose(1, 2).float(), labels, ignore_index=IGNORED, reduction="none").sum(dim=1)

    def outputs(self, model: nn.Module, batch: Batch) -> list[torch.Tensor]:
        return list(self.losses(model, batch))


def with_lora(model: Any) -> Any:
    import peft

    parts = anatomy(model)
    return peft.get_peft_model(model, peft.LoraConfig(r=2, lora_dropout=0.2, target_modules=list(parts.linears), init_lora_weights=False))


def make(name: str, prepare: Prepare = lambda model: model, adapt: Prepare = lambda model: model, **parts: Any) -> Step:
    """A step over a small model with dropout; `prepare` changes the model after `adapt` has been at it."""
    torch.manual_seed(3)
    model = {**MODELS, "albert": albert}[name]()
    blocks = anatomy(model).block_modules
    model = adapt(model)
    model.train()
    model.blocks = blocks
    prepare(model)
    groups = parameter_groups(model, 0.01, 0.1)
    build = parts.pop("build", adamw)
    optimizer = parts.pop("wrap", lambda build, groups: build(groups))(build, groups)
    update = parts.pop("update", Update)(optimizer)
    given = {"budget": Budget(ROWS, "ex"), "runtime": Runtime("cpu", parts.pop("precision", "fp32")), **parts}
    return Step(model=model, objective=Language(), examples=Sentences(), optimizer=optimizer, update=update, **given)


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.01, fused=True)


class Watching(Technique):
    """Keeps a copy of each gradient that an update was made from."""

    def __init__(self, step: Step) -> None:
        self.step, self.gradients = step, list[dict[str, torch.Tensor]]()

    def updated(self, number: int) -> None:
        named = {id(parameter): name for name, parameter in self.step.model.named_parameters()}
        self.gradients.append({named[id(p)]: p.grad.clone() for p in self.step.parameters if p.grad is not None})


def run(step: Step, steps: int = STEPS, first: int = 0) -> tuple[list[Outcome], list[dict[str, torch.Tensor]]]:
    """What each step told, and its gradients."""
    watching = Watching(step)
    step.techniques = [*step.techniques, watching]
    return [step(range(ROWS), number, 1.0 - 0.1 * number) for number in range(first, first + steps)], watching.gradients


def state(step: Step) -> dict[str, torch.Tensor]:
    """Weights and the optimizer's state."""
    tensors, _ = checkpoint.optimizer_state(step.optimizer)
    return {**step.model.state_dict(), **tensors}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def assert_exact(plain: Step, spared: Step) -> None:
    """Three steps of each: the same losses, gradients, weights and moments, and dropout that acts."""
    (told, gradients), (told_too, gradients_too) = run(plain), run(spared)
    assert told == told_too and len({outcome.loss for outcome in told}) == STEPS
    for one, other in zip(gradients, gradients_too, strict=True):
        assert one and any(gradient.abs().max() > 0 for gradient in one.values())
        assert_same(one, other)
    assert_same(state(plain), state(spared))


def recomputing(every: int = 1) -> Prepare:
    return lambda model: recompute_blocks(model, model.blocks, every)


# Blocks that are computed again


@pytest.mark.parametrize("budget", [6, 2])
@pytest.mark.parametrize("name", MODELS)
def test_blocks_computed_again_change_nothing(name: str, budget: int) -> None:
    cut: dict[str, Any] = {"budget": Budget(budget, "ex")}
    assert_exact(make(name, **cut), make(name, recomputing(), **cut))


@pytest.mark.parametrize("name", MODELS)
def test_with_lora_blocks_computed_again_change_nothing(name: str) -> None:
    assert_exact(make(name, adapt=with_lora), make(name, recomputing(), with_lora))


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_in_bf16_and_with_shared_blocks_they_change_nothing(name: str) -> None:
    assert_exact(make(name, precision="bf16"), make(name, recomputing(), precision="bf16"))


def blocks_of(step: Step) -> list[str]:
    return list(step.model.blocks)  # type: ignore[arg-type]


def calls_in_a_step(name: str, prepare: Prepare, train: bool = True) -> list[int]:
    """How often each block's own forward runs in one step, or in one evaluation."""
    step = make(name)
    counts = dict.fromkeys(blocks_of(step), 0)
    for block in counts:
        module = step.model.get_submodule(block)
        inner = module.forward

        def counted(*args: Any, block: str = block, inner: Any = inner, **kwargs: Any) -> Any:
            counts[block] += 1
            return inner(*args, **kwargs)

        module.forward = counted
    prepare(step.model)
    if train:
        step(range(ROWS), 0, 1.0)
    else:
        step.model.eval()
        step.objective.losses(step.model, step.objective.collate(step.examples, range(ROWS), (0, 0)))
    return list(counts.values())


@pytest.mark.parametrize(("every", "calls"), [(1, [2, 2, 2]), (2, [2, 1, 2]), (3, [2, 1, 1]), (9, [2, 1, 1])])
def test_every_nth_block_is_computed_twice_in_training_and_once_in_evaluation(every: int, calls: list[int]) -> None:
    assert calls_in_a_step("bert", recomputing(every)) == calls
    assert calls_in_a_step("bert", recomputing(every), train=False) == [1, 1, 1]
    assert calls_in_a_step("bert", lambda model: None) == [1, 1, 1]


def test_blocks_are_found_where_a_method_has_hung_the_model_into_another() -> None:
    model = with_lora(bert())
    assert recompute_blocks(model, anatomy(bert()).block_modules, 2) == [f"base_model.model.bert.encoder.layer.{block}" for block in (0, 2)]


@pytest.mark.parametrize("name", MODELS)
def test_activations_that_are_kept_shrink(name: str) -> None:
    """What autograd keeps between forward and backward, counted once for each storage."""
    assert 0 < 2 * kept_bytes(make(name, recomputing())) < kept_bytes(make(name))


def kept_bytes(step: Step) -> int:
    storages: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in step.model.parameters()}
    held = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    batch = step.objective.collate(step.examples, range(ROWS), (0, 0))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = step.objective.losses(step.model, batch).sum()
    total = sum(storages.values())
    loss.backward()
    return total


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_texts_are_still_written_with_a_cache_and_the_same(name: str) -> None:
    plain, spared = make(name).model.eval(), make(name, recomputing()).model.eval()
    ids = torch.tensor([[5, 6, 7]])
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    assert torch.equal(plain.generate(ids, **settings), spared.generate(ids, **settings))  # type: ignore[operator]


def test_a_cache_that_holds_what_a_method_learns_is_refused_and_not_dropped() -> None:
    import peft

    prefixed = peft.get_peft_model(llama(), peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    prefixed.train()
    recompute_blocks(prefixed, anatomy(llama()).block_modules, 1)
    with pytest.raises(ModelError, match=r"checkpoint_blocks.*prefix tuning"):
        prefixed(input_ids=torch.tensor([[5, 6, 7]]), attention_mask=torch.ones(1, 3))


# Waiting in the CPU's memory


@pytest.mark.parametrize("prepare", [lambda model: None, recomputing()], ids=["kept", "computed again"])
@pytest.mark.parametrize("name", MODELS)
def test_offloaded_activations_change_nothing(name: str, prepare: Prepare) -> None:
    assert_exact(make(name), make(name, prepare, keeping=lambda: offloaded(Runtime("cpu"))))


def sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True)


def adafactor(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(groups, lr=0.01)


OPTIMIZERS = {"adamw": adamw, "sgd": sgd, "adafactor": adafactor}


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_on_the_host_changes_nothing(build: Any) -> None:
    assert_exact(make("bert", build=build), make("bert", build=build, wrap=OnHost))


def test_an_optimizer_on_the_host_sees_what_else_changes_the_weights_and_its_settings() -> None:
    plain, away = make("bert"), make("bert", wrap=OnHost)
    for step in (plain, away):
        step(range(ROWS), 0, 1.0)
        with torch.no_grad():
            step.parameters[0].mul_(0.5)
        for group in step.optimizer.param_groups:
            group["weight_decay"] = 0.5
            group["betas"] = (0.5, 0.9)
        step(range(ROWS), 1, 1.0)
    assert_same(state(plain), state(away))


# Updates within backward


@pytest.mark.parametrize("name", [*MODELS, "albert"])
def test_updates_within_backward_change_nothing(name: str) -> None:
    """Tied weights (bert, gpt2, llama, t5) and shared blocks (albert) among them: a hook fires once a backward, when all is added."""
    plain, within = make(name), make(name, update=InBackward)
    (told, _), (told_too, _) = run(plain), run(within)
    assert told == told_too
    assert_same(state(plain), state(within))


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_updates_within_backward_are_those_of_every_optimizer(build: Any) -> None:
    plain, within = make("bert", build=build), make("bert", build=build, update=InBackward)
    run(plain), run(within)
    assert_same(state(plain), state(within))


def test_all_of_it_together_changes_nothing() -> None:
    plain = make("gpt2", adapt=with_lora)
    spared = make("gpt2", recomputing(), with_lora, update=InBackward, wrap=OnHost, keeping=lambda: offloaded(Runtime("cpu")))
    (told, _), (told_too, _) = run(plain), run(spared)
    assert told == told_too
    assert_same(state(plain), state(spared))


@pytest.mark.parametrize(("update", "most"), [(Update, 1.0), (InBackward, 0.2)])
def test_within_backward_gradients_do_not_stay(update: Any, most: float) -> None:
    """The largest share of the parameters that hold a gradient at once."""
    step, peak = make("bert", update=update), 0

    def count(gradient: torch.Tensor) -> None:
        nonlocal peak
        peak = max(peak, sum(p.grad is not None for p in step.parameters))

    for parameter in step.parameters:
        parameter.register_hook(count)
    step(range(ROWS), 0, 1.0)
    total = len(step.parameters)
    assert (peak >= total - 1) if update is Update else (0 < peak + 1 <= most * total)
    assert all(p.grad is None for p in step.parameters)


def frozen_first(update: Any) -> Any:
    """`update` over an optimizer whose first parameter does not learn yet, as gradual unfreezing has it."""

    def made(optimizer: Any) -> Update:
        optimizer.param_groups[0]["params"][0].requires_grad_(False)
        return update(optimizer)  # type: ignore[no-any-return]

    return made


def test_what_does_not_learn_yet_gets_its_hook_and_moves_once_it_does() -> None:
    plain, within = make("bert", update=frozen_first(Update)), make("bert", update=frozen_first(InBackward))
    for step in (plain, within):
        before = step.parameters[0].detach().clone()
        step(range(ROWS), 0, 1.0)
        assert torch.equal(step.parameters[0], before) and not step.parameters[0].requires_grad
        step.parameters[0].requires_grad_(True)
        step(range(ROWS), 1, 1.0)
        assert not torch.equal(step.parameters[0], before)
    assert_same(state(plain), state(within))


# Checkpoints, and what goes wrong

WAYS: dict[str, dict[str, Any]] = {
    "computed again": {"prepare": recomputing()},
    "activations away": {"keeping": lambda: offloaded(Runtime("cpu"))},
    "optimizer away": {"wrap": OnHost},
    "within backward": {"update": InBackward},
    "both": {"update": InBackward, "wrap": OnHost},
    "fp16": {"update": lambda optimizer: Scaled(optimizer, Runtime("cpu")), "precision": "fp16"},
    "fp16, optimizer away": {"update": lambda optimizer: Scaled(optimizer, Runtime("cpu")), "precision": "fp16", "wrap": OnHost},
}


@pytest.mark.parametrize("way", WAYS)
def test_resumed_from_a_checkpoint_every_way_ends_with_the_same_bits(way: str, folder: RunFolder) -> None:
    def begun() -> tuple[Step, checkpoint.Trained]:
        step = make("llama", **WAYS[way])
        step.techniques = [step.mover] if isinstance(step.mover, Scaled) else []
        return step, checkpoint.Trained(step.model, step.optimizer, step.techniques)

    whole, trained = begun()
    run(whole, 2)
    checkpoint.save(folder, trained, Progress(step=2), 1)
    told, _ = run(whole, 2, first=2)
    again, trained = begun()
    checkpoint.load(checkpoint.folder_of(folder, 2), trained)
    told_again, _ = run(again, 2, first=2)
    assert told == told_again
    assert_same(state(whole), state(again))


@pytest.mark.parametrize("way", WAYS)
def test_a_loss_that_is_no_number_is_refused_before_anything_moves(way: str) -> None:
    step = make("bert", place=lambda index: f"row {index + 1}", **WAYS[way])
    before = {name: tensor.clone() for name, tensor in step.model.state_dict().items()}
    losses = step.objective.losses
    step.objective.losses = lambda model, batch: losses(model, batch) * torch.tensor([1, 1, math.nan, 1, 1, 1])  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match=r"loss became nan at step 5; the weights were not touched(.|\n)*row \d\n"):
        step(range(ROWS), 4, 1.0)
    assert_same(before, step.model.state_dict())
    assert all(parameter.grad is None for parameter in step.parameters)


def test_within_backward_a_gradient_that_is_no_number_says_what_has_moved() -> None:
    step = make("bert", update=InBackward)
    spoiled = dict(step.model.named_parameters())["bert.encoder.layer.1.output.dense.weight"]
    spoiled.register_hook(lambda gradient: gradient * math.inf)
    before = spoiled.detach().clone()
    with pytest.raises(NonFiniteError, match=r"layer\.1\.output\.dense\.weight became (nan|inf) at step 3; what stands above it has moved"):
        step(range(ROWS), 2, 1.0)
    assert torch.equal(spoiled, before)


def test_within_backward_memory_that_runs_out_cannot_be_mended_by_smaller_micro_batches() -> None:
    step = make("bert", update=InBackward)

    def short(model: nn.Module, batch: Batch) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    step.objective.losses = short  # type: ignore[method-assign]
    with pytest.raises(MemoryError, match=r"step 8\. With train\.in_backward.*smaller train\.batch_size"):
        step(range(ROWS), 7, 1.0)


@pytest.mark.parametrize("way", [way for way in WAYS if "within" not in way and way != "both"])
def test_elsewhere_memory_that_runs_out_halves_the_micro_batch(way: str) -> None:
    step, said = make("bert", **WAYS[way]), list[str]()
    losses = step.objective.losses

    def short(model: nn.Module, batch: Batch) -> torch.Tensor:
        if len(batch.examples) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(model, batch)

    step.note, step.objective.losses = said.append, short  # type: ignore[method-assign]
    outcome = step(range(ROWS), 0, 1.0)
    assert said == ["out of memory at step 1: going on with micro-batches of 3ex; the mathematics is the same"]
    assert math.isfinite(outcome.grad_norm) and outcome.examples == ROWS


# fp16


def by_hand(steps: int) -> tuple[list[float], list[float], nn.Module, Any]:
    """torch's own recipe for fp16, over the same model, rows and seeds."""
    step, runtime = make("bert"), Runtime("cpu", "fp16")
    scaler = torch.amp.GradScaler("cpu")
    losses, norms = [], []
    for number in range(steps):
        for group in step.optimizer.param_groups:
            group["lr"] = 0.01 * (1.0 - 0.1 * number)
        runtime.seed(0, number)
        batch = step.objective.collate(step.examples, [3, 1, 4, 0, 5, 2], (0, number))
        with torch.autocast("cpu", dtype=torch.float16):
            loss = step.objective.losses(step.model, batch).sum() / batch.weight
        scaler.scale(loss).backward()
        scaler.unscale_(step.optimizer)
        norms.append(float(torch.nn.utils.clip_grad_norm_(step.parameters, 0.5)))
        scaler.step(step.optimizer)
        scaler.update()
        step.optimizer.zero_grad()
        losses.append(loss.item())
    return losses, norms, step.model, scaler


def test_fp16_is_torchs_own_recipe_with_loss_and_norm_unscaled() -> None:
    losses, norms, model, scaler = by_hand(STEPS)
    step = make("bert", update=lambda optimizer: Scaled(optimizer, Runtime("cpu")), precision="fp16", max_grad_norm=0.5)
    told, _ = run(step)
    assert [outcome.loss for outcome in told] == pytest.approx(losses, rel=1e-5)
    assert [outcome.grad_norm for outcome in told] == pytest.approx(norms, rel=1e-3)
    for name, tensor in model.named_parameters():
        torch.testing.assert_close(step.model.get_parameter(name), tensor, rtol=0, atol=2e-4)
    assert scaler.get_scale() == step.mover.scaler.get_scale() == 65536  # type: ignore[attr-defined]
    assert [outcome.loss for outcome in told] != [outcome.loss for outcome in run(make("bert", max_grad_norm=0.5))[0]]


def scaled_toy(factor: float, scale: float = 65536.0, said: list[str] | None = None) -> Step:
    """A toy whose gradient is about `factor`: in fp16 it overflows where factor x scale is over 65504."""
    torch.manual_seed(8)
    model, objective = ToyModel(), ToyObjective()
    squared = objective.error
    objective.error = lambda outputs, targets: factor * squared(outputs.float(), targets)
    optimizer = adamw(parameter_groups(model, 0.01, 0.1))
    update = Scaled(optimizer, Runtime("cpu"), scale)
    note = (said if said is not None else []).append
    given: dict[str, Any] = {
        "budget": Budget(8, "ex"),
        "runtime": Runtime("cpu", "fp16"),
        "update": update,
        "note": note,
        "objective": objective,
    }
    return Step(model=model, examples=toy_examples(), optimizer=optimizer, techniques=[update], **given)


def test_an_overflow_of_fp16_is_left_out_counted_and_told_until_the_scale_fits() -> None:
    said: list[str] = []
    step = scaled_toy(1e3, said=said)
    before = {name: tensor.detach().clone() for name, tensor in step.model.named_parameters()}
    first = step(range(8), 0, 1.0)
    assert first.grad_norm == math.inf and math.isfinite(first.loss)
    assert_same(before, dict(step.model.named_parameters()))
    assert not step.optimizer.state_dict()["state"], "not even a count of updates has moved"
    left_out = 1
    for number in range(1, 20):
        outcome = step(range(8), number, 1.0)
        left_out += outcome.grad_norm == math.inf
    assert 1 < left_out < 19 and len(said) == left_out == step.mover.skipped  # type: ignore[attr-defined]
    assert said[1] == ("step 2: the gradient overflows fp16 at a loss scale of 32768: update left out (2 so far), scale now 16384")
    assert 0 < outcome.grad_norm < 1e6 and not torch.equal(before["head.weight"], step.model.get_parameter("head.weight"))
    assert int(next(iter(step.optimizer.state.values()))["step"]) == 20 - left_out


def test_techniques_hear_nothing_of_an_update_that_was_left_out() -> None:
    step, heard = scaled_toy(1e3), list[str]()

    class Listening(Technique):
        def differentiated(self) -> float:
            heard.append("differentiated")
            return 0.0

        def updated(self, number: int) -> None:
            heard.append("updated")

    step.techniques = [*step.techniques, Listening()]
    step(range(8), 0, 1.0)
    assert heard == []


def test_a_gradient_that_no_scale_mends_is_refused() -> None:
    step, number = scaled_toy(1e3, scale=4.0), 0
    step.model.head.weight.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[union-attr, operator]
    before = {name: tensor.detach().clone() for name, tensor in step.model.named_parameters()}
    with pytest.raises(NonFiniteError, match=r"gradient became (inf|nan) at step 3; the weights were not touched"):
        while number < 9:
            step(range(8), number, 1.0)
            number += 1
    assert number == 2, "the scale fell from 4 to 2 and to 1 before"
    assert_same(before, dict(step.model.named_parameters()))


def test_the_scale_grows_again_and_its_count_is_kept() -> None:
    step = scaled_toy(1.0, scale=8.0)
    update: Any = step.mover
    update.scaler.set_growth_interval(3)
    for number in range(2):
        step(range(8), number, 1.0)
    tensors, values = update.state()
    other = scaled_toy(1.0, scale=2.0)
    other.techniques[0].restore(tensors, values)
    for one in (step, other):
        assert one.mover.scaler.get_scale() == 8.0  # type: ignore[attr-defined]
        one(range(8), 2, 1.0)
        assert one.mover.scaler.get_scale() == 16.0  # type: ignore[attr-defined]


# What it saves

PEAK = """
import resource, sys
import torch
from transformers import BertConfig, BertForMaskedLM
from burnish.engine.memory import recompute_blocks
from burnish.engine.update import InBackward, Update
from burnish.models.blocks import anatomy

torch.manual_seed(0)
size = {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048, "vocab_size": 1000}
model = BertForMaskedLM(BertConfig(**size))
model.train()
if sys.argv[1] == "computed again":
    recompute_blocks(model, anatomy(model).block_modules, 1)
groups = [{"params": list(model.parameters()), "names": [name for name, _ in model.named_parameters()]}]
update = (InBackward if sys.argv[1] == "within backward" else Update)(torch.optim.SGD(groups, lr=1e-3))
ids = torch.randint(1, 1000, (int(sys.argv[2]), int(sys.argv[3])))
loss = model(input_ids=ids, labels=ids).loss
update.backward(loss)
update.move()
print(loss.item(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak(way: str, rows: int, tokens: int) -> tuple[float, float]:
    """The loss of a step over a random BERT of 38 million parameters, and the peak of resident memory in MiB, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", PEAK, way, str(rows), str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    loss, memory = done.stdout.split()
    return float(loss), float(memory)


@pytest.mark.slow
def test_resident_memory_falls_by_what_is_not_kept() -> None:
    """Blocks computed again, over many rows, and updates within backward, over a few tokens, where gradients are what counts."""
    (loss, kept), (loss_again, again) = peak("plain", 8, 128), peak("computed again", 8, 128)
    print(f"\n8 rows of 128 tokens: {kept:.0f} MiB with every block kept, {again:.0f} MiB with every block computed again")
    assert loss == loss_again and again < 0.8 * kept
    (loss, held), (loss_within, within) = peak("plain", 1, 8), peak("within backward", 1, 8)
    weights = 38.5e6 * 4 / 2**20
    print(f"8 tokens: {held:.0f} MiB with all gradients held, {within:.0f} MiB moved within backward ({weights:.0f} MiB of weights)")
    assert loss == loss_within and held - within > 0.8 * weights
