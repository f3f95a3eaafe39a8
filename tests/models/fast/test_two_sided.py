"""Encoders and decoders packed side by side: the same scores and gradients as padded, however a batch is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from weights import model_of

from burnish.core.protocols import Batch
from burnish.engine.memory import recompute_blocks
from burnish.engine.savings import Engine, Savings
from burnish.models.blocks import anatomy
from burnish.models.fast import layout
from burnish.models.fast.install import Fast, quicken
from burnish.models.fast.layout import Spread
from burnish.models.fast.weighing import Group, dropped_attention

T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0, "vocab_size": 60}
SIDES = {
    f"{side}_{what}": number for side in ("encoder", "decoder") for what, number in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))
}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None}
BART = {**SIDES, **TOKENS, "d_model": 32, "vocab_size": 60, "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
LAYERDROP = {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "t5": {**T5, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0},
    "mt5": {**T5, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "tie_word_embeddings": False},
    **{name: {**BART, **LAYERDROP} for name in ("bart", "mbart", "pegasus", "marian", "blenderbot")},
}
SOURCES, TARGETS = (14, 9, 9, 4, 1), (3, 8, 2, 11, 5)


def new(architecture: str, **more: Any) -> Any:
    return model_of(architecture, "Seq2SeqLM", {**ARCHITECTURES[architecture], **more})


def tokens(lengths: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) ids, and which of them are real."""
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    drawn = torch.randint(5, 60, real.shape, generator=torch.Generator().manual_seed(seed))
    return drawn.masked_fill(~real, 0), real


