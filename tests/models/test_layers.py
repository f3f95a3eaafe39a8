"""Students made of some of a model's blocks: their weights, their configuration, their cache, and what they save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from burnish.core.errors import ModelError
from burnish.models.layers import evenly, keep_blocks
from burnish.models.spec import Model

CLASSIFIER, CAUSAL, SEQ2SEQ = "AutoModelForSequenceClassification", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
BERT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
BART = {
    f"{part}_{what}": size for part in ("encoder", "decoder") for what, size in (("layers", 4), ("attention_heads", 2), ("ffn_dim", 32))
}
CASES: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "bert": ("BertConfig", CLASSIFIER, BERT, ["bert.encoder.layer"]),
    "roberta": ("RobertaConfig", CLASSIFIER, {**BERT, "max_position_embeddings": 34}, ["roberta.encoder.layer"]),
    "distilbert": ("DistilBertConfig", CLASSIFIER, {"dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 32}, ["distilbert.transformer.layer"]),
    "gpt2": ("GPT2Config", CAUSAL, {"n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 32}, ["transformer.h"]),
    "llama": ("LlamaConfig", CAUSAL, BERT, ["model.layers"]),
    "qwen2": ("Qwen2Config", CAUSAL, {**BERT, "num_key_value_heads": 2}, ["model.layers"]),
    "gpt_neo": ("GPTNeoConfig", CAUSAL, {"hidden_size": 16, "num_layers": 4, "num_heads": 2, "intermediate_size": 32, "attention_types": [[["global", "local"], 2]], "window_size": 3, "max_position_embeddings": 32}, ["transformer.h"]),
    "t5": ("T5Config", SEQ2SEQ, {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 4, "num_decoder_layers": 4, "num_heads": 2}, ["encoder.block", "decoder.block"]),
    "bart": ("BartConfig", SEQ2SEQ, {"d_model": 16, "max_position_embeddings": 32, **BART}, ["model.encoder.layers", "model.decoder.layers"]),
}  # fmt: skip
TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def made(family: str, **changes: Any) -> Any:
    """A model of 4 blocks in each stack, in evaluation mode."""
    config, auto, sizes, _ = CASES[family]
    torch.manual_seed(1)
    settings = getattr(transformers, config)(vocab_size=40, **{**IDS, **sizes, **changes, "decoder_start_token_id": 0})
    model = getattr(transformers, auto).from_config(settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)  # so that a wrong block would show
    return model


def said(model: Any) -> torch.Tensor:
    """Its logits for one text."""
    extra = {"decoder_input_ids": TOKENS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=TOKENS, **extra).logits


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("kept", [[0, 2, 3], [1, 3]], ids=str)
def test_the_kept_blocks_have_their_weights_and_the_saved_model_is_an_ordinary_one(family: str, kept: list[int], tmp_path: Path) -> None:
    model, stacks = made(family), CASES[family][3]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    keep_blocks(model, kept)
    for stack in stacks:
        assert len(model.get_submodule(stack)) == len(kept)
        for number, place in enumerate(kept):
            for name, tensor in model.get_submodule(f"{stack}.{number}").state_dict().items():
                source = f"{stack}.{place}.{name}"
                if "relative_attention_bias" in name:
                    source = f"{stack}.0.{name}"
                assert torch.equal(tensor, before[source])
    outside = [name for name in before if not name.startswith(tuple(stack + "." for stack in stacks))]
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in outside)
    model.save_pretrained(tmp_path)
    again, facts = getattr(transformers, CASES[family][1]).from_pretrained(tmp_path, output_loading_info=True)
    assert not facts["missing_keys"] and not facts["unexpected_keys"]
    torch.testing.assert_close(said(again.eval()), said(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gpt_neo", "t5", "bart"])
def test_texts_are_written_with_the_cache_as_without(family: str) -> None:
    """The attention modules are renumbered: a cache indexed by the old numbers would have holes, or fail."""
    model = made(family)
    keep_blocks(model, [1, 3])
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "attention_mask": torch.ones_like(TOKENS)}
    written = [model.generate(TOKENS, use_cache=cached, **options).tolist() for cached in (True, False)]
    assert written[0] == written[1]
    with torch.no_grad():
        cache = model(input_ids=TOKENS, use_cache=True, **({"decoder_input_ids": TOKENS} if model.config.is_encoder_decoder else {}))
    layers = getattr(cache.past_key_values, "self_attention_cache", cache.past_key_values).layers
    assert len(layers) == 2


def test_a_model_without_its_upper_blocks_says_what_the_whole_one_says_below_them() -> None:
    """Hidden states of a whole model are an oracle for a student that keeps its lowest blocks (no norm stands above BERT's)."""
    whole, student = made("bert"), made("bert")
    keep_blocks(student, [0, 1])
    with torch.no_grad():
        expected = whole.bert(TOKENS, output_hidden_states=True).hidden_states[2]
        assert torch.equal(student.bert(TOKENS).last_hidden_state, expected)


def test_numbers_are_spread_evenly_with_first_and_last() -> None:
    assert [evenly(number, 6) for number in (1, 2, 3, 6)] == [[0], [0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]]
    assert evenly(3, 12) == [0, 6, 11] or evenly(3, 12) == [0, 5, 11]
    model = made("bert")
    assert keep_blocks(
        model, 2, ["classifier.weight", "bert.encoder.layer.3.output.dense.bias", "bert.encoder.layer.1.output.dense.bias"]
    ) == [
        "classifier.weight",
        "bert.encoder.layer.1.output.dense.bias",
    ]


def test_lists_block_by_block_follow() -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    model = made("qwen2", layer_types=kinds, sliding_window=4, use_sliding_window=True)
    keep_blocks(model, [0, 3])
    assert model.config.layer_types == ["sliding_attention", "full_attention"] and model.config.num_hidden_layers == 2


def test_stacks_of_different_height_each_get_their_own_number() -> None:
    model = made("t5", num_decoder_layers=2)
    keep_blocks(model, 2)
    assert (model.config.num_layers, model.config.num_decoder_layers) == (2, 2)
    with pytest.raises(ModelError, match=r"\[0, 3\] asks for more than there is: the model has 2 blocks"):
        keep_blocks(model, [0, 3])


def test_what_cannot_be_made_smaller_is_refused() -> None:
    sizes = {"embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    albert = transformers.AlbertForSequenceClassification(transformers.AlbertConfig(vocab_size=40, **sizes))
    with pytest.raises(ModelError, match=r"`model\.layers`"):
        keep_blocks(albert, [0, 2])
    with pytest.raises(ModelError, match="the model has 4 blocks"):
        keep_blocks(made("bert"), 5)


@pytest.mark.parametrize(
    ("layers", "wrong"),
    [(0, True), ([], True), ([0, 0], True), ([2, 1], True), ([-1, 1], True), (3, False), ([1, 4], False), (None, False)],
)
def test_wrong_lists_are_told_before_anything_is_loaded(tiny_bert: Path, layers: Any, wrong: bool) -> None:
    fault = Model(name=str(tiny_bert), layers=layers).fault()
    assert (fault is not None and "rising order" in fault) if wrong else fault is None
    assert "random weights" in (Model(name=str(tiny_bert), from_scratch=True, layers=2).fault() or "")
