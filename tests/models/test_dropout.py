"""Dropout by place: each place acts in training alone, in every architecture, and leaves nothing in a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from burnish.core.errors import ModelError
from burnish.models.blocks import anatomy
from burnish.models.dropout import PLACES, Dropout, Dropouts, LastBlocks, find, place_dropout

SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 50}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 50, "decoder_start_token_id": 0}
BART = {
    f"{stack}_{field}": value
    for stack in ("encoder", "decoder")
    for field, value in {"layers": 2, "attention_heads": 2, "ffn_dim": 64}.items()
}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 2, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
DISTIL = {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64, "vocab_size": 50}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", SIZE),
    "bert words": ("BertForTokenClassification", SIZE),
    "bert answers": ("BertForQuestionAnswering", SIZE),
    "bert masks": ("BertForMaskedLM", SIZE),
    "roberta": ("RobertaForSequenceClassification", SIZE),
    "distilbert": ("DistilBertForSequenceClassification", DISTIL),
    "electra": ("ElectraForSequenceClassification", {**SIZE, "embedding_size": 16}),
    "albert": ("AlbertForSequenceClassification", {**SIZE, "embedding_size": 16}),
    "modernbert": ("ModernBertForSequenceClassification", {**SIZE, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}),
    "mpnet": ("MPNetForSequenceClassification", SIZE),
    "gpt2": ("GPT2ForSequenceClassification", GPT2),
    "gpt2 texts": ("GPT2LMHeadModel", GPT2),
    "gpt_neox": ("GPTNeoXForCausalLM", SIZE),
    "opt": ("OPTForCausalLM", {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}),
    "llama": ("LlamaForSequenceClassification", SIZE),
    "llama texts": ("LlamaForCausalLM", {**SIZE, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2ForCausalLM", {**SIZE, "num_key_value_heads": 2}),
    "t5": ("T5ForConditionalGeneration", T5),
    "t5 classes": ("T5ForSequenceClassification", T5),
    "bart": ("BartForConditionalGeneration", {**BART, "d_model": 32, "vocab_size": 50}),
}  # fmt: skip
ZERO = dict.fromkeys(PLACES, 0.0)


def model_of(name: str) -> Any:
    kind, settings = MODELS[name]
    torch.manual_seed(0)
    cls = getattr(transformers, kind)
    return cls(cls.config_class(**{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **settings}))


def logits(model: Any, training: bool, seed: int = 0) -> torch.Tensor:
    ids = torch.tensor([[5, 6, 7, 8, 9, 2], [3, 4, 5, 6, 7, 2]])
    generation = (
        "ForConditionalGeneration" in type(getattr(model, "base_model", model)).__name__
        or "ForConditionalGeneration" in type(model).__name__
    )
    extra = {"decoder_input_ids": ids} if generation else {}
    model.train(training)
    torch.manual_seed(seed)
    with torch.no_grad():
        output = model(input_ids=ids, **extra)
    return output.logits if hasattr(output, "logits") else torch.stack([output.start_logits, output.end_logits])


def placed(model: Any, **settings: Any) -> Dropouts:
    return place_dropout(model, anatomy(model), Dropout(**settings))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("place", PLACES)
def test_each_place_acts_in_training_alone(name: str, place: str) -> None:
    model = model_of(name)
    placed(model, **ZERO)
    evaluated = logits(model, False)
    assert torch.equal(logits(model, True), evaluated)
    dropouts = placed(model, **{**ZERO, place: 0.5})
    trained = logits(model, True)
    assert not torch.allclose(trained, evaluated, atol=1e-6)
    assert torch.equal(logits(model, True), trained)
    assert not torch.equal(logits(model, True, seed=1), trained)
    assert torch.equal(logits(model, False), evaluated)
    assert {switch.place for switch in dropouts.switches if switch.probability > 0} == {place}


CONFIGURED: list[tuple[str, dict[str, float], dict[str, float]]] = [
    ("bert", {"attention_probs_dropout_prob": 0.3}, {"attention": 0.3}),
    ("bert", {"hidden_dropout_prob": 0.2}, {"feed_forward": 0.2, "embeddings": 0.2, "head": 0.2}),
    ("roberta", {"classifier_dropout": 0.4}, {"head": 0.4}),
    ("distilbert", {"attention_dropout": 0.3, "dropout": 0.2}, {"attention": 0.3, "feed_forward": 0.2, "embeddings": 0.2}),
    ("gpt2 texts", {"attn_pdrop": 0.3, "resid_pdrop": 0.2}, {"attention": 0.3, "feed_forward": 0.2}),
    ("gpt2 texts", {"embd_pdrop": 0.3}, {"embeddings": 0.3}),
    ("llama", {"attention_dropout": 0.3}, {"attention": 0.3}),
    ("t5", {"dropout_rate": 0.3}, {"attention": 0.3, "feed_forward": 0.3, "embeddings": 0.3}),
    ("bart", {"attention_dropout": 0.3}, {"attention": 0.3}),
    ("bart", {"dropout": 0.2, "activation_dropout": 0.2}, {"feed_forward": 0.2, "embeddings": 0.2}),
]


@pytest.mark.parametrize(("name", "fields", "places"), CONFIGURED)
def test_a_place_is_what_the_architecture_calls_so(name: str, fields: dict[str, float], places: dict[str, float]) -> None:
    """The same bits as a model that was configured with those probabilities, from the same draws."""
    none = dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "seq_classif_dropout", "dropout",
                          "attention_dropout", "activation_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "dropout_rate"), 0.0)  # fmt: skip
    kind, settings = MODELS[name]
    cls = getattr(transformers, kind)
    known = {key: value for key, value in {**none, **fields}.items() if hasattr(cls.config_class(), key)}
    known |= {"classifier_dropout": fields.get("classifier_dropout")} if "hidden_dropout_prob" in fields else {}
    torch.manual_seed(0)
    peer = cls(cls.config_class(**{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **settings, **known}))
    model = model_of(name)
    model.load_state_dict(peer.state_dict())
    own = {place: 0.0 for place in PLACES if place != "head" or name not in ("gpt2 texts", "llama", "t5", "bart")}
    placed(model, **{**own, **places})
    assert torch.equal(logits(model, True), logits(peer, True))
    assert not torch.equal(logits(peer, True), logits(peer, False))


def test_what_is_not_named_stays_as_the_model_has_it() -> None:
    model = model_of("bert")
    before = [switch.probability for switch in placed(model).switches]
    assert before == [0.1] * len(before) and len(before) == 11
    after = placed(model, attention=0.3).switches
    assert {switch.probability for switch in after if switch.place == "attention"} == {0.3}
    assert {switch.probability for switch in after if switch.place != "attention"} == {0.1}


def test_a_place_that_is_named_goes_before_all() -> None:
    switches = placed(model_of("llama"), all=0.2, head=0.4).switches
    assert {(switch.place, switch.probability) for switch in switches} == {
        ("head", 0.4), ("attention", 0.2), ("feed_forward", 0.2), ("embeddings", 0.2)
    }  # fmt: skip


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "llama", "t5"])
def test_the_last_blocks_may_have_their_own(name: str) -> None:
    model = model_of(name)
    blocks = len(anatomy(model).block_modules)
    switches = placed(model, **ZERO, last=LastBlocks(blocks=1, p=0.3)).switches
    assert {switch.block for switch in switches if switch.probability == 0.3} == {blocks - 1}
    assert {switch.place for switch in switches if switch.probability == 0.3} == {"attention", "feed_forward"}
    assert not torch.allclose(logits(model, True), logits(model, False), atol=1e-6)


def test_the_last_blocks_of_a_llama_are_given_dropout_that_the_others_lack() -> None:
    model = model_of("llama")
    switches = placed(model, last=LastBlocks(blocks=2, p=0.3)).switches
    assert sorted((switch.block, switch.place) for switch in switches if switch.probability) == [
        (block, place) for block in (1, 2) for place in ("attention", "feed_forward", "feed_forward")
    ]
    with pytest.raises(ModelError, match="has 3 blocks, not 4"):
        placed(model_of("llama"), last=LastBlocks(blocks=4, p=0.3))


def test_what_a_hook_drops_is_a_share_and_the_rest_is_scaled() -> None:
    model = model_of("llama")
    placed(model, feed_forward=0.25)
    mlp = model.model.layers[0].mlp
    hidden = torch.randn(64, 100, 32)
    whole = mlp.eval()(hidden)
    dropped = mlp.train()(hidden)
    gone = dropped == 0
    assert float(gone.float().mean()) == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(dropped[~gone], whole[~gone] / 0.75)


def test_a_place_that_nothing_can_reach_is_refused() -> None:
    settings = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "vocab_size": 50}
    model = transformers.XLNetForSequenceClassification(transformers.XLNetConfig(**settings))
    with pytest.raises(ModelError, match=r"`dropout\.attention`: XLNetForSequenceClassification has no dropout there"):
        placed(model, attention=0.1)
    placed(model, all=0.0)
    assert torch.equal(logits(model, True), logits(model, False))


def test_a_number_that_nothing_reads_is_no_place() -> None:
    """OPT's stack and ALBERT's blocks keep a dropout that their forward pass never uses."""
    for name, dead in (("opt", "model.decoder"), ("albert", "albert.encoder.albert_layer_groups.0.albert_layers.0")):
        model = model_of(name)
        owner = model.get_submodule(dead)
        value = getattr(owner, "dropout")  # noqa: B009
        assert all(switch.owner is not (owner if isinstance(value, float) else value) for switch in find(model, anatomy(model)))


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_a_model_wrapped_by_peft_is_reached_and_its_adapters_left_alone(name: str) -> None:
    import peft

    model = model_of(name)
    parts = anatomy(model)
    settings = peft.LoraConfig(r=2, lora_dropout=0.15, target_modules=list(parts.linears), modules_to_save=["score", "classifier"])
    wrapped = peft.get_peft_model(model, settings)
    place_dropout(wrapped, parts, Dropout(all=0.0))
    assert {module.p for module in wrapped.modules() if isinstance(module, torch.nn.Dropout)} <= {0.0, 0.15}
    for module in wrapped.modules():
        if hasattr(module, "lora_dropout"):
            assert module.lora_dropout["default"].p == 0.15
            module.lora_dropout["default"].p = 0.0
    evaluated = logits(wrapped, False)
    assert torch.equal(logits(wrapped, True), evaluated)
    for place in PLACES:
        dropouts = place_dropout(wrapped, parts, Dropout(**{**ZERO, place: 0.5}))
        assert not torch.allclose(logits(wrapped, True), evaluated, atol=1e-6), place
        for switch in dropouts.switches:
            switch.probability = 0.0


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_a_saved_model_knows_nothing_of_it(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    config = model.config.to_dict()
    placed(model, all=0.4)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert {key: value for key, value in again.config.to_dict().items() if "drop" in key} == {
        key: value for key, value in config.items() if "drop" in key
    }
    assert torch.equal(logits(again, False), logits(model, False))
    assert all(switch.probability == pytest.approx(0.1) or name == "llama" for switch in find(again, anatomy(again)))


def test_probabilities_are_raised_up_to_a_bound_and_never_lowered() -> None:
    model = model_of("bert")
    dropouts = placed(model, head=0.5, attention=0.0)
    assert dropouts.least == 0.0
    for amount, expected in (
        (0.2, {"head": 0.5, "attention": 0.2, "feed_forward": 0.25}),
        (0.0, {"head": 0.5, "attention": 0.0, "feed_forward": 0.1}),
    ):
        dropouts.raise_by(amount, most=0.25)
        found = {switch.place: switch.probability for switch in dropouts.switches}
        assert {place: found[place] for place in expected} == pytest.approx(expected)
