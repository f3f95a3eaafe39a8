"""Dropout by key in models: the same values fall however tokens are laid out, batches cut, blocks computed again; otherwise as torch's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from burnish.core.protocols import Batch
from burnish.engine.memory import recompute_blocks
from burnish.engine.savings import Engine
from burnish.models.blocks import anatomy
from burnish.models.dropout import Dropout, place_dropout
from burnish.models.fast.dropout import attention_kept, drop, key_dropouts
from burnish.models.fast.install import quicken
from burnish.models.fast.layout import Rows
from burnish.models.fast.passing import Passage

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 50, "pad_token_id": 0}
KEY = (5, 2)
LENGTHS = (6, 3, 5, 1, 4, 6, 2, 2)


def batch(lengths: Sequence[int]) -> Batch:
    """Texts whose tokens depend on nothing but their length and place in the text."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = (5 + torch.arange(max(lengths)) + 7 * torch.tensor(lengths)[:, None]) % 45 + 5
    inputs = {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}
    return Batch(inputs, {}, range(len(lengths)), len(lengths), sum(lengths))


def model_of(kind: str = "Bert") -> Any:
    """Dropout everywhere but on attention's probabilities, which the padded model's own function draws."""
    torch.manual_seed(0)
    cls = getattr(transformers, f"{kind}ForSequenceClassification")
    settings = {**SIZES, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.2, "classifier_dropout": 0.3}
    return enlarged(cls(cls.config_class(**settings)))


def enlarged(model: Any) -> Any:
    """With weights so large that what is dropped is seen in the loss."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def gradient(model: nn.Module, passage: Passage, cut: int, step: int = KEY[1]) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a batch and all its gradients, in micro-batches of `cut`."""
    model.train().zero_grad(set_to_none=True)
    loss = 0.0
    for start in range(0, len(LENGTHS), cut):
        part = batch(LENGTHS[start : start + cut])
        with passage.of(part, range(start, start + len(part.examples)), (KEY[0], step)):
            found = model(**part.inputs).logits.square().sum() / len(LENGTHS)
            found.backward()
        loss += found.item()
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def apart(one: tuple[float, dict[str, torch.Tensor]], other: tuple[float, dict[str, torch.Tensor]]) -> float:
    """How far two losses, and any two gradients, differ, as a share of the loss and of the largest gradient."""
    assert one[1].keys() == other[1].keys()
    largest = max(float(value.abs().max()) for value in one[1].values())
    gradients = max(float((value - other[1][name]).abs().max()) for name, value in one[1].items())
    return max(abs(one[0] - other[0]) / one[0], gradients / largest)


CLOSE = 1e-5


def test_padded_packed_and_trimmed_rows_drop_the_same() -> None:
    lengths, passage = (4, 2, 3), Passage()
    real = torch.arange(4) < torch.tensor(lengths)[:, None]
    x = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(0))
    slots, positions = real.nonzero(as_tuple=True)
    rows, read = Rows(slots + 8, positions), torch.tensor([0, 4, 6])
    with passage.of(batch(lengths), [8, 9, 10], KEY):
        padded = drop(x, 0.4, 3, passage)
    with passage.of(batch(lengths), [8, 9, 10], KEY) as now:
        now.known = [rows, rows.taken(read)]
        assert torch.equal(drop(x[real][None], 0.4, 3, passage)[0], padded[real])
        now.visits.clear()
        assert torch.equal(drop(x[real][read][None], 0.4, 3, passage)[0], padded[real][read])
    with passage.of(batch(lengths), [8, 9, 10], KEY):
        assert torch.equal(drop(x[:, 0], 0.4, 3, passage), padded[:, 0])
    assert not torch.equal(padded, x)


@pytest.mark.parametrize("kind", ["Bert", "Albert"])
def test_a_batch_may_be_cut_in_any_way(kind: str) -> None:
    model, passage = model_of(kind), Passage()
    key_dropouts(model, passage)
    whole = gradient(model, passage, 8)
    assert apart(whole, gradient(model, passage, 1)) < CLOSE
    assert apart(whole, gradient(model, passage, 3)) < CLOSE
    assert apart(whole, gradient(model, passage, 8, step=9)) > 0.01