def batch(chosen: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Batch:
    """Some of five texts and what is written of them, padded to the longest of the chosen."""
    (source, real), (target, written) = tokens(SOURCES, 1), tokens(TARGETS, 2)
    rows, wide, long = list(chosen), max(SOURCES[one] for one in chosen), max(TARGETS[one] for one in chosen)
    inputs = {
        "input_ids": source[rows, :wide],
        "attention_mask": real[rows, :wide].long(),
        "decoder_input_ids": target[rows, :long],
    }
    return Batch(inputs, {}, rows, 1.0, sum(SOURCES[one] for one in chosen), written[rows, :long])


def scores(model: Any, fast: Fast | None, given: Batch) -> torch.Tensor:
    """(N, V) at the tokens that are written."""
    found = model(**given.inputs).logits[given.read]
    return found.whole() if hasattr(found, "whole") else found


def passed(model: Any, fast: Fast | None, cuts: list[tuple[int, ...]]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What the model says of every text, cut into micro-batches, and the gradient of all of that."""
    model.zero_grad(set_to_none=True)
    said = {}
    for cut in cuts:
        given = batch(cut)
        with (fast or Fast()).passage.of(given, cut, (7, 3)):
            found = scores(model, fast, given)
            (found.tanh() * torch.linspace(0.5, 1.5, found.shape[-1])).sum().backward()
        said |= dict(zip(cut, found.detach().split([TARGETS[one] for one in cut]), strict=True))
    return torch.cat([said[one] for one in sorted(said)]), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(one: tuple[torch.Tensor, dict[str, torch.Tensor]], other: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
    assert other[0].std() > 0.1 and torch.allclose(one[0], other[0], atol=2e-5, rtol=1e-4)
    whole = torch.stack([gradient.norm() for gradient in other[1].values()]).norm()
    assert whole > 0.1 and one[1].keys() == other[1].keys()
    for name, gradient in other[1].items():
        assert (one[1][name] - gradient).norm() <= 2e-5 * whole, name


WHOLE = [(0, 1, 2, 3, 4)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_says_and_learns_what_padded_does(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SPARE", 40)  # so that a few short texts make several groups
    model, plain = new(architecture), new(architecture)
    fast = quicken(model, anatomy(model), Engine())
    assert fast.unpadded and fast.deferred and "unpadded" not in fast.reasons
    assert_same(passed(model, fast, WHOLE), passed(plain, None, WHOLE))
    given = batch()
    with fast.passage.of(given, given.examples, (0, 0)):
        scores(model, fast, given)
    assert given.slots == sum(SOURCES) + sum(TARGETS)


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_one_text_alone_goes_packed_too(architecture: str) -> None:
    model, plain = new(architecture), new(architecture)
    assert_same(passed(model, quicken(model, anatomy(model), Engine()), [(3,)]), passed(plain, None, [(3,)]))


def dropping(architecture: str) -> dict[str, float]:
    """BART draws all but its attention's by functions of torch, which know no key."""
    return {"dropout_rate": 0.2} if architecture == "t5" else {"attention_dropout": 0.3}


def with_dropout(architecture: str) -> tuple[Any, Fast]:
    model = new(architecture, **dropping(architecture))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    model.train()
    return model, quicken(model, anatomy(model), Engine())


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_the_same_is_dropped_however_a_batch_is_cut(architecture: str) -> None:
    model, fast = with_dropout(architecture)
    at_once = passed(model, fast, WHOLE)
    cut = passed(model, fast, [(4, 2), (0,), (3, 1)])
    assert_same(cut, at_once)
    assert not torch.allclose(at_once[0], passed(model.eval(), fast, WHOLE)[0], atol=1e-2)


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_blocks_that_are_computed_again_attend_on_their_own_side(architecture: str) -> None:
    model, fast = with_dropout(architecture)
    kept = passed(model, fast, WHOLE)
    recompute_blocks(model, anatomy(model).block_modules, 1)
    assert_same(passed(model, fast, WHOLE), kept)


def test_what_is_added_by_relative_position_learns_under_dropout() -> None:
    """Two groups of different lengths, the same masks: the gradients are those that autograd finds for the formula written out."""
    draw = torch.Generator().manual_seed(0)
    sides = layout.Layout((5, 3), 5, (0, 1), torch.device("cpu"), None)
    groups = [Spread.of(sides.rows, range(1)), Spread.of(sides.rows, range(1, 2))]
    kept = [torch.rand(1, 2, size, size, generator=draw) > 0.3 for size in (5, 3)]
    given = [torch.randn(8, 2, 4, generator=draw).requires_grad_() for _ in range(3)] + [
        torch.randn(1, 2, 5, 5, generator=draw).requires_grad_()
    ]
    q, k, v, bias = given
    attending = [Group(one, one, None, lambda shape, device, mask=mask: mask) for one, mask in zip(groups, kept, strict=True)]
    found = dropped_attention(q, k, v, bias, attending, 0.5, 1 / 0.7)
    rows = []
    for start, end, mask in ((0, 5, kept[0]), (5, 8, kept[1])):
        one, keys, values = (tensor[start:end].transpose(0, 1) for tensor in (q, k, v))
        weights = (one @ keys.transpose(1, 2) * 0.5 + bias[0, :, : end - start, : end - start]).softmax(dim=-1)
        rows.append(((weights * mask[0] / 0.7) @ values).transpose(0, 1))
    wanted = torch.cat(rows)
    assert torch.allclose(found, wanted, atol=1e-6)
    slopes, plainly = (torch.autograd.grad(one.sin().sum(), given) for one in (found, wanted))
    assert all(torch.allclose(one, other, atol=1e-5) and other.norm() > 0.1 for one, other in zip(slopes, plainly, strict=True))


@pytest.mark.parametrize("architecture", ["umt5", "m2m_100", "longt5"])
def test_what_cannot_be_packed_stays_padded_and_says_why(architecture: str) -> None:
    sizes = ARCHITECTURES["bart" if architecture == "m2m_100" else "t5"]
    model, plain = (model_of(architecture, "Seq2SeqLM", sizes).eval() for _ in range(2))
    fast = quicken(model, anatomy(model), Engine())
    assert fast.deferred and not fast.unpadded and fast.reasons["unpadded"]
    assert_same(passed(model, fast, WHOLE), passed(plain, None, WHOLE))


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_packed_without_scores_apart(architecture: str) -> None:
    model, plain = new(architecture), new(architecture)
    fast = quicken(model, anatomy(model), Engine(savings=Savings(supervised_logits=False)))
    assert fast.unpadded and not fast.deferred
    assert_same(passed(model, fast, WHOLE), passed(plain, None, WHOLE))


def test_switched_off_both_sides_are_padded() -> None:
    model = new("t5")
    fast = quicken(model, anatomy(model), Engine(savings=Savings(unpadded=False)))
    given = batch()
    with fast.passage.of(given, given.examples, (0, 0)):
        scores(model, fast, given)
    assert not fast.unpadded and given.slots == 5 * (max(SOURCES) + max(TARGETS))
