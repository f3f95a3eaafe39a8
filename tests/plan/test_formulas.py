"""Closed formulas: they give what models of every known architecture hold, part by part, and the sum that is known by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.methods.adapters import Adapters
from burnish.methods.lora import Lora
from burnish.methods.select import Freeze
from burnish.models.blocks import anatomy
from burnish.models.fresh import names_of
from burnish.plan.formulas import letters, value
from burnish.plan.parameters import by_formula, parts

SHAPE = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40, "vocab_size": 50}
FORMS = {
    "bert": SHAPE,
    "roberta": {**SHAPE, "max_position_embeddings": 30, "type_vocab_size": 1},
    "xlm-roberta": SHAPE,
    "distilbert": {"dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 40, "vocab_size": 50},
    "gpt2": {"n_embd": 24, "n_layer": 3, "n_head": 4, "vocab_size": 50, "pad_token_id": 0},
    "llama": {**SHAPE, "num_key_value_heads": 2, "pad_token_id": 0},
    "mistral": {**SHAPE, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0},
    "qwen2": {**SHAPE, "num_key_value_heads": 2, "pad_token_id": 0},
    "t5": {
        "d_model": 24,
        "d_kv": 8,
        "d_ff": 40,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "vocab_size": 50,
        "pad_token_id": 0,
    },
    "t5 gated": {
        "d_model": 24,
        "d_kv": 8,
        "d_ff": 40,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 50,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
}
HEADS = {
    "bert": ["SequenceClassification", "MaskedLM", "QuestionAnswering", "TokenClassification"],
    "roberta": ["SequenceClassification", "MaskedLM", "TokenClassification"],
    "distilbert": ["SequenceClassification", "MaskedLM"],
    "gpt2": ["SequenceClassification", "CausalLM"],
    "llama": ["SequenceClassification", "CausalLM"],
    "t5": ["Seq2SeqLM"],
    "t5 gated": ["Seq2SeqLM"],
}


def built(form: str, head: str) -> Any:
    config = transformers.AutoConfig.for_model(form.partition(" ")[0], **FORMS[form])
    with torch.device("meta"):
        return getattr(transformers, f"AutoModelFor{head}").from_config(config)


@pytest.mark.parametrize(("form", "head"), [(form, head) for form in FORMS for head in HEADS.get(form, ["SequenceClassification"])])
def test_every_part_has_a_formula_that_gives_its_count(form: str, head: str) -> None:
    model = built(form, head)
    found = parts(model, anatomy(model), model.config)
    assert sum(part.total for part in found) == sum(part.learning for part in found) == sum(p.numel() for p in model.parameters())
    assert [f"{part.place}: {part.role}" for part in found if part.formula is None] == []
    numbers = letters(model.config)
    assert sum(part.times * value(part.formula or "", numbers) for part in found) == sum(p.numel() for p in model.parameters())


def test_the_roberta_of_22_829_056_parameters() -> None:
    """L = 4, V = 32,000, D = 512, T = 256: without pooler and head, F = D, and the default of two token types."""
    size = {
        "vocab_size": 32000,
        "hidden_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "max_position_embeddings": 256,
        "intermediate_size": 512,
    }
    with torch.device("meta"):
        model: Any = transformers.RobertaModel(transformers.RobertaConfig(**size), add_pooling_layer=False)
    found = parts(model, anatomy(model), model.config)
    assert sum(part.total for part in found) == sum(p.numel() for p in model.parameters()) == 22_829_056
    assert (32000 + 256 + 2 + 2) * 512 + 4 * (4 * 512**2 + 2 * 512 * 512 + 9 * 512 + 512) == 22_829_056
    assert {part.told for part in found} == {"V D", "T D", "K D", "2 D", "4 (4 D² + 4 D)", "4 (2 D F + F + D)", "4 (4 D)"}


def test_an_unknown_architecture_is_counted_without_formulas() -> None:
    config = transformers.DebertaV2Config(**SHAPE)
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    found = parts(model, anatomy(model), config)
    assert sum(part.total for part in found) == sum(p.numel() for p in model.parameters())
    assert all(part.told == "" for part in found) and by_formula(found, config) is None


SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
FAMILIES = {
    "bert": ("SequenceClassification", "MaskedLM", "QuestionAnswering"),
    "roberta": ("SequenceClassification", "TokenClassification"),
    "distilbert": ("SequenceClassification", "QuestionAnswering"),
    "electra": ("SequenceClassification", "MaskedLM"),
    "albert": ("SequenceClassification", "MaskedLM"),
    "mpnet": ("SequenceClassification", "MaskedLM"),
    "gpt2": ("CausalLM", "TokenClassification"),
    "bloom": ("CausalLM", "SequenceClassification"),
    "llama": ("CausalLM", "SequenceClassification"),
    "mistral": ("CausalLM",),
    "qwen2": ("CausalLM", "QuestionAnswering"),
    "qwen3": ("CausalLM",),
    "phi3": ("CausalLM",),
    "gemma": ("CausalLM",),
    "t5": ("Seq2SeqLM", "SequenceClassification"),
    "bart": ("Seq2SeqLM", "SequenceClassification"),
}
ODD = {
    "gpt2": {"n_inner": 24},
    "bloom": {},
    "t5": {"d_kv": 4, "num_decoder_layers": 3},
    "bart": {"decoder_ffn_dim": 20, "decoder_layers": 1},
}


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    width=st.integers(1, 6),
    heads=st.sampled_from([1, 2, 4]),
    inner=st.integers(3, 40),
    blocks=st.integers(1, 3),
    tokens=st.integers(20, 90),
)
def test_formulas_give_what_transformers_builds_whatever_the_size(
    family: str, width: int, heads: int, inner: int, blocks: int, tokens: int
) -> None:
    config = transformers.AutoConfig.for_model(family)
    usual = config.to_dict()
    wanted = {"hidden_size": 4 * heads * width, "num_attention_heads": heads, "intermediate_size": inner, "num_hidden_layers": blocks}
    given_sizes = {name: value for size, value in wanted.items() for name in names_of(size, usual)}
    given_sizes |= {"num_key_value_heads": 1} if "num_key_value_heads" in usual else {}
    given_sizes |= {"head_dim": 8} if usual.get("head_dim") else {}
    config = transformers.AutoConfig.for_model(family, **{**given_sizes, "vocab_size": tokens, **SPECIAL, **ODD.get(family, {})})
    for head in FAMILIES[family]:
        with torch.device("meta"):
            model = getattr(transformers, f"AutoModelFor{head}").from_config(config)
        found = parts(model, anatomy(model), config)
        assert by_formula(found, config) == sum(p.numel() for p in model.parameters()), [part for part in found if part.formula is None]


WIDE = {
    "d_model": 24,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 28,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "vocab_size": 50,
}
APART: list[tuple[str, str, dict[str, Any]]] = [
    ("bert", "MaskedLM", {**SHAPE, "tie_word_embeddings": False}),
    ("roberta", "MaskedLM", {**SHAPE, "tie_word_embeddings": False}),
    ("distilbert", "MaskedLM", {**FORMS["distilbert"], "tie_word_embeddings": False}),
    ("bart", "Seq2SeqLM", {**WIDE, **SPECIAL, "tie_word_embeddings": False}),
    ("bart", "QuestionAnswering", {**WIDE, **SPECIAL, "tie_word_embeddings": False}),
    ("bart", "CausalLM", {**WIDE, **SPECIAL}),
    ("t5", "QuestionAnswering", {**FORMS["t5"], "num_labels": 5}),
]


@pytest.mark.parametrize(("family", "head", "sizes"), APART, ids=[f"{family} {head}" for family, head, _ in APART])
def test_untied_tables_decoders_alone_and_odd_heads(family: str, head: str, sizes: dict[str, Any]) -> None:
    config = transformers.AutoConfig.for_model(family, **sizes)
    with torch.device("meta"):
        model = getattr(transformers, f"AutoModelFor{head}").from_config(config)
    found = parts(model, anatomy(model), config)
    assert by_formula(found, config) == sum(p.numel() for p in model.parameters()), [part for part in found if part.formula is None]


@pytest.mark.parametrize("extra", [{"attention_bias": True}, {"attention_bias": True, "mlp_bias": True}, {"tie_word_embeddings": True}])
def test_llamas_with_biases_and_tied_outputs(extra: dict[str, Any]) -> None:
    config = transformers.LlamaConfig(**SHAPE, num_key_value_heads=2, **extra)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    assert by_formula(parts(model, anatomy(model), config), config) == sum(p.numel() for p in model.parameters())


def test_the_70b_llama_has_70_553_706_496_parameters() -> None:
    """The published count of Llama 3 70B: L = 80, D = 8,192, F = 28,672, 64 heads, 8 of keys and values, V = 128,256."""
    sizes = {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672}
    config = transformers.LlamaConfig(**sizes, vocab_size=128256)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    found = parts(model, anatomy(model), config)
    assert by_formula(found, config) == sum(part.total for part in found) == 70_553_706_496


def test_frozen_blocks_stand_apart_from_those_that_learn() -> None:
    model = built("bert", "SequenceClassification")
    place = anatomy(model)
    found = parts(Freeze(blocks=1).apply(model, place), place, model.config)
    attention = {part.place: (part.learning, part.told) for part in found if part.role == "attention"}
    each = 4 * 24**2 + 4 * 24
    assert attention == {"block 1": (0, "4 D² + 4 D"), "blocks 2 to 3": (2 * each, "2 (4 D² + 4 D)")}


@pytest.mark.parametrize("form", ["bert", "gpt2", "t5"])
def test_what_a_method_adds_is_counted_apart(form: str) -> None:
    model = built(form, HEADS[form][0])
    place, before = anatomy(model), sum(p.numel() for p in model.parameters())
    found = parts(Lora(r=2).apply(model, place), place, model.config)
    added = sum(part.total for part in found if part.role == "added by the method")
    rows_and_columns = sum(
        sum(p.shape)
        for name, p in built(form, HEADS[form][0]).named_parameters()
        if p.dim() == 2 and name.removesuffix(".weight") in place.linears
    )
    assert added == 2 * rows_and_columns
    assert sum(part.total for part in found) - added == before
    assert all(part.formula for part in found if part.role in ("attention", "feed-forward", "norms"))


def test_bottlenecks_are_what_a_method_added_too() -> None:
    model = built("bert", "SequenceClassification")
    place, before = anatomy(model), sum(p.numel() for p in model.parameters())
    found = parts(Adapters(reduction=4).apply(model, place), place, model.config)
    added = sum(part.total for part in found if part.role == "added by the method")
    assert added > 0 and sum(part.total for part in found) - added == before
