"""Tokens that examples begin with in common are computed once: the same outputs and gradients as every example by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from weights import model_of

from burnish.core.prefixes import shared_prefixes
from burnish.core.protocols import Batch
from burnish.engine.memory import recompute_blocks
from burnish.engine.savings import Engine, Savings
from burnish.models.blocks import anatomy
from burnish.models.fast import attention, install, layout
from burnish.models.fast.install import Fast, quicken
from burnish.models.fast.replay import Replay
from burnish.models.fast.shared import Prefixes
from burnish.models.fast.store import Filling, InMemory

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60}
GROUPED = {"num_key_value_heads": 2}
NARROW = {"head_dim": 8, "sliding_window": 4}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gemma3_text": {**GROUPED, **NARROW, "layer_types": ["full_attention", "full_attention"]},
    "mistral": {**GROUPED, **NARROW},
    "gemma3": {**GROUPED, **NARROW, "layer_types": ["sliding_attention", "full_attention"]},
    "bert": {},
}
PAIRS = ((9, 6, 4), (4, 2, 7), (12, 1, 1))
"""Tokens of each prompt, and of the answers to it."""
SAMPLES = ((11, 3, 8, 1, 5),)
MIXED = ((5, 4), (8, 2, 3), (3, 6))


def new(architecture: str, head: str = "CausalLM", **more: Any) -> Any:
    """A model with weights of every size, in which nothing is dropped."""
    settings = {**SIZES, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **ARCHITECTURES[architecture], **more}
    return model_of("gemma3_text" if architecture == "gemma3" else architecture, head, settings)


def answers(prompts: Sequence[Sequence[int]]) -> Batch:
    """Texts that begin with the same prompt, read from its last token on (what says the first of an answer) to the last but one."""
    draw = torch.Generator().manual_seed(1)
    texts, first = [], []
    for size, *sizes in prompts:
        prompt = torch.randint(5, 60, (size,), generator=draw).tolist()
        for number, answer in enumerate(sizes):  # no two answers to one prompt begin alike
            texts.append([*prompt, 5 + number, *torch.randint(5, 60, (answer - 1,), generator=draw).tolist()])
            first.append(size - 1)
    lengths = torch.tensor([len(text) for text in texts])
    at = torch.arange(int(lengths.max()))
    mask = at < lengths[:, None]
    ids = torch.stack([torch.tensor(text + [0] * (len(at) - len(text))) for text in texts])
    read = mask & (at >= torch.tensor(first)[:, None]) & (at < lengths[:, None] - 1)
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    return Batch(inputs, {}, range(len(texts)), 1.0, int(mask.sum()), read, shared=shared_prefixes(texts, first))


def passed(model: Any, fast: Fast, given: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What the model says where it is read, and the gradient of all of that."""
    model.zero_grad(set_to_none=True)
    with fast.passage.of(given, range(len(given.examples)), (0, 0)):
        output = model(**given.inputs)
        read = given.inputs["attention_mask"].bool() if given.read is None else given.read
        rows = [value if value.shape[:2] != read.shape else value[read] for name, value in output.items() if name.endswith("logits")]
        found = torch.cat([(row.whole() if hasattr(row, "whole") else row).flatten() for row in rows])
        (found.tanh() * torch.linspace(0.5, 1.5, len(found))).sum().backward()
    return found.detach(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def assert_same(model: Any, fast: Fast, plain: Any, given: Batch) -> None:
    """Against a model that knows nothing of the fast path; and the rows that were computed are those that are no other's."""
    found, gradient = passed(model, fast, given)
    wanted, plainly = passed(plain, Fast(), replace(given, shared=None))
    assert found.shape == wanted.shape and torch.allclose(found, wanted, atol=2e-5, rtol=1e-4)
    whole = torch.stack([one.norm() for one in plainly.values()]).norm()
    assert whole > 0.01
    for name, one in plainly.items():
        own = gradient.get(name, torch.zeros_like(one))
        assert (own - one).norm() <= 2e-5 * whole, name
    assert given.shared is not None and any(given.shared)
    assert given.slots == int(given.inputs["attention_mask"].sum()) - sum(given.shared)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "bert"])
@pytest.mark.parametrize("prompts", [PAIRS, SAMPLES, MIXED], ids=["pairs", "samples", "mixed"])
def test_the_same_outputs_and_gradients(architecture: str, prompts: Sequence[Sequence[int]]) -> None:
    model, plain = new(architecture), new(architecture)
    fast = quicken(model, anatomy(model), Engine())
    assert fast.sharing and fast.trimmed and not fast.reasons
    assert_same(model, fast, plain, answers(prompts))


