"""Parts of models with two stacks, with outputs tied to the embeddings, and with heads that answer: the same rules, harder cases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from burnish.core.protocols import Anatomy
from burnish.models.blocks import anatomy, is_linear

SEQ2SEQ, CAUSAL, MASKED = "AutoModelForSeq2SeqLM", "AutoModelForCausalLM", "AutoModelForMaskedLM"
BLOCKS = 2


@dataclass(frozen=True)
class Case:
    """An architecture under a head; its whole head; some of its embeddings; what closes its encoder."""

    architecture: str
    auto: str
    head: tuple[str, ...]
    embeddings: tuple[str, ...]
    blocks: int = BLOCKS
    closing: tuple[str, ...] = ()
    config: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.auto.removeprefix('AutoModelFor')}{''.join(key for key, _ in self.config)}"


BOTH = ("model.encoder.layernorm_embedding.weight", "model.decoder.layernorm_embedding.bias", "model.decoder.embed_positions.weight")
CLASSIFIER = tuple(f"classification_head.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("weight", "bias"))
TRANSFORM = tuple(f"cls.predictions.transform.{part}.{kind}" for part in ("dense", "LayerNorm") for kind in ("weight", "bias"))
LM_HEAD = tuple(f"lm_head.{part}" for part in ("bias", "dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias"))

CASES = [
    Case("t5", SEQ2SEQ, ("decoder.final_layer_norm.weight",), ("shared.weight",), 4, ("encoder.final_layer_norm.weight",)),
    Case(
        "t5",
        "AutoModelForSequenceClassification",
        ("transformer.decoder.final_layer_norm.weight", *CLASSIFIER),
        ("transformer.shared.weight",),
        4,
        ("transformer.encoder.final_layer_norm.weight",),
    ),
    Case("bart", SEQ2SEQ, (), ("model.shared.weight", *BOTH), 4),
    Case("bart", "AutoModelForSequenceClassification", CLASSIFIER, BOTH, 4),
    Case("marian", SEQ2SEQ, (), ("model.shared.weight", "model.decoder.embed_positions.weight"), 4),
    Case(
        "pegasus",
        SEQ2SEQ,
        ("model.decoder.layer_norm.weight", "model.decoder.layer_norm.bias"),
        ("model.shared.weight",),
        4,
        ("model.encoder.layer_norm.weight", "model.encoder.layer_norm.bias"),
    ),
    Case("prophetnet", SEQ2SEQ, (), tuple(f"prophetnet.{side}.embeddings_layer_norm.weight" for side in ("encoder", "decoder")), 4),
    Case("llama", CAUSAL, ("model.norm.weight",), ("model.embed_tokens.weight",), config=(("tie_word_embeddings", True),)),
    Case("llama", CAUSAL, ("model.norm.weight", "lm_head.weight"), ("model.embed_tokens.weight",)),
    Case("gpt2", CAUSAL, ("transformer.ln_f.weight", "transformer.ln_f.bias"), ("transformer.wte.weight", "transformer.wpe.weight")),
    Case(
        "opt",
        CAUSAL,
        ("model.decoder.project_out.weight", "model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"),
        ("model.decoder.embed_positions.weight", "model.decoder.project_in.weight"),
        config=(("word_embed_proj_dim", 8), ("ffn_dim", 32)),
    ),
    Case("bert", MASKED, ("cls.predictions.bias", *TRANSFORM), ("bert.embeddings.LayerNorm.bias",)),
    Case("xlm-roberta", MASKED, LM_HEAD, ("roberta.embeddings.LayerNorm.bias",)),
    Case(
        "distilbert", "AutoModelForQuestionAnswering", ("qa_outputs.weight", "qa_outputs.bias"), ("distilbert.embeddings.LayerNorm.bias",)
    ),
    Case("llama", "AutoModelForTokenClassification", ("model.norm.weight", "score.weight", "score.bias"), ("model.embed_tokens.weight",)),
]
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@cache
def built(case: Case) -> tuple[nn.Module, Anatomy]:
    import transformers

    from burnish.models.fresh import native

    torch.manual_seed(0)
    family = transformers.CONFIG_MAPPING[case.architecture]()
    sizes = {"hidden_size": 16, "num_hidden_layers": BLOCKS, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
    config = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **native(family, sizes, {}), **dict(case.config)}
    settings = transformers.AutoConfig.for_model(case.architecture, **config)
    model = getattr(transformers, case.auto).from_config(settings)
    return model, anatomy(model)


@EVERY
def test_every_parameter_has_exactly_one_place(case: Case) -> None:
    model, parts = built(case)
    placed = [*parts.embeddings, *(name for block in parts.blocks for name in block), *parts.head]
    assert sorted(placed) == sorted(name for name, _ in model.named_parameters())


@EVERY
def test_the_places_are_right(case: Case) -> None:
    _, parts = built(case)
    assert sorted(parts.head) == sorted(case.head)
    assert set(case.embeddings) <= set(parts.embeddings)
    assert len(parts.blocks) == len(parts.block_modules) == case.blocks


@EVERY
def test_encoder_blocks_come_before_decoder_blocks(case: Case) -> None:
    _, parts = built(case)
    stacks = [prefix.rpartition(".")[0] for prefix in parts.block_modules]
    assert [prefix.rpartition(".")[2] for prefix in parts.block_modules] == [str(at) for at in range(BLOCKS)] * (case.blocks // BLOCKS)
    if case.blocks > BLOCKS:
        assert all("encoder" in stack for stack in stacks[:BLOCKS]) and all("decoder" in stack for stack in stacks[BLOCKS:])
    for prefix, names in zip(parts.block_modules, parts.blocks, strict=True):
        assert [name for name in names if name.startswith(prefix + ".")] and not set(names) & set(parts.head)


@EVERY
def test_what_closes_an_encoder_goes_with_its_last_block(case: Case) -> None:
    _, parts = built(case)
    outside = [
        name for prefix, names in zip(parts.block_modules, parts.blocks, strict=True) for name in names if not name.startswith(prefix + ".")
    ]
    assert tuple(outside) == case.closing
    assert set(case.closing) <= set(parts.blocks[BLOCKS - 1])


@EVERY
def test_linears_are_those_of_the_blocks(case: Case) -> None:
    model, parts = built(case)
    modules = dict(model.named_modules())
    found = {
        name for prefix in parts.block_modules for name, module in modules.items() if name.startswith(prefix + ".") and is_linear(module)
    }
    assert found == set(parts.linears)
    if case.blocks > BLOCKS:
        assert any(
            "ecoder" in name and any(kind in name for kind in ("EncDecAttention", "encoder_attn", "cross_attn")) for name in parts.linears
        )


@EVERY
def test_head_modules_are_whole_and_share_nothing(case: Case) -> None:
    """So that a method may copy them: of BERT's prediction head, all but the output that it shares with the embeddings."""
    model, parts = built(case)
    modules = dict(model.named_modules())
    held = [f"{name}.{inner}" for name in parts.head_modules for inner, _ in modules[name].named_parameters()]
    assert set(held) <= set(parts.head)
    loose = {"cls.predictions.bias", "lm_head.bias"}
    assert set(parts.head) - set(held) <= loose
    assert {id(model.get_parameter(name)) for name in held}.isdisjoint(id(model.get_parameter(name)) for name in parts.embeddings)


@pytest.mark.parametrize("case", [case for case in CASES if case.auto in (SEQ2SEQ, CAUSAL)], ids=lambda case: case.name)
def test_low_rank_updates_go_onto_every_linear_layer_of_the_blocks(case: Case) -> None:
    import peft

    model, parts = built.__wrapped__(case)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=list(parts.linears)))
    layers = {name.partition(".lora_A")[0].removeprefix("base_model.model.") for name, _ in adapted.named_parameters() if ".lora_A" in name}
    assert layers == set(parts.linears)
