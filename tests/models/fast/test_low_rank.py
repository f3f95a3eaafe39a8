"""LoRA in one function gives what peft gives: outputs, every gradient, the weights after some steps; what is no plain LoRA stays peft's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from weights import model_of

from burnish.core.protocols import Batch
from burnish.models.fast import low_rank
from burnish.models.fast.dropout import key_dropouts
from burnish.models.fast.low_rank import LowRank, fuse_low_rank
from burnish.models.fast.passing import Passage
from burnish.models.fast.prepacked import prepack

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60, "pad_token_id": 0}
MODELS = {
    "bert": ("SequenceClassification", ["query", "key", "value", "dense"]),
    "llama": ("CausalLM", ["q_proj", "v_proj", "o_proj", "down_proj"]),
}


def adapted(kind: str, fused: bool, **settings: Any) -> Any:
    """A model with LoRA of which no part is zero, its frozen weights laid out; `fused` or as peft computes it."""
    head, targets = MODELS[kind]
    model = model_of(kind, head, SIZES)
    torch.manual_seed(5)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=3, target_modules=targets, init_lora_weights=False, **settings)).train()
    if fused:
        prepack(wrapped, training=True)
        assert fuse_low_rank(wrapped) == sum(isinstance(module, peft.tuners.lora.Linear) for module in wrapped.modules()) > 0
    return wrapped


def given() -> Batch:
    mask = torch.arange(12) < torch.tensor([12, 7, 9, 12])[:, None]
    ids = torch.randint(5, 60, mask.shape, generator=torch.Generator().manual_seed(1)).masked_fill(~mask, 0)
    return Batch({"input_ids": ids, "attention_mask": mask.long()}, {}, range(4), 1.0, int(mask.sum()))


def loss_of(model: Any, passage: Passage | None = None, step: int = 0) -> torch.Tensor:
    batch = given()
    with (passage or Passage()).of(batch, range(4), (0, step)):
        logits = model(**batch.inputs).logits
    return (logits.tanh() * torch.linspace(0.5, 1.5, logits.numel()).view_as(logits)).mean()


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many products have gone through the one function, in a list of one number."""
    calls, own = [0], low_rank.Adapted.apply

    def apply(*inputs: Any) -> Any:
        calls[0] += 1
        return own(*inputs)

    monkeypatch.setattr(low_rank.Adapted, "apply", apply)
    return calls


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"lora_dropout": 0.3}], ids=["lora", "rslora", "dropout"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_same_gradients_and_steps(kind: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    plain, fused = adapted(kind, False, **settings), adapted(kind, True, **settings)
    passages = []
    for model in (plain, fused):
        passages.append(passage := Passage())
        key_dropouts(model, passage)
    movers = [torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2) for model in (plain, fused)]
    for step in range(4):
        before = calls[0]
        losses = [loss_of(model, passage, step) for model, passage in zip((plain, fused), passages, strict=True)]
        assert calls[0] - before == sum(isinstance(one.forward, LowRank) for name, one in fused.named_modules() if ".layer" in name)
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
        for loss in losses:
            loss.backward()
        wanted, found = gradients(plain), gradients(fused)
        assert found.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=1e-6, msg=name)
        for mover in movers:
            mover.step()
            mover.zero_grad()
    for (name, one), two in zip(fused.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4, msg=name)


def test_the_gradient_of_what_stands_below_is_whole() -> None:
    """Through the frozen weight and through the update, dropped or not."""
    for settings in ({}, {"lora_dropout": 0.4}):
        found = []
        for fused in (False, True):
            model = adapted("bert", fused, **settings)
            layer = model.get_submodule("base_model.model.bert.encoder.layer.0.intermediate.dense")
            rows = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(2)).requires_grad_()
            torch.manual_seed(7)
            layer(rows).square().sum().backward()
            found.append(rows.grad)
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


def double(model: Any) -> None:
    torch.manual_seed(6)
    model.add_adapter("second", peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "second"])


def switch_off(model: Any) -> None:
    model.base_model.disable_adapter_layers()
    model.get_input_embeddings().weight.requires_grad_(True)


def listen(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda module, inputs, output: output * 1.1)


OTHERWISE: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "dora": ({"use_dora": True}, lambda model: None),
    "biases that learn": ({"bias": "all"}, lambda model: None),
    "biases of its own": ({"lora_bias": True}, lambda model: None),
    "switched off": ({}, switch_off),
    "two at once": ({}, double),
    "listened to": ({}, listen),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_what_is_no_plain_lora_is_left_to_peft(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, (settings, change) = counted(monkeypatch), OTHERWISE[case]
    monkeypatch.setattr(low_rank, "FEWEST", 1)
    plain, fused = adapted("bert", False, **settings), adapted("bert", True, **settings)
    for model in (plain, fused):
        change(model)
        loss_of(model).backward()
    touched = sum(isinstance(getattr(module, "forward", None), LowRank) for module in fused.modules())
    assert calls[0] < touched if case == "two at once" else calls[0] == 0
    wanted, found = gradients(plain), gradients(fused)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=1e-6, msg=name)


def test_a_merged_adapter_counts_once() -> None:
    plain, fused = adapted("bert", False), adapted("bert", True)
    for model in (plain, fused):
        model.base_model.merge_adapter()
    torch.testing.assert_close(loss_of(fused), loss_of(plain), rtol=1e-5, atol=1e-6)


def test_autocast_and_evaluation_go_pefts_way(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, plain, fused = counted(monkeypatch), adapted("bert", False), adapted("bert", True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, wanted = loss_of(fused), loss_of(plain)
    assert torch.equal(found, wanted)
    with torch.no_grad():
        torch.testing.assert_close(loss_of(fused), loss_of(plain), rtol=1e-5, atol=1e-6)
    assert calls[0] == 0


def test_only_frozen_weights_that_are_laid_out_are_taken() -> None:
    model = adapted("bert", False)
    assert fuse_low_rank(model) == 0 and fuse_low_rank(model.get_base_model()) == 0
    prepack(model)
    assert fuse_low_rank(model) == 0
