"""The `selective` section: rates by depth, role and pattern, decay by kind, penalties; and what is refused."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.methods.lora import Lora
from burnish.models.blocks import anatomy
from burnish.optim.groups import lr_factors, parameter_groups, weight_decays
from burnish.optim.penalties import Penalty
from burnish.optim.selective import Selective

SHAPE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": SHAPE,
    "roberta": SHAPE,
    "distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50},
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 2, "vocab_size": 50, "pad_token_id": 0},
    "llama": {**SHAPE, "num_key_value_heads": 1, "pad_token_id": 0},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2, "vocab_size": 50, "pad_token_id": 0},
}
MODELS: dict[str, tuple[nn.Module, Anatomy]] = {}


def built(model_type: str) -> tuple[nn.Module, Anatomy]:
    """A classifier of random weights; one for all tests, none of which changes it."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    if model_type not in MODELS:
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(model_type, **CONFIGS[model_type]))
        MODELS[model_type] = model, anatomy(model)
    return MODELS[model_type]


def rate_of(groups: list[dict[str, Any]]) -> dict[str, float]:
    return {name: group["lr"] for group in groups for name in group["names"]}


def decay_of(groups: list[dict[str, Any]]) -> dict[str, float]:
    return {name: group["weight_decay"] for group in groups for name in group["names"]}


# Groups


@pytest.mark.parametrize("model_type", CONFIGS)
@settings(max_examples=15, deadline=None)
@given(
    selective=st.builds(
        Selective,
        layer_decay=st.none() | st.floats(0.1, 1.0),
        embeddings=st.floats(0.1, 2),
        head=st.floats(0.1, 20),
        rates=st.dictionaries(st.sampled_from(["*", "*weight", "*.1.*"]), st.floats(0.1, 2)),
        decay=st.dictionaries(st.sampled_from(["weights", "biases", "norms", "embeddings", "head", "*weight"]), st.floats(0, 1)),
    ),
    frozen=st.integers(0, 3),
)
def test_every_learning_parameter_is_in_exactly_one_group(model_type: str, selective: Selective, frozen: int) -> None:
    model, place = built(model_type)
    for number, (name, parameter) in enumerate(model.named_parameters()):
        parameter.requires_grad_(frozen == 0 or number % 4 != frozen or name in {*place.embeddings, *place.head})
    try:
        groups = selective.groups(model, place, 1e-3, 0.1)
        names = [name for group in groups for name in group["names"]]
        assert sorted(names) == sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)
        assert len({(group["lr"], group["weight_decay"]) for group in groups}) == len(groups)
        for group in groups:
            assert [id(parameter) for parameter in group["params"]] == [id(model.get_parameter(name)) for name in group["names"]]
            assert group["initial_lr"] == group["lr"]
    finally:
        model.requires_grad_(True)


@pytest.mark.parametrize("role", ["embeddings", "head"])
def test_a_factor_on_what_does_not_learn_is_refused(role: str) -> None:
    model, place = built("bert")
    try:
        for name in getattr(place, role):
            model.get_parameter(name).requires_grad_(False)
        with pytest.raises(ModelError, match=f"`selective.{role}`: nothing in the {role} learns"):
            Selective(**{role: 0.5}).groups(model, place, 1e-3, 0.1)
    finally:
        model.requires_grad_(True)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_without_wishes_the_groups_are_the_plain_ones(model_type: str) -> None:
    model, place = built(model_type)
    plain, found = parameter_groups(model, 1e-3, 0.1), Selective().groups(model, place, 1e-3, 0.1)
    assert [{**group, "params": len(group["params"])} for group in found] == [{**group, "params": len(group["params"])} for group in plain]


def test_rates_fall_by_the_decay_from_block_to_block() -> None:
    """By hand for three blocks: the head keeps the rate, the top block takes one factor, the embeddings four."""
    model, place = built("bert")
    rates = rate_of(Selective(layer_decay=0.5, embeddings=0.1, head=10).groups(model, place, 1.0, 0.0))
    assert rates["classifier.weight"] == rates["bert.pooler.dense.bias"] == 10
    assert [rates[f"bert.encoder.layer.{block}.output.LayerNorm.weight"] for block in (2, 1, 0)] == [0.5, 0.25, 0.125]
    assert rates["bert.embeddings.word_embeddings.weight"] == pytest.approx(0.0625 * 0.1)
    assert all(rate in (10, 0.5, 0.25, 0.125, 0.00625) for rate in rates.values())


