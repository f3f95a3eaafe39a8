"""Groups: every parameter that learns once, biases and norms without decay, as transformers' Trainer decides it."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.optim.groups import parameter_groups
from burnish.optim.optimizers import AdamW

SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": SHAPE,
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50},
    "albert": {**SHAPE, "embedding_size": 8},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50},
    "llama": {**SHAPE, "num_key_value_heads": 1},
    "modernbert": {**SHAPE, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
}


def built(model_type: str) -> Any:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(model_type, **CONFIGS[model_type]))


@pytest.mark.parametrize("model_type", CONFIGS)
def test_decay_is_that_of_transformers(model_type: str) -> None:
    from transformers import Trainer

    model = built(model_type)
    decayed, others = parameter_groups(model, lr=1e-3, weight_decay=0.1)
    everything = Trainer.get_decay_parameter_names(None, model)  # type: ignore[arg-type]
    # Trainer knows LayerNorm by its class and RMSNorm only by its name; Burnish knows both by class.
    norms = {
        f"{name}.weight" for name, module in model.named_modules() if "norm" in type(module).__name__.lower() and hasattr(module, "weight")
    }
    assert set(decayed["names"]) == set(everything) - norms
    assert set(others["names"]) >= norms
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    if model_type == "bert":
        assert decayed["names"] == everything


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_learning_parameter_is_in_one_group(model_type: str) -> None:
    model = built(model_type)
    frozen = next(name for name, _ in model.named_parameters())
    model.get_parameter(frozen).requires_grad_(False)
    groups = parameter_groups(model, lr=1e-3, weight_decay=0.1)
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    assert frozen not in names
    for group in groups:
        assert [id(parameter) for parameter in group["params"]] == [id(model.get_parameter(name)) for name in group["names"]]
        assert group["lr"] == group["initial_lr"] == 1e-3


def test_biases_and_norms_do_not_decay() -> None:
    _, others = parameter_groups(built("bert"), lr=1e-3, weight_decay=0.1)
    assert all("bias" in name or "LayerNorm" in name for name in others["names"])


def test_an_empty_group_is_left_out() -> None:
    model = built("bert")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == "classifier.bias")
    (only,) = parameter_groups(model, lr=1e-3, weight_decay=0.1)
    assert only["names"] == ["classifier.bias"] and only["weight_decay"] == 0


def test_adamw_is_torchs_fused_kernel_with_the_recipes_numbers() -> None:
    import torch

    spec = AdamW(lr=1e-3, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.2)
    optimizer = spec.build(parameter_groups(built("bert"), spec.lr, spec.weight_decay))
    assert type(optimizer) is torch.optim.AdamW
    for group, decay in zip(optimizer.param_groups, (0.2, 0.0), strict=True):
        assert (group["fused"], group["betas"], group["eps"], group["lr"]) == (True, (0.8, 0.9), 1e-6, 1e-3)
        assert group["weight_decay"] == decay