def test_each_row_is_computed_once_in_every_block() -> None:
    model = new("llama")
    fast = quicken(model, anatomy(model), Engine())
    seen: list[int] = []
    for block in model.model.layers:
        block.mlp.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    given = answers(SAMPLES)
    assert given.shared == [0, 10, 10, 10] and given.read is not None
    passed(model, fast, given)
    assert seen == [14 + 9 + 2 + 6, int(given.read.sum())]  # 61 tokens, 17 of which are read


@pytest.mark.parametrize("off", ["trimmed", "supervised_logits"])
def test_with_other_savings_left_out(off: str) -> None:
    model = new("llama")
    fast = quicken(model, anatomy(model), Engine(savings=Savings(**{off: False})))
    assert fast.sharing
    assert_same(model, fast, new("llama"), answers(PAIRS))


@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification"])
def test_other_heads(head: str) -> None:
    """One reads the last token of each text; the other every token, also those that are shared."""
    model, plain = new("llama", head), new("llama", head)
    fast = quicken(model, anatomy(model), Engine())
    assert_same(model, fast, plain, replace(answers(PAIRS), read=None))


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_groups_of_every_shape(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SPARE", 20)
    monkeypatch.setattr(layout, "LARGEST", 500)
    model, plain = new(architecture), new(architecture)
    fast = quicken(model, anatomy(model), Engine())
    for prompts in (PAIRS, SAMPLES, MIXED, ((20, 3, 3, 3),), ((6, 5), (7, 4, 4))):
        assert_same(model, fast, plain, answers(prompts))


def test_blocks_that_are_computed_again() -> None:
    model, plain = new("llama"), new("llama")
    parts = anatomy(model)
    fast = quicken(model, parts, Engine())
    recompute_blocks(model, parts.block_modules, 1)
    assert_same(model, fast, plain, answers(PAIRS))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_adapters_of_peft(architecture: str) -> None:
    import peft

    def wrapped() -> Any:
        model, parts = new(architecture), anatomy(new(architecture))
        linears = [name for name in parts.linears if name not in parts.head_modules]
        torch.manual_seed(5)
        return model, parts, peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=linears, init_lora_weights=False))

    (_, parts, model), (_, _, plain) = wrapped(), wrapped()
    fast = quicken(model, parts, Engine())
    assert fast.sharing
    assert_same(model, fast, plain, answers(SAMPLES))
    assert_same(model, fast, plain, answers(PAIRS))


def test_weights_after_several_steps() -> None:
    finished = []
    for sharing in (True, False):
        model = new("llama")
        fast = quicken(model, anatomy(model), Engine())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for prompts in (PAIRS, SAMPLES, MIXED, PAIRS):
            given = answers(prompts)
            passed(model, fast, given if sharing else replace(given, shared=None))
            optimizer.step()
        finished.append(torch.nn.utils.parameters_to_vector(model.parameters()).detach())
    start = torch.nn.utils.parameters_to_vector(new("llama").parameters()).detach()
    assert (finished[0] - finished[1]).norm() <= 2e-5 * (finished[0] - start).norm()