def test_in_an_encoder_decoder_each_stack_falls_from_its_own_top() -> None:
    model, place = built("t5")
    rates = rate_of(Selective(layer_decay=0.5).groups(model, place, 1.0, 0.0))
    for stack in ("encoder", "decoder"):
        assert [rates[f"transformer.{stack}.block.{block}.layer.0.SelfAttention.q.weight"] for block in (2, 1, 0)] == [0.5, 0.25, 0.125]
    assert rates["transformer.shared.weight"] == 0.0625


def test_patterns_multiply_rates_and_the_last_one_decides_decay() -> None:
    model, place = built("bert")
    wanted = Selective(rates={"*.attention.*": 0.5, "*.layer.0.*": 0.5}, decay={"*.weight": 0.3, "*.layer.0.*": 0.7, "norms": 0.9})
    groups = wanted.groups(model, place, 1.0, 0.1)
    rates, decays = rate_of(groups), decay_of(groups)
    first, second = "bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.attention.self.query"
    assert (rates[f"{first}.weight"], rates[f"{second}.bias"], rates["classifier.weight"]) == (0.25, 0.5, 1.0)
    assert (decays[f"{first}.bias"], decays[f"{second}.weight"], decays[f"{second}.bias"]) == (0.7, 0.3, 0.0)


def test_decay_by_kind() -> None:
    kinds = {"weights": 0.1, "biases": 0.2, "norms": 0.3, "embeddings": 0.4, "head": 0.5}
    for model_type, names in {
        "bert": ["encoder.layer.0.output.dense.weight", "encoder.layer.0.output.dense.bias", "embeddings.LayerNorm.bias"],
        "gpt2": ["h.0.mlp.c_fc.weight", "h.0.mlp.c_fc.bias", "ln_f.weight"],
    }.items():
        model, place = built(model_type)
        decays = decay_of(Selective(decay=kinds).groups(model, place, 1.0, 0.0))
        prefix = {"bert": "bert.", "gpt2": "transformer."}[model_type]
        assert [decays[prefix + name] for name in names] == [0.1, 0.2, 0.3]
        head, table = {
            "bert": ("classifier.weight", "bert.embeddings.position_embeddings.weight"),
            "gpt2": ("score.weight", "transformer.wpe.weight"),
        }[model_type]
        assert (decays[table], decays[head]) == (0.4, 0.5)


def test_peft_wraps_names_and_roles_and_patterns_still_know_them(tiny_bert: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    place = replace(anatomy(plain), fresh=["classifier.weight", "classifier.bias"], new_tokens=[3])
    model = Lora().apply(plain, place)
    groups = Selective(layer_decay=0.5, rates={"classifier.*": 4.0, "*lora_B*": 2.0}).groups(model, place, 1.0, 0.1)
    rates = rate_of(groups)
    inner = "base_model.model.bert.encoder.layer"
    assert rates[f"{inner}.1.attention.self.query.lora_A.default.weight"] == 0.5
    assert rates[f"{inner}.0.attention.self.query.lora_B.default.weight"] == 0.5
    assert rates["base_model.model.classifier.modules_to_save.default.weight"] == 4.0
    (table,) = [name for name in rates if "trainable_tokens" in name]
    assert rates[table] == 0.125
    with pytest.raises(ModelError, match=r"selective.rates`: '\*intermediate.dense.base_layer\*' fits only parameters that do not learn"):
        Selective(rates={"*intermediate.dense.base_layer*": 0.5}).groups(model, place, 1.0, 0.1)


def test_a_pattern_that_fits_nothing_is_refused_with_the_nearest_name() -> None:
    model, place = built("bert")
    with pytest.raises(ModelError, match=r"no parameter is named 'clasifier.weight' - did you mean `classifier.weight`\?"):
        lr_factors(model, place, 1.0, {}, {"clasifier.weight": 2.0})
    with pytest.raises(ModelError, match=r"`selective.decay`: no parameter is named 'norm' - did you mean `norms`\?"):
        weight_decays(model, place, {"norm": 0.0}, 0.1)


def test_wrong_values_are_refused() -> None:
    for wrong in ({"layer_decay": 0}, {"layer_decay": 1.1}, {"head": 0}, {"rates": {"*": -1}}, {"decay": {"head": -0.1}}, {"l1": -1}):
        with pytest.raises(ValueError):
            Selective.model_validate(wrong)


# Penalties


def analytic(selective: Selective, model: nn.Module, place: Anatomy, moved: float) -> tuple[float, dict[str, torch.Tensor]]:
    """The penalty's value and gradients after every weight was moved."""
    (penalty,) = selective.techniques(model, place)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += moved
            parameter.grad = torch.zeros_like(parameter)
    value = penalty.differentiated()
    return value, {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def fresh_bert() -> tuple[nn.Module, Anatomy]:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SHAPE))
    return model, replace(anatomy(model), fresh=["classifier.weight", "classifier.bias"])


