"""Embeddings, blocks and head of the families that people fine-tune: every parameter has one place, and the right one."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.models.blocks import anatomy, is_linear

BLOCKS = 3
SHAPE = {"hidden_size": 16, "num_hidden_layers": BLOCKS, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}


@dataclass(frozen=True)
class Family:
    """A small configuration, and where some telling parameters belong."""

    model_type: str
    embeddings: tuple[str, ...]
    head: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    blocks: int = BLOCKS


DISTIL = {"dim": 16, "n_layers": BLOCKS, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50}
GPT = {"n_embd": 16, "n_layer": BLOCKS, "n_head": 2, "vocab_size": 50, "n_positions": 40}
ROPE = {**SHAPE, "num_key_value_heads": 1, "max_position_embeddings": 40}
MODERN = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 40}

FAMILIES = [
    Family(
        "bert",
        ("bert.embeddings.word_embeddings.weight", "bert.embeddings.LayerNorm.bias"),
        ("bert.pooler.dense.weight", "classifier.bias"),
    ),
    Family("roberta", ("roberta.embeddings.position_embeddings.weight",), ("classifier.dense.weight", "classifier.out_proj.bias")),
    Family("distilbert", ("distilbert.embeddings.LayerNorm.weight",), ("pre_classifier.weight", "classifier.weight"), DISTIL),
    Family(
        "electra",
        ("electra.embeddings.word_embeddings.weight", "electra.embeddings_project.weight"),
        ("classifier.dense.weight", "classifier.out_proj.weight"),
        {**SHAPE, "embedding_size": 8},
    ),
    # ALBERT runs the same block three times.
    Family(
        "albert",
        ("albert.embeddings.word_embeddings.weight", "albert.encoder.embedding_hidden_mapping_in.weight"),
        ("albert.pooler.weight", "classifier.weight"),
        {**SHAPE, "embedding_size": 8},
        blocks=1,
    ),
    Family("gpt2", ("transformer.wte.weight", "transformer.wpe.weight"), ("transformer.ln_f.bias", "score.weight"), GPT),
    Family("llama", ("model.embed_tokens.weight",), ("model.norm.weight", "score.weight"), ROPE),
    Family("qwen3", ("model.embed_tokens.weight",), ("model.norm.weight", "score.weight"), {**ROPE, "head_dim": 8}),
    Family(
        "modernbert",
        ("model.embeddings.tok_embeddings.weight", "model.embeddings.norm.weight"),
        ("model.final_norm.weight", "head.dense.weight", "classifier.bias"),
        {**SHAPE, **MODERN},
    ),
    # DeBERTa keeps a table of relative positions beside its blocks, after them in the order of parameters, with its norm and a convolution
    # that the first block's output goes through.
    Family(
        "deberta-v2",
        (
            "deberta.embeddings.word_embeddings.weight",
            "deberta.encoder.rel_embeddings.weight",
            "deberta.encoder.LayerNorm.weight",
            "deberta.encoder.conv.conv.weight",
        ),
        ("pooler.dense.weight", "classifier.weight"),
        {**SHAPE, "relative_attention": True, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3},
    ),
]
EVERY = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)


@cache
def built(model_type: str) -> tuple[nn.Module, Anatomy]:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    family = next(family for family in FAMILIES if family.model_type == model_type)
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, num_labels=3, **(family.config or SHAPE))
    model = AutoModelForSequenceClassification.from_config(config)
    return model, anatomy(model)


@EVERY
def test_every_parameter_has_exactly_one_place(family: Family) -> None:
    model, parts = built(family.model_type)
    placed = [*parts.embeddings, *(name for block in parts.blocks for name in block), *parts.head]
    assert sorted(placed) == sorted(name for name, _ in model.named_parameters())


@EVERY
def test_the_places_are_right(family: Family) -> None:
    model, parts = built(family.model_type)
    names = {name for name, _ in model.named_parameters()}
    assert {*family.embeddings, *family.head} <= names
    assert set(family.embeddings) <= set(parts.embeddings)
    assert set(family.head) <= set(parts.head)
    tables = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    in_blocks = {name for block in parts.blocks for name in block}
    assert tables - in_blocks <= set(parts.embeddings)
    assert not [name for name in parts.head if "embed" in name]


@EVERY
def test_blocks_are_equal_and_stand_in_order(family: Family) -> None:
    model, parts = built(family.model_type)
    assert len(parts.blocks) == len(parts.block_modules) == family.blocks
    shapes = []
    for prefix, names in zip(parts.block_modules, parts.blocks, strict=True):
        assert names and all(name.startswith(prefix + ".") for name in names)
        shapes.append([(name.removeprefix(prefix), model.get_parameter(name).shape) for name in names])
    # ModernBERT's first block has no norm before its attention, as its embeddings end in one.
    assert all(shape == shapes[-1] for shape in shapes[1:])
    assert {name for name, _ in shapes[0]} <= {name for name, _ in shapes[-1]}
    numbers = [int(prefix.rpartition(".")[2]) for prefix in parts.block_modules]
    assert numbers == list(range(family.blocks))


@EVERY
def test_roles_agree_with_places(family: Family) -> None:
    _, parts = built(family.model_type)
    assert {parts.role(name) for name in parts.embeddings} == {"embeddings"}
    assert {parts.role(name) for name in parts.head} == {"head"}
    for number, (prefix, names) in enumerate(zip(parts.block_modules, parts.blocks, strict=True), start=1):
        assert {parts.role(name) for name in names} == {f"block {number}"}
        assert parts.role(f"{prefix}.attention.lora_A.default.weight") == f"block {number}"


@EVERY
def test_linears_are_those_of_the_blocks(family: Family) -> None:
    model, parts = built(family.model_type)
    modules = dict(model.named_modules())
    assert parts.linears and all(is_linear(modules[name]) for name in parts.linears)
    matrices = {name for block in parts.blocks for name in block if model.get_parameter(name).dim() == 2 and "norm" not in name.lower()}
    assert {f"{name}.weight" for name in parts.linears} == matrices


@EVERY
def test_head_modules_hold_exactly_the_head(family: Family) -> None:
    model, parts = built(family.model_type)
    modules = dict(model.named_modules())
    held = [f"{name}.{inner}" for name in parts.head_modules for inner, _ in modules[name].named_parameters()]
    assert sorted(held) == sorted(parts.head)


def test_block_eleven_is_not_block_one() -> None:
    """Names that begin alike: `layers.1.` and `layers.11.`."""
    model = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(2, 2) for _ in range(12)), "score": nn.Linear(2, 2)})
    parts = anatomy(model)
    assert [len(names) for names in parts.blocks] == [2] * 12
    assert parts.role("layers.10.weight") == "block 11"
    assert parts.head == ["score.weight", "score.bias"]


def test_a_small_side_list_is_no_stack_of_blocks() -> None:
    model = nn.ModuleDict(
        {"blocks": nn.ModuleList(nn.Linear(20, 20) for _ in range(3)), "gates": nn.ModuleList(nn.Linear(2, 2) for _ in range(2))}
    )
    parts = anatomy(model)
    assert len(parts.blocks) == 3
    assert parts.head == [f"gates.{index}.{kind}" for index in range(2) for kind in ("weight", "bias")]


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match="Linear has no list of equal blocks"):
        anatomy(nn.Linear(2, 2))