def test_weights_are_the_same_after_several_steps_however_batches_were_cut() -> None:
    found = []
    for cut in (8, 2):
        model, passage = model_of(), Passage()
        key_dropouts(model, passage)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)  # Adam makes a step of what is but rounding
        for step in range(4):
            loss, _ = gradient(model, passage, cut, step)
            optimizer.step()
        found.append((loss, {name: p.detach() for name, p in model.named_parameters()}))
    assert apart(*found) < CLOSE


@pytest.mark.parametrize("kind", ["Bert", "Albert"])
def test_a_block_that_is_computed_again_drops_the_same_bit_for_bit(kind: str) -> None:
    model, passage = model_of(kind), Passage()
    key_dropouts(model, passage)
    want = gradient(model, passage, 4)
    assert recompute_blocks(model, anatomy(model).block_modules, 1)
    found = gradient(model, passage, 4)
    assert found[0] == want[0]
    assert all(torch.equal(value, want[1][name]) for name, value in found[1].items())


class Twice(nn.Module):
    """A block that goes through one module twice."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(6, 6), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.linear(self.dropout(x)))


def test_each_visit_to_a_shared_module_draws_anew_and_is_found_again_in_backward() -> None:
    torch.manual_seed(0)
    model, passage, x = nn.Sequential(*[Twice()] * 3), Passage(), torch.randn(8, 6)
    assert key_dropouts(model, passage) == (1, 1)

    def passed() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad(set_to_none=True)
        with passage.of(batch(LENGTHS), range(8), KEY):
            found = model(x)
            found.square().sum().backward()
        return found, [p.grad for p in model.parameters() if p.grad is not None]

    want = passed()
    with passage.of(batch(LENGTHS), range(8), KEY):
        zeros = [tuple((drop(torch.ones(8, 6), 0.5, 3, passage) == 0).flatten().tolist()) for _ in range(4)]
    assert len(set(zeros)) == 4
    assert recompute_blocks(model, ["0"], 1)
    found = passed()
    assert torch.equal(found[0], want[0]) and all(map(torch.equal, found[1], want[1]))


def test_what_is_captured_for_a_trimmed_block_is_no_visit() -> None:
    passage, x = Passage(), torch.ones(8, 3, 4)
    with passage.of(batch(LENGTHS), range(8), KEY) as now:
        now.capturing = True
        captured = drop(x, 0.5, 1, passage)
        now.capturing = False
        first, second = drop(x, 0.5, 1, passage), drop(x, 0.5, 1, passage)
    assert torch.equal(captured, first) and not torch.equal(first, second)


def test_attention_drops_what_its_function_says() -> None:
    passage, weights = Passage(), torch.rand(3, 2, 5, 5) + 0.1
    with passage.of(batch((5, 4, 2)), [3, 4, 9], KEY):
        found = drop(weights, 0.5, 6, passage)
    kept = attention_kept(torch.tensor([3, 4, 9]), torch.arange(5).expand(3, 5), 2, 5, 6, KEY, 0.5)
    torch.testing.assert_close(found, weights * kept * 2)


def test_evaluation_and_no_probability_leave_a_tensor_alone() -> None:
    module, passage, x = nn.Dropout(0.5), Passage(), torch.randn(2, 3, 4)
    key_dropouts(nn.Sequential(module), passage)
    with passage.of(batch((3, 3)), range(2), KEY):
        assert module.eval()(x) is x
        module.train().p = 0.0
        assert module(x) is x
        module.p = 0.5  # whoever turns the probability while a model trains is heard
        assert (module(x) == 0).any()


@pytest.mark.parametrize("shape", [(5, 3, 4), (7,), (2, 3, 4, 5, 6)])
def test_outside_of_a_pass_and_on_other_shapes_torch_draws(shape: tuple[int, ...]) -> None:
    passage, x = Passage(), torch.randn(shape)

    def seeded(function: Callable[[], torch.Tensor]) -> torch.Tensor:
        torch.manual_seed(3)
        return function()

    want = seeded(lambda: F.dropout(x, 0.5))
    assert torch.equal(seeded(lambda: drop(x, 0.5, 0, passage)), want)
    with passage.of(batch((3, 3)), range(2), KEY):
        assert torch.equal(seeded(lambda: drop(x, 0.5, 0, passage)), want)
        assert not drop(torch.ones(2, 3, 4), 1.0, 0, passage).any()


def test_an_expectation_is_kept_and_the_gradient_is_what_was_kept() -> None:
    passage = Passage()
    x = torch.ones(8, 50, 64, requires_grad=True)
    with passage.of(batch(LENGTHS), range(8), KEY):
        found = drop(x, 0.25, 0, passage)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert torch.equal(gradient, found.detach())
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    assert found.mean().item() == pytest.approx(1, abs=4.5 * (1 / 3 / x.numel()) ** 0.5)


def test_modules_keep_their_names_and_a_copy_of_a_model_draws_for_itself() -> None:
    model, passage = model_of(), Passage()
    names, kinds = list(model.state_dict()), [type(module) for module in model.modules()]
    key_dropouts(model, passage)
    assert list(model.state_dict()) == names and [type(module) for module in model.modules()] == kinds
    other = copy.deepcopy(model)
    other.dropout.p = 0.9
    assert model.dropout.p == 0.3 and model.dropout.forward.module is model.dropout
    assert other.dropout.forward.module is other.dropout


def test_every_site_is_counted() -> None:
    bert = model_of()
    assert key_dropouts(bert, Passage()) == (8, 8)  # embeddings, two in each of three blocks, before the head
    place_dropout(bert, anatomy(bert), Dropout(attention=0.1))
    assert key_dropouts(bert, Passage()) == (11, 11)
    bart = transformers.BartForConditionalGeneration(
        transformers.BartConfig(vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                                decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, dropout=0.1)
    )  # fmt: skip
    keyed, sites = key_dropouts(bart, Passage())
    assert keyed == 0 and sites >= 4  # BART hands numbers to functions
    assert key_dropouts(nn.Sequential(nn.Dropout(0.1), nn.Dropout2d(0.1), nn.Dropout(0.0)), Passage()) == (1, 2)


def test_hooks_that_drop_do_so_by_key_and_anew_at_each_place() -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{**SIZES, "bos_token_id": 1, "eos_token_id": 2})
    model, passage = enlarged(transformers.LlamaForSequenceClassification(config)), Passage()
    place_dropout(model, anatomy(model), Dropout(embeddings=0.2, feed_forward=0.2, head=0.2))
    keyed, sites = key_dropouts(model, passage)
    assert keyed == sites == 8
    places = {hook.__self__.draw.keywords["place"] for module in model.modules() for hook in module._forward_hooks.values()}
    assert len(places) == 7
    assert apart(gradient(model, passage, 8), gradient(model, passage, 1)) < CLOSE


def test_dropout_of_lora_is_keyed_and_places_do_not_change_by_it() -> None:
    peft = pytest.importorskip("peft")
    model, passage = model_of(), Passage()
    key_dropouts(model, passage)
    own = model.bert.embeddings.dropout.place
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_dropout=0.3, target_modules=["query", "value"], init_lora_weights=False))
    keyed, sites = key_dropouts(wrapped, passage)
    assert keyed == sites == 8 + 6
    assert wrapped.get_base_model().bert.embeddings.dropout.place == own
    assert apart(gradient(wrapped, passage, 8), gradient(wrapped, passage, 1)) < CLOSE


@pytest.mark.parametrize(("kind", "targets"), [("Bert", ["query", "value"]), ("GPT2", ["c_attn"])])
def test_a_model_that_is_packed_trimmed_and_computed_again_drops_what_the_padded_one_drops(kind: str, targets: list[str]) -> None:
    """With LoRA, whose dropout stands before the keys that a trimmed block captures (and, in GPT-2, before queries in the same layer)."""
    peft = pytest.importorskip("peft")

    def adapted() -> tuple[Any, Any]:
        model = model_of(kind)
        if kind == "GPT2":
            for block in model.transformer.h:
                block.attn.attn_dropout.p = 0.0
        torch.manual_seed(1)
        settings = peft.LoraConfig(r=2, lora_dropout=0.3, target_modules=targets, init_lora_weights=False)
        return peft.get_peft_model(model, settings), anatomy(model)

    model, _ = adapted()
    passage = Passage()
    key_dropouts(model, passage)
    want = gradient(model, passage, 8)
    model, parts = adapted()
    fast = quicken(model, parts, Engine())
    assert fast.unpadded and fast.trimmed
    key_dropouts(model, fast.passage)
    assert apart(want, gradient(model, fast.passage, 4)) < CLOSE
    recompute_blocks(model, parts.block_modules, 1)
    assert apart(want, gradient(model, fast.passage, 4)) < CLOSE
