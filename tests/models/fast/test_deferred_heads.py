"""A language model's scores in chunks through its own head, whatever its class makes of them: losses, gradients, weights after several steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers

from burnish.core import deferred
from burnish.core.deferred import DeferredGrid
from burnish.core.protocols import IGNORED, Batch
from burnish.engine.savings import Engine, Savings
from burnish.losses.likelihood import by_example, next_tokens, of_tokens
from burnish.models.blocks import anatomy
from burnish.models.fast.dropout import key_dropouts
from burnish.models.fast.install import quicken

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40, "pad_token_id": 0}
SIDES = {"layers": 1, "attention_heads": 2, "ffn_dim": 24}
BART = {
    **{f"{side}_{name}": number for side in ("encoder", "decoder") for name, number in SIDES.items()},
    "d_model": 16,
    "dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0, "decoder_start_token_id": 0}
PLAIN = Savings.model_validate(dict.fromkeys(Savings.model_fields, False))


@dataclass(frozen=True)
class Kind:
    """An architecture, which head transformers puts on it, what is special about it, and how peft wraps it."""

    name: str
    head: str
    settings: dict[str, Any]
    adapter: dict[str, Any] | None = None


def lora(**settings: Any) -> dict[str, Any]:
    return {"r": 2, "init_lora_weights": False, **settings}


DECODER = {"num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
KINDS = {
    "tied": Kind("llama", "CausalLM", {**DECODER, "tie_word_embeddings": True}),
    "capped": Kind("gemma2", "CausalLM", {**DECODER, "head_dim": 8, "final_logit_softcapping": 2.0, "attn_logit_softcapping": None}),
    "scaled": Kind("cohere", "CausalLM", {**DECODER, "logit_scale": 0.3}),
    "divided": Kind("granite", "CausalLM", {**DECODER, "logits_scaling": 3.0}),
    "transformed first": Kind("bert", "MaskedLM", {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}),
    "two stacks": Kind("bart", "Seq2SeqLM", BART),
    "two stacks, tied and scaled": Kind("t5", "Seq2SeqLM", {**T5, "tie_word_embeddings": True}),
    "an adapter on the head": Kind("llama", "CausalLM", DECODER, lora(target_modules=["q_proj", "lm_head"])),
    "a head that learns beside an adapter": Kind(
        "llama", "CausalLM", DECODER, lora(target_modules=["q_proj"], modules_to_save=["lm_head"])
    ),
    "an adapter that drops": Kind("llama", "CausalLM", DECODER, lora(target_modules=["q_proj", "lm_head"], lora_dropout=0.4)),
}


@pytest.fixture(autouse=True)
def chunks_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("KEPT", 0), ("CHUNK", 1), ("FEWEST", 3), ("MOST", 10**6)):
        monkeypatch.setattr(deferred, name, value)


def made(kind: Kind) -> Any:
    """Weights of every size, so that no part of the model does nothing."""
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(kind.name, **{**SIZES, **kind.settings})
    model = getattr(transformers, f"AutoModelFor{kind.head}").from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if kind.adapter is not None:
        import peft

        model = peft.get_peft_model(model, peft.LoraConfig(**kind.adapter))
    return model.train()


def batch(kind: Kind, lengths: tuple[int, ...]) -> Batch:
    """Texts of which two tokens in three are foretold."""
    ids = torch.randint(4, 40, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(2))
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    inputs = {"input_ids": ids.masked_fill(~real, 0), "attention_mask": real.long()}
    if kind.head == "Seq2SeqLM":
        inputs["decoder_input_ids"] = inputs["input_ids"]
    labels = ids.masked_fill(~real | (torch.arange(max(lengths)) % 3 == 1), IGNORED)
    labels = next_tokens(labels) if kind.head == "CausalLM" else labels
    return Batch(inputs, {"labels": labels}, range(len(lengths)), 1.0, sum(lengths), labels != IGNORED)


def trained(kind: Kind, savings: Savings, lengths: tuple[int, ...], sizes: list[int]) -> tuple[list[float], Any]:
    """Losses of four steps, and the model then. `sizes` hears how many rows go through the output matrix at once."""
    model = made(kind)
    inner = model.get_base_model() if kind.adapter else model
    fast = quicken(model, anatomy(inner), Engine(savings=savings))
    assert fast.deferred == savings.supervised_logits and not fast.reasons.get("supervised_logits")
    key_dropouts(model, fast.passage)
    inner.get_output_embeddings().register_forward_hook(lambda module, given, found: sizes.append(found.shape[:-1].numel()))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.03, momentum=0.9)
    losses = []
    for step in range(4):
        one = batch(kind, lengths)
        with fast.passage.of(one, range(len(lengths)), (0, step)):
            logits = model(**one.inputs).logits
            assert isinstance(logits, DeferredGrid) == savings.supervised_logits
            loss = by_example([of_tokens(logits, one.targets["labels"], one.read)], len(lengths)).sum() / 10
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("lengths", [(9, 6, 2), (11,)], ids=["texts", "one text"])
def test_training_is_that_of_whole_logits(name: str, lengths: tuple[int, ...]) -> None:
    """Adapters that drop drop the same, for what is drawn depends on the token, not on the chunk that it is in."""
    kind, sizes, none = KINDS[name], list[int](), list[int]()
    (found, quick), (wanted, plain) = trained(kind, Savings(), lengths, sizes), trained(kind, PLAIN, lengths, none)
    assert found == pytest.approx(wanted, rel=1e-5)
    for one, other in zip(quick.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    supervised = int((batch(kind, lengths).targets["labels"] != IGNORED).sum())
    assert max(sizes) <= 5 < supervised and sum(sizes) == 4 * (supervised + 1) and len(none) == 4


@pytest.mark.parametrize("packed", [True, False])
def test_the_gradient_of_an_adapter_that_drops_is_the_slope(packed: bool) -> None:
    """A micro-batch of one text: the rows of a chunk could be taken for its first tokens, and be dropped otherwise in backward."""
    kind = Kind("llama", "CausalLM", DECODER, lora(target_modules=["lm_head"], lora_dropout=0.4))
    model = made(kind).double()
    savings = PLAIN.model_copy(update={"unpadded": packed, "supervised_logits": True})
    fast = quicken(model, anatomy(model.get_base_model()), Engine(savings=savings))
    key_dropouts(model, fast.passage)
    parameters = [p for p in model.parameters() if p.requires_grad]
    one = batch(kind, (11,))

    def nats(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]

    def loss(then: Callable[[torch.Tensor], Any]) -> float:
        with fast.passage.of(one, [0], (0, 3)):
            total = of_tokens(model(**one.inputs).logits, one.targets["labels"], one.read).costs(nats).sum()
            then(total)
        return total.item()

    loss(lambda total: total.backward())
    ways = [torch.randn_like(p) for p in parameters]
    slope = sum(float((p.grad * way).sum()) for p, way in zip(parameters, ways, strict=True) if p.grad is not None)
    sides = []
    for shift in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, way in zip(parameters, ways, strict=True):
                parameter.add_(way, alpha=shift)
        sides.append(loss(torch.Tensor.detach))
    assert slope == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5)
