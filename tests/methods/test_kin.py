"""What each of LoRA's kin computes, by hand, and where each begins by itself in every architecture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_adapters import MODELS

from burnish.core.errors import ModelError
from burnish.methods.ia3 import IA3
from burnish.methods.lora import Dora, Lora, RsLora
from burnish.methods.orthogonal import Oft
from burnish.methods.pissa import Pissa
from burnish.methods.structured import LayerNormTuning, LoHa, Vera
from burnish.models import blocks

PLACE = "model.layers.0.mlp.up_proj"
X = torch.randn(3, 32, generator=torch.Generator().manual_seed(5))


def layer_of(method: Any) -> tuple[Any, np.ndarray]:
    """A layer of a small llama under a method whose parameters were all moved, and its matrix as it was."""
    torch.manual_seed(0)
    model = MODELS["llama"][0]()
    weight = model.get_submodule(PLACE).weight.detach().clone().numpy()
    adapted = method.apply(model, blocks.anatomy(model)).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return adapted.base_model.model.get_submodule(PLACE), weight


def values(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def said(layer: Any) -> np.ndarray:
    with torch.no_grad():
        return layer(X).numpy()


def low_rank(layer: Any) -> np.ndarray:
    return values(layer.lora_B["default"].weight) @ values(layer.lora_A["default"].weight)


@pytest.mark.parametrize(("method", "scale"), [(Lora(r=4, alpha=6), 6 / 4), (RsLora(r=4, alpha=6), 6 / 2)])
def test_lora_and_its_scale(method: Any, scale: float) -> None:
    layer, weight = layer_of(method)
    np.testing.assert_allclose(said(layer), X.numpy() @ (weight + scale * low_rank(layer)).T, atol=1e-5)


def test_dora_learns_the_length_of_each_row_apart() -> None:
    layer, weight = layer_of(Dora(r=4, alpha=6))
    moved = weight + 6 / 4 * low_rank(layer)
    length = values(layer.lora_magnitude_vector["default"].weight)
    expected = length[:, None] * moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(said(layer), X.numpy() @ expected.T, atol=1e-5)


def test_pissa_begins_with_the_largest_singular_directions() -> None:
    torch.manual_seed(0)
    model = MODELS["llama"][0]()
    weight = model.get_submodule(PLACE).weight.detach().clone().numpy()
    layer = Pissa(r=4).apply(model, blocks.anatomy(model)).base_model.model.get_submodule(PLACE)
    left, sizes, right = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    part = left[:, :4] * sizes[:4] @ right[:4]
    np.testing.assert_allclose(low_rank(layer), part, atol=1e-5)
    np.testing.assert_allclose(values(layer.base_layer.weight), weight - part, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(values(layer.lora_A["default"].weight), axis=1), np.sqrt(sizes[:4]), rtol=1e-4)


def test_pissa_of_more_directions_than_a_layer_has_is_refused() -> None:
    model = MODELS["llama"][0]()
    with pytest.raises(ModelError, match=r"`method\.r`: 33 singular directions are more than \S+q_proj has, 32"):
        Pissa(r=33).apply(model, blocks.anatomy(model))


def test_linear_layers_that_are_not_there_are_said_to_be_missing() -> None:
    model = MODELS["bert"][0]()
    with pytest.raises(ModelError, match="the blocks of this model have none"):
        Lora().apply(model, replace(blocks.anatomy(model), linears=[]))
    with pytest.raises(ValidationError, match="at least 1 item"):
        Lora(target=[])


def test_pissa_decomposes_to_the_same_bits_whatever_the_threads() -> None:
    found, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        model = MODELS["bert"][0]()
        found.append(Pissa(r=4).apply(model, blocks.anatomy(model)).state_dict())
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert all(tensor.equal(found[1][name]) for name, tensor in found[0].items())


def test_vera_shares_its_matrices() -> None:
    layer, weight = layer_of(Vera(r=8))
    shared_a, shared_b = values(layer.vera_A["default"])[:, :32], values(layer.vera_B["default"])[:64]
    d, b = values(layer.vera_lambda_d["default"]), values(layer.vera_lambda_b["default"])
    expected = weight + b[:, None] * shared_b @ (d[:, None] * shared_a)
    np.testing.assert_allclose(said(layer), X.numpy() @ expected.T, atol=1e-5)


def test_loha_multiplies_two_low_rank_matrices() -> None:
    layer, weight = layer_of(LoHa(r=4, alpha=2))
    one = values(layer.hada_w1_a["default"]) @ values(layer.hada_w1_b["default"])
    two = values(layer.hada_w2_a["default"]) @ values(layer.hada_w2_b["default"])
    np.testing.assert_allclose(said(layer), X.numpy() @ (weight + 2 / 4 * one * two).T, atol=1e-5)


def test_oft_turns_the_rows_and_keeps_their_lengths_and_angles() -> None:
    layer, weight = layer_of(Oft(block=8))
    turned = said(layer)
    layer.merge()
    merged = values(layer.get_base_layer().weight)
    np.testing.assert_allclose(turned, X.numpy() @ merged.T, atol=1e-5)
    assert np.abs(merged - weight).max() > 1e-3
    np.testing.assert_allclose(merged @ merged.T, weight @ weight.T, atol=1e-5)


# Beside the layers that end the feed-forward parts.
SCALED = {
    "bert": {"key", "value"},
    "roberta": {"key", "value"},
    "distilbert": {"k_lin", "v_lin"},
    "gpt2": {"c_attn"},
    "llama": {"k_proj", "v_proj"},
    "t5": {"k", "v"},
    "phi3": {"qkv_proj"},
    "mobilebert": {"key", "value"},
    "bart": {"k_proj", "v_proj"},
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_ia3_scales_keys_values_and_what_enters_the_last_feed_forward_layer(name: str) -> None:
    model = MODELS[name][0]()
    parts = blocks.anatomy(model)
    adapted: Any = IA3().apply(model, parts)
    scaled = {found.removesuffix(".ia3_l") for found, _ in adapted.base_model.model.named_modules() if found.endswith(".ia3_l")}
    inner = set(parts.feed_forward_outputs)
    assert inner < scaled
    assert {found.rpartition(".")[2] for found in scaled - inner} == SCALED[name]
    for found in scaled:
        layer = adapted.base_model.model.get_submodule(found)
        assert layer.is_feedforward == (found in inner)


def test_ia3_scales_by_hand() -> None:
    layer, weight = layer_of(IA3(target=["up_proj"]))
    scale = values(layer.ia3_l["default"])[:, 0]
    np.testing.assert_allclose(said(layer), scale * (X.numpy() @ weight.T), atol=1e-5)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_norms_of_the_blocks_are_found_everywhere(name: str) -> None:
    model = MODELS[name][0]()
    parts = blocks.anatomy(model)
    learning = {found for found, p in LayerNormTuning().apply(model, parts).named_parameters() if p.requires_grad}
    assert learning and all(parts.role(found).startswith("block") and "norm" in found.lower().replace("ln_", "norm") for found in learning)


def test_unknown_norms_and_layers_name_the_nearest() -> None:
    model = MODELS["llama"][0]()
    with pytest.raises(ModelError, match=r"no norm is named 'input_norm'"):
        LayerNormTuning(target=["input_norm"]).apply(model, blocks.anatomy(model))
    with pytest.raises(ModelError, match=r"no linear layer is named 'q_prj' - did you mean `q_proj`"):
        Vera(target=["q_prj"]).apply(model, blocks.anatomy(model))


def test_what_peft_cannot_do_is_refused_with_its_reason() -> None:
    model = MODELS["gpt2"][0]()
    with pytest.raises(ModelError, match=r"peft cannot apply loha to GPT2LMHeadModel .*Conv1D"):
        LoHa().apply(model, blocks.anatomy(model))
    model = MODELS["llama"][0]()
    with pytest.raises(ModelError, match=r"`method.block`: 24 does not divide 32, the width"):
        Oft(block=24).apply(model, blocks.anatomy(model))