def test_a_shared_token_is_dropped_as_its_owners() -> None:
    """Both samples see the prompt with the same of it dropped, which is what the first has alone; alone, the second draws its own."""
    model = new("llama", attention_dropout=0.3)
    fast = quicken(model, anatomy(model), Engine())
    model.train()
    given = answers(((30, 4, 4),))
    given.inputs["input_ids"][1] = given.inputs["input_ids"][0]

    def prompt(given: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the last block gets of the prompt, in both."""
        captured: list[torch.Tensor] = []
        hook = model.model.layers[1].input_layernorm.register_forward_hook(lambda module, inputs, output: captured.append(output[0]))
        with fast.passage.of(given, range(2), (7, 3)) as now, torch.no_grad():
            model(**given.inputs)
            assert now.layout is not None
            hidden = now.layout.complete(captured[0])
        hook.remove()
        return hidden[:29], hidden[34:63]

    one, other = prompt(given)
    assert torch.equal(one, other)
    alone, apart = prompt(replace(given, shared=None))
    assert torch.equal(one, alone) and not torch.allclose(alone, apart, atol=1e-3)


def test_frozen_blocks_give_again_what_they_gave_to_shared_rows() -> None:
    """What is kept is every token of an example, for it may stand beside others when it comes again."""
    model, plain = new("llama"), new("llama")
    fast = quicken(model, anatomy(model), Engine())
    for one in (model, plain):
        one.model.embed_tokens.requires_grad_(False)
        one.model.layers[0].requires_grad_(False)
    replay = Replay(model, [model.model.layers[0]], False, fast.passage)
    given = answers(SAMPLES)
    memory = InMemory(1 << 16)
    replay.filling = filling = Filling(memory, 4)
    passed(model.train(), fast, given)
    replay.store, replay.filling = filling.store(memory.filled), None
    assert filling.rows == int(given.inputs["attention_mask"].sum())
    assert_same(model, fast, plain, given)
    assert_same(model, fast, plain, apart(given, [2, 0, 1, 3]))


def apart(given: Batch, order: Sequence[int]) -> Batch:
    """The examples in another order, the second of which shares less than it did."""
    taken = torch.tensor(order)
    inputs = {name: value[taken] for name, value in given.inputs.items()}
    assert given.read is not None
    return replace(given, inputs=inputs, read=given.read[taken], examples=list(order), shared=[0, 4, 0, 10])


def test_where_tokens_see_what_follows_them_nothing_is_shared() -> None:
    model, plain = new("bert", "MaskedLM"), new("bert", "MaskedLM")
    fast = quicken(model, anatomy(model), Engine())
    assert fast.unpadded and not fast.sharing
    given = answers(PAIRS)
    found, wanted = passed(model, fast, given)[0], passed(plain, Fast(), given)[0]
    assert torch.allclose(found, wanted, atol=2e-5, rtol=1e-4)
    assert given.slots == int(given.inputs["attention_mask"].sum())


def test_it_is_not_left_to_numbers_whether_tokens_see_what_follows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "compare", lambda *given, **named: None)
    model = new("bert", "MaskedLM")
    fast = quicken(model, anatomy(model), Engine())
    with pytest.raises(attention.Unsupported, match="see what follows them"):
        passed(model, fast, answers(PAIRS))


def test_padded_nothing_is_shared() -> None:
    model = new("llama")
    fast = quicken(model, anatomy(model), Engine(savings=Savings(unpadded=False)))
    given = answers(PAIRS)
    assert not fast.sharing
    assert torch.allclose(passed(model, fast, given)[0], passed(new("llama"), Fast(), given)[0], atol=2e-5, rtol=1e-4)
    assert given.slots == given.inputs["input_ids"].numel()


def test_the_kernel_for_whole_sequences_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: Any) -> torch.Tensor:
        raise AssertionError("sequences whose tokens are another's")

    model, plain = new("llama"), new("llama")
    fast = quicken(model, anatomy(model), Engine())
    monkeypatch.setattr(attention, "flash", lambda q: True)
    monkeypatch.setattr(attention, "flash_attention", never)
    assert_same(model, fast, plain, answers(PAIRS))


def changed_token(given: Batch) -> None:
    given.inputs["input_ids"][1, 3] += 1


def read_early(given: Batch) -> None:
    assert given.read is not None
    given.read[1, 2] = True


def first_shares(given: Batch) -> None:
    given.shared = [1, 8]


def nothing_of_its_own(given: Batch) -> None:
    given.shared = [0, 13]


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (changed_token, "input_ids differ there"),
        (read_early, "marks position 2 of example 1"),
        (first_shares, "the first with none"),
        (nothing_of_its_own, "at least one of its own"),
    ],
)
def test_what_cannot_be_shared_is_refused(break_it: Callable[[Batch], None], told: str) -> None:
    model = new("llama")
    fast = quicken(model, anatomy(model), Engine())
    given = answers(((9, 6, 4),))
    break_it(given)
    with pytest.raises(ValueError, match=told):
        passed(model, fast, given)


def test_gradients_of_shared_rows_are_sums() -> None:
    prefixes = Prefixes((3, 4, 4, 2), (0, 2, 3, 0), torch.device("cpu"))
    assert prefixes.tokens.tolist() == [0, 1, 2, 0, 1, 3, 4, 0, 1, 3, 5, 6, 7]
    assert prefixes.own.tolist() == [0, 1, 2, 5, 6, 10, 11, 12]
    rows = torch.randn(8, 2, 3, requires_grad=True)
    weights = torch.randn(13, 2, 3)
    (prefixes.complete(rows) * weights).sum().backward()
    assert rows.grad is not None
    assert torch.allclose(rows.grad, torch.zeros(8, 2, 3).index_add(0, prefixes.tokens, weights), atol=1e-6)
