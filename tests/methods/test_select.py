"""Which parameters learn under each method that trains the model's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.methods.select import BitFit, Freeze, Full, Head, Norms
from burnish.models.blocks import anatomy


@pytest.fixture
def model(tiny_bert: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(tiny_bert)


@pytest.fixture
def parts(model: Any) -> Anatomy:
    return anatomy(model)


def learning(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_full(model: Any, parts: Anatomy) -> None:
    model.bert.pooler.requires_grad_(False)
    assert learning(Full().apply(model, parts)) == {name for name, _ in model.named_parameters()}


def test_head(model: Any, parts: Anatomy) -> None:
    expected = {f"{module}.{kind}" for module in ("bert.pooler.dense", "classifier") for kind in ("weight", "bias")}
    assert learning(Head().apply(model, parts)) == expected


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("embeddings", [True, False])
def test_freeze(model: Any, parts: Anatomy, blocks: int, embeddings: bool) -> None:
    found = learning(Freeze(blocks=blocks, embeddings=embeddings).apply(model, parts))
    frozen = {name for block in parts.blocks[:blocks] for name in block} | (set(parts.embeddings) if embeddings else set())
    assert found == {name for name, _ in model.named_parameters()} - frozen
    assert {parts.role(name) for name in found} >= {"head"}


def test_freezing_every_block_is_the_head_alone(model: Any, parts: Anatomy) -> None:
    assert learning(Freeze(blocks=2).apply(model, parts)) == learning(Head().apply(model, parts))


def test_more_blocks_than_there_are(model: Any, parts: Anatomy) -> None:
    with pytest.raises(ModelError, match=r"`method\.blocks`: 3 blocks cannot be frozen, the model has 2"):
        Freeze(blocks=3).apply(model, parts)


def test_what_is_saved_is_an_ordinary_model(model: Any, parts: Anatomy, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    Freeze(blocks=1).save(model, tmp_path, None)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert all(parameter.equal(again.get_parameter(name)) for name, parameter in model.named_parameters())


def test_what_the_architecture_holds_fixed_never_learns() -> None:
    from transformers import MarianConfig, MarianMTModel

    small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    model = MarianMTModel(MarianConfig(vocab_size=20, pad_token_id=0, decoder_start_token_id=0, max_position_embeddings=8, **small))
    learned = learning(Full().apply(model, anatomy(model)))
    assert learned and not any("embed_positions" in name for name in learned)


def test_a_method_that_leaves_nothing_to_learn_is_refused() -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    model = BartForConditionalGeneration(BartConfig(vocab_size=20, pad_token_id=0, max_position_embeddings=8, **small))
    with pytest.raises(ModelError, match="leaves nothing to learn"):
        Head().apply(model, anatomy(model))


def test_freezing_everything_is_refused(model: Any, parts: Anatomy) -> None:
    with pytest.raises(ModelError, match=r"freeze leaves nothing to learn: .* Freeze fewer"):
        Freeze(names=["*"]).apply(model, parts)


def test_freezing_by_name(model: Any, parts: Anatomy) -> None:
    every = {name for name, _ in model.named_parameters()}
    found = learning(Freeze(names=["*.attention.*", "classifier.bias"], embeddings=False).apply(model, parts))
    assert found == {name for name in every if ".attention." not in name and name != "classifier.bias"}
    both = learning(Freeze(blocks=1, names=["*.bias"]).apply(model, parts))
    assert both == {name for name in [*parts.blocks[1], *parts.head] if not name.endswith(".bias")}


def test_a_pattern_that_names_nothing(model: Any, parts: Anatomy) -> None:
    with pytest.raises(ModelError, match=r"`method\.names`: no parameter matches 'encoder\.\*'"):
        Freeze(names=["encoder.*"]).apply(model, parts)


def test_freeze_by_itself_holds_the_lower_half(model: Any, parts: Anatomy) -> None:
    assert learning(Freeze().apply(model, parts)) == learning(Freeze(blocks=len(parts.blocks) // 2).apply(model, parts))


def test_biases_and_the_head(model: Any, parts: Anatomy) -> None:
    found = learning(BitFit().apply(model, parts))
    assert found == {name for name, _ in model.named_parameters() if name.endswith(".bias")} | set(parts.head)


def test_norms_and_the_head(model: Any, parts: Anatomy) -> None:
    found = learning(Norms().apply(model, parts))
    assert found == {name for name, _ in model.named_parameters() if "LayerNorm" in name} | set(parts.head)
    assert len(found - set(parts.head)) == 2 * (1 + 2 * 2), "scale and shift, of the embeddings and twice in each block"


def test_norms_of_models_whose_norms_are_named_otherwise(tiny_llama: Path, tiny_t5: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    for opened, folder in ((AutoModelForCausalLM, tiny_llama), (AutoModelForSeq2SeqLM, tiny_t5)):
        found = opened.from_pretrained(folder)
        assert all("norm" in name for name in learning(Norms().apply(found, anatomy(found))))
        with pytest.raises(ModelError, match=r"bitfit trains biases, and .* has none"):
            BitFit().apply(found, anatomy(found))