def test_l1_and_l2_are_those_of_autograd_on_what_decays() -> None:
    model, place = fresh_bert()
    value, gradients = analytic(Selective(l1=0.01, l2=0.3), model, place, 0.05)
    weights = {
        name: parameter.detach().clone().requires_grad_()
        for name, parameter in model.named_parameters()
        if "bias" not in name and "LayerNorm" not in name
    }
    loss = sum(0.01 * w.abs().sum() + 0.15 * (w * w).sum() for w in weights.values())
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-5)
    for name, found in gradients.items():
        expected = weights[name].grad if name in weights else torch.zeros_like(found)
        torch.testing.assert_close(found, expected)


def test_l2_sp_holds_what_was_pretrained_and_draws_the_head_to_zero() -> None:
    model, place = fresh_bert()
    head = {name: model.get_parameter(name).detach() + 0.5 for name in place.fresh}
    value, gradients = analytic(Selective(l2_sp={"alpha": 0.2, "beta": 0.4}), model, place, 0.5)
    pretrained = [parameter for name, parameter in model.named_parameters() if name not in place.fresh]
    numel = sum(parameter.numel() for parameter in pretrained)
    assert value == pytest.approx(0.1 * 0.25 * numel + 0.2 * sum(float(w.square().sum()) for w in head.values()), rel=1e-4)
    for name, found in gradients.items():
        torch.testing.assert_close(found, 0.4 * head[name] if name in head else torch.full_like(found, 0.1), rtol=1e-4, atol=1e-6)


def test_what_has_no_gradient_yet_is_left_alone() -> None:
    weight, waiting = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    weight.grad = torch.zeros(2)
    penalty = Penalty([(one, lambda w: (w.sum(), w)) for one in (weight, waiting)])
    assert penalty.differentiated() == 2.0 and waiting.grad is None
    weight.grad = None
    assert penalty.differentiated() == 0.0


def test_without_wishes_there_is_no_penalty() -> None:
    assert Selective(layer_decay=0.9).techniques(*fresh_bert()) == []


def test_penalties_on_weights_are_refused_where_only_biases_and_norms_learn() -> None:
    model, place = deepcopy(built("llama"))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" in name)
    for selective, key in ((Selective(l1=1e-4), "l1"), (Selective(l2=1e-4), "l2")):
        with pytest.raises(ModelError, match=rf"`selective\.{key}`: only biases and norms learn"):
            selective.techniques(model, place)


def test_l2_sp_is_refused_where_nothing_pretrained_learns() -> None:
    model, place = fresh_bert()
    place = replace(place, fresh=place.head)
    adapted = Lora().apply(model, place)
    with pytest.raises(ModelError, match="no pretrained parameter learns here"):
        Selective(l2_sp={}).techniques(adapted, place)
    assert len(Selective(l2_sp={"alpha": 0}).techniques(adapted, place)) == 1
