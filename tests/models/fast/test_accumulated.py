"""Gradients of large tables that are added in place are those that autograd adds up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from weights import model_of

from burnish.core import deferred
from burnish.core.protocols import IGNORED, Batch
from burnish.engine.savings import Engine
from burnish.losses.likelihood import by_example, cross_entropy, next_tokens, of_tokens
from burnish.models.blocks import anatomy
from burnish.models.fast import accumulated
from burnish.models.fast.accumulated import Input, Output, scatter_inputs, sum_outputs
from burnish.models.fast.install import quicken

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60, "pad_token_id": 0}
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 60,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "tied": ("llama", "CausalLM", {**SIZES, "tie_word_embeddings": True}),
    "untied": ("llama", "CausalLM", {**SIZES, "tie_word_embeddings": False}),
    "tied, with a bias": ("bert", "MaskedLM", SIZES),
    "two stacks": ("t5", "Seq2SeqLM", {**T5, "tie_word_embeddings": True, "dropout_rate": 0.0}),
}


@pytest.fixture(autouse=True)
def chunks_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("KEPT", 0), ("CHUNK", 1), ("FEWEST", 3), ("MOST", 10**6)):
        monkeypatch.setattr(deferred, name, value)


def batch(head: str, seed: int) -> Batch:
    ids = torch.randint(4, 60, (3, 9), generator=torch.Generator().manual_seed(seed))
    real = torch.arange(9) < torch.tensor([9, 6, 3])[:, None]
    inputs = {"input_ids": ids.masked_fill(~real, 0), "attention_mask": real.long()}
    if head == "Seq2SeqLM":
        inputs["decoder_input_ids"] = inputs["input_ids"]
    labels = ids.masked_fill(~real | (torch.arange(9) % 3 == 1), IGNORED)
    labels = next_tokens(labels) if head == "CausalLM" else labels
    return Batch(inputs, {"labels": labels}, range(3), 1.0, 18, labels != IGNORED)


def weighted(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, targets) * targets


def trained(kind: str, in_place: bool, slopes: torch.Tensor, packed: bool = True) -> Any:
    """A model after three steps, each the sum over two micro-batches."""
    name, head, settings = KINDS[kind]
    model = model_of(name, head, settings).train()
    fast = quicken(model, anatomy(model), Engine()) if packed else None
    if in_place:
        sum_outputs(model)
        scatter_inputs(model)
        assert isinstance(model.get_output_embeddings().forward, Output)
        assert isinstance(model.get_input_embeddings().forward, Input)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(3):
        for number in range(2):
            one = batch(head, 2 * step + number)
            with fast.passage.of(one, range(3), (0, step)) if fast else torch.enable_grad():
                logits = model(**one.inputs).logits
                losses = by_example([of_tokens(logits, one.targets["labels"], one.read)], 3)
                (losses * slopes).sum().backward()
        optimizer.step()
        if step < 2:
            optimizer.zero_grad()
    return model


@pytest.mark.parametrize("slopes", [(0.1, 0.1, 0.1), (0.1, 0.2, 0.3)], ids=["one slope", "several slopes"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_weights_are_the_same(kind: str, slopes: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    own = accumulated.Sums.add_product
    monkeypatch.setattr(accumulated.Sums, "add_product", lambda self, *given: (calls.append(1), own(self, *given))[1])
    found, wanted = (trained(kind, in_place, torch.tensor(slopes)) for in_place in (True, False))
    assert len(calls) >= 2 * 3 * 3
    for (name, one), other in zip(found.named_parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_without_chunks_and_passes(kind: str) -> None:
    found, wanted = (trained(kind, in_place, torch.full((3,), 0.1), packed=False) for in_place in (True, False))
    for (name, one), other in zip(found.named_parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_padding_learns_nothing() -> None:
    model = model_of("bert", "SequenceClassification", SIZES)
    scatter_inputs(model)
    ids = torch.tensor([[5, 6, 0, 0]])
    model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
    moved = model.get_input_embeddings().weight.grad.abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert moved == [5, 6]


def test_what_does_not_learn_or_is_no_plain_table_stays() -> None:
    model = model_of("llama", "CausalLM", KINDS["tied"][2])
    model.get_input_embeddings().weight.requires_grad_(False)
    scatter_inputs(model)
    assert "forward" not in vars(model.get_input_embeddings())
    ids = torch.tensor([[5, 6, 7, 8]])
    model(input_ids=ids).logits.sum().backward()
    assert model.get_input_embeddings().weight.grad is None
    other = model_of("llama", "CausalLM", KINDS["tied"][2])
    other.get_input_embeddings().max_norm = 1.0
    scatter_inputs(other)
    assert "forward" not in vars(other.get_input_embeddings())
    adapted = nn.Sequential(nn.Linear(4, 4))
    adapted.get_output_embeddings = lambda: adapted
    sum_outputs(adapted)
    assert "forward" not in vars(adapted)
