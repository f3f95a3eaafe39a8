"""Packed, trimmed, read only where it is needed: the same outputs and gradients as the plain way, on every architecture that allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from weights import model_of

from burnish.core.protocols import Batch
from burnish.engine.memory import recompute_blocks
from burnish.engine.savings import Engine, Savings
from burnish.models.blocks import anatomy
from burnish.models.fast import attention, layout
from burnish.models.fast.dropout import key_dropouts
from burnish.models.fast.install import Fast, quicken

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60, "pad_token_id": 0}
GROUPED = {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "modernbert": {
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
        **{f"{name}_token_id": 3 for name in ("bos", "eos", "cls", "sep")},
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2},
    "gpt_neox": {"bos_token_id": 1, "eos_token_id": 2},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 4},
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "gemma3_text": {**GROUPED, "head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": GROUPED,
}
ENCODERS = ("bert", "roberta", "distilbert", "electra", "modernbert")
LENGTHS = (14, 9, 9, 4, 1)


def new(architecture: str, head: str, **more: Any) -> Any:
    """A model with weights of every size, so that no part of it does nothing."""
    return model_of(architecture, head, {**SIZES, **ARCHITECTURES.get(architecture, {}), **more})


def batch(lengths: tuple[int, ...] = LENGTHS, read: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Batch:
    draw = torch.Generator().manual_seed(1)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.randint(5, 60, mask.shape, generator=draw).masked_fill(~mask, 0)
    return Batch(
        {"input_ids": ids, "attention_mask": mask.long()}, {}, range(len(lengths)), 1.0, sum(lengths), read(mask) if read else None
    )


def some(mask: torch.Tensor) -> torch.Tensor:
    """Two of five real positions."""
    return mask & (torch.arange(mask.shape[1]) % 5 < 2)


def passed(model: Any, fast: Fast | None, given: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What the model says where it is read, and the gradient of all of that."""
    model.zero_grad(set_to_none=True)
    with (fast or Fast()).passage.of(given, range(len(given.examples)), (0, 0)):
        output = model(**given.inputs)
        logits = [value for name, value in output.items() if name.endswith("logits")]
        read = given.inputs["attention_mask"].bool() if given.read is None else given.read
        rows = [value if value.shape[:2] != read.shape else value[read] for value in logits]
        found = torch.cat([(row.whole() if hasattr(row, "whole") else row).flatten() for row in rows])
        (found.float().tanh() * torch.linspace(0.5, 1.5, len(found))).sum().backward()
    return found.detach(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def assert_same(model: Any, fast: Fast, plain: Any, given: Batch) -> None:
    found, gradient = passed(model, fast, given)
    wanted, plainly = passed(plain, None, given)
    assert found.shape == wanted.shape and torch.allclose(found, wanted, atol=2e-5, rtol=1e-4)
    whole = torch.stack([one.norm() for one in plainly.values()]).norm()
    assert whole > 0.01
    for name, one in plainly.items():
        own = gradient.get(name, torch.zeros_like(one))
        assert (own - one).norm() <= 2e-5 * whole, name


def heads(architecture: str) -> list[str]:
    language = "MaskedLM" if architecture in ENCODERS else "CausalLM"
    found = ["SequenceClassification", language]
    return found if architecture in ("gemma3_text", "opt", "phi3") else [*found, "TokenClassification", "QuestionAnswering"]


@pytest.mark.parametrize(("architecture", "head"), [(name, head) for name in ARCHITECTURES for head in heads(name)])
def test_the_same_outputs_and_gradients(architecture: str, head: str) -> None:
    model, plain = new(architecture, head), new(architecture, head)
    fast = quicken(model, anatomy(model), Engine())
    assert fast.unpadded and fast.trimmed and not fast.reasons
    assert fast.deferred == head.endswith("LM")
    given = batch(read=None if head == "SequenceClassification" else some)
    assert_same(model, fast, plain, given)
    assert given.slots == sum(LENGTHS)


@pytest.mark.parametrize("architecture", ["mpnet", "bloom", "deberta-v2"])
def test_what_cannot_be_packed_stays_padded_and_still_scores_only_what_is_read(architecture: str) -> None:
    head = "CausalLM" if architecture == "bloom" else "MaskedLM"
    more = {"n_layer": 2, "n_head": 4}
    model, plain = new(architecture, head, **more), new(architecture, head, **more)
    fast = quicken(model, anatomy(model), Engine())
    assert fast.deferred and not fast.unpadded and "unpadded" in fast.reasons
    given = batch(read=some)
    assert_same(model, fast, plain, given)
    assert given.slots == len(LENGTHS) * max(LENGTHS)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_groups_of_every_shape_attend_alike(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SPARE", 20)
    monkeypatch.setattr(layout, "LARGEST", 150)
    head = "SequenceClassification"
    model, plain = new(architecture, head), new(architecture, head)
    fast = quicken(model, anatomy(model), Engine())
    for lengths in [(14, 9, 9, 4, 1), (3, 3, 3), (1,), (2, 11, 5), (7, 6, 6, 6, 6, 6)]:
        assert_same(model, fast, plain, batch(lengths))


def test_the_last_block_asks_only_where_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    own = attention.attention

    def spy(q: torch.Tensor, *rest: Any) -> torch.Tensor:
        asked.append(q.shape[0] * q.shape[1])
        return own(q, *rest)

    monkeypatch.setattr(attention, "attention", spy)
    model = new("bert", "SequenceClassification")
    fast = quicken(model, anatomy(model), Engine())
    seen: list[int] = []
    last = model.bert.encoder.layer[-1]
    last.intermediate.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    asked.clear()
    passed(model, fast, batch((6, 6, 6)))
    assert asked == [18, 3] and seen == [3]


@pytest.mark.parametrize("architecture", ["bert", "llama", "mistral", "modernbert"])
def test_the_kernel_of_gpus_is_asked_for_the_same(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel is told, computed here as its documentation says."""
    from torch.nn.attention import varlen

    calls: list[tuple[int, int]] = []

    def reference(q: Any, k: Any, v: Any, ends: Any, same: Any, longest: int, most: int, *, scale: float, **told: Any) -> torch.Tensor:
        back, ahead = told["window_size"]
        calls.append((back, ahead))
        assert ends.dtype == torch.int32 and ends is same and longest == most == int(ends.diff().max())
        found = []
        for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            behind = torch.arange(last - first)[:, None] - torch.arange(last - first)
            seen = (behind <= back if back >= 0 else behind < 99) & (-behind <= ahead if ahead >= 0 else behind > -99)
            parts = (one[first:last].transpose(0, 1) for one in (q, k, v))
            options = {"scale": scale, "enable_gqa": told["enable_gqa"]}
            found.append(torch.nn.functional.scaled_dot_product_attention(*parts, seen, **options).transpose(0, 1))
        return torch.cat(found)

    monkeypatch.setattr(varlen, "varlen_attn", reference)
    monkeypatch.setattr(attention, "flash", lambda q: True)
    model, plain = new(architecture, "SequenceClassification"), new(architecture, "SequenceClassification")
    fast = quicken(model, anatomy(model), Engine())
    assert fast.trimmed
    assert_same(model, fast, plain, batch())
    expected = {"bert": (-1, -1), "llama": (-1, 0), "mistral": (3, 0), "modernbert": (-1, -1)}[architecture]
    assert expected in calls


def test_a_neighbour_is_never_seen() -> None:
    for architecture in ("bert", "llama"):
        model = new(architecture, "TokenClassification").eval()
        fast = quicken(model, anatomy(model), Engine(savings=Savings(trimmed=False)))
        one, other = batch(), batch()
        other.inputs["input_ids"][1:4] = 7
        with torch.no_grad():
            found = []
            for given in (one, other):
                with fast.passage.of(given, range(5), (0, 0)):
                    found.append(model(**given.inputs).logits)
        assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][4], found[1][4])
        assert not torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_blocks_that_are_computed_again(architecture: str) -> None:
    model, plain = new(architecture, "SequenceClassification"), new(architecture, "SequenceClassification")
    parts = anatomy(model)
    fast = quicken(model, parts, Engine())
    recompute_blocks(model, parts.block_modules, 1)
    assert_same(model, fast, plain, batch())


@pytest.mark.parametrize("head", ["SequenceClassification", "MaskedLM"])
def test_adapters_of_peft(head: str) -> None:
    import peft

    def wrapped() -> Any:
        model = new("bert", head)
        config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        torch.manual_seed(5)
        return model, peft.get_peft_model(model, config)

    (own, model), (_, plain) = wrapped(), wrapped()
    fast = quicken(model, anatomy(new("bert", head)), Engine())
    assert fast.trimmed and own.forward != type(own).forward
    given = batch(read=None if head == "SequenceClassification" else some)
    assert_same(model, fast, plain, given)


def test_outside_of_a_pass_and_asked_for_more_a_model_is_its_own() -> None:
    model, plain = new("llama", "CausalLM").eval(), new("llama", "CausalLM").eval()
    fast = quicken(model, anatomy(model), Engine())
    given = batch(read=some)
    with torch.no_grad():
        assert torch.equal(model(**given.inputs).logits, plain(**given.inputs).logits)
        with fast.passage.of(given, range(5), (0, 0)):
            asked = model(**given.inputs, output_hidden_states=True)
        assert len(asked.hidden_states) == 3
        ids = given.inputs["input_ids"][:1]
        assert torch.equal(model.generate(ids, max_new_tokens=4), plain.generate(ids, max_new_tokens=4))
    assert model.config._attn_implementation == plain.config._attn_implementation
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_prompts_that_are_padded_on_the_left_are_written_on_as_before() -> None:
    model, plain = new("gpt2", "CausalLM").eval(), new("gpt2", "CausalLM").eval()
    quicken(model, anatomy(model), Engine())
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    prompts = {"input_ids": torch.tensor([[9, 8, 7, 6], [0, 0, 7, 6]]), "attention_mask": mask}
    assert torch.equal(*(one.generate(**prompts, max_new_tokens=6, num_beams=2) for one in (model, plain)))


def test_each_saving_is_switched_off_alone() -> None:
    for name in ("unpadded", "trimmed", "supervised_logits"):
        model = new("bert", "MaskedLM")
        fast = quicken(model, anatomy(model), Engine(savings=Savings(**{name: False})))
        on = {"unpadded": fast.unpadded, "trimmed": fast.trimmed, "supervised_logits": fast.deferred}
        assert on == {key: key != name and not (key == "trimmed" and name == "unpadded") for key in on}
        assert_same(model, fast, new("bert", "MaskedLM"), batch(read=some))


def test_what_gives_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    own = attention.attention
    monkeypatch.setattr(attention, "attention", lambda *given: own(*given) * 1.01)
    model = new("bert", "SequenceClassification")
    fast = quicken(model, anatomy(model), Engine())
    assert not fast.unpadded and "differs" in fast.reasons["unpadded"]
    monkeypatch.undo()
    assert_same(model, fast, new("bert", "SequenceClassification"), batch())


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "modernbert"])
def test_dropout_drops_the_same_however_a_batch_is_cut_and_trimmed(architecture: str) -> None:
    head = "SequenceClassification"
    probabilities = {"attention_dropout": 0.3} if architecture in ("llama", "modernbert") else {}

    def dropping(**savings: bool) -> tuple[Any, Fast]:
        model = new(architecture, head, **probabilities)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.3
        fast = quicken(model, anatomy(model), Engine(savings=Savings(**savings)))
        key_dropouts(model, fast.passage)
        return model.train(), fast

    def outputs(model: Any, fast: Fast, cuts: list[list[int]]) -> torch.Tensor:
        whole, found = batch(), {}
        for cut in cuts:
            longest = max(LENGTHS[at] for at in cut)
            inputs = {name: value[cut][:, :longest] for name, value in whole.inputs.items()}
            part = Batch(inputs, {}, cut, 1.0, 1)
            with fast.passage.of(part, cut, (7, 3)):
                found |= dict(zip(cut, model(**inputs).logits, strict=True))
        return torch.stack([found[at] for at in range(len(LENGTHS))])

    model, fast = dropping()
    at_once = outputs(model, fast, [[0, 1, 2, 3, 4]])
    assert torch.allclose(at_once, outputs(model, fast, [[4, 2], [0], [3, 1]]), atol=1e-5)
    assert torch.allclose(at_once, outputs(*dropping(trimmed=False), [[0, 1, 2, 3, 4]]), atol=1e-5)
    assert not torch.allclose(at_once, outputs(model.eval(), fast, [[0, 1, 2, 3, 4]]), atol=1e-2)


@pytest.mark.parametrize(
    ("architecture", "unpadded", "keyed"),
    [("bert", True, (7, 7)), ("bert", False, (5, 7)), ("llama", True, (2, 2)), ("llama", False, (0, 2))],
)
def test_the_header_counts_what_is_drawn_by_key(architecture: str, unpadded: bool, keyed: tuple[int, int]) -> None:
    """In a BERT of two blocks: embeddings, two in each block, attention, head. Padded, transformers' own attention draws by torch."""
    model = new(architecture, "SequenceClassification", **({"attention_dropout": 0.1} if architecture == "llama" else {}))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    fast = quicken(model, anatomy(model), Engine(savings=Savings(unpadded=unpadded)))
    assert fast.keyed == (keyed if architecture == "llama" else (keyed[0] + 1, keyed[1] + 1))
