"""Bottleneck adapters: where they sit, what they compute, and that nothing else learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.core.errors import ModelError
from burnish.methods.adapters import Adapters, bottleneck
from burnish.models import blocks

IDS = torch.tensor([[4, 10, 11, 12, 3], [5, 20, 21, 22, 3]])
BERT = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
BART = {"d_model": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}


def bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig(**BERT))


def roberta() -> Any:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    return RobertaForSequenceClassification(RobertaConfig(**BERT))


def distilbert() -> Any:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    return DistilBertForSequenceClassification(DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=2, hidden_dim=64))


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2, n_positions=20))


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**BERT, pad_token_id=0, bos_token_id=1, eos_token_id=2))


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=2))


def bart() -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    return BartForConditionalGeneration(BartConfig(vocab_size=50, encoder_layers=2, decoder_layers=2, **BART))


def phi3() -> Any:
    """Lists what attention puts out before what it reads."""
    from transformers import Phi3Config, Phi3ForCausalLM

    return Phi3ForCausalLM(Phi3Config(**BERT, pad_token_id=0, bos_token_id=1, eos_token_id=2))


def mobilebert() -> Any:
    """Lists the first feed-forward parts of a block after the last one, and what narrows the input of attention after attention."""
    from transformers import MobileBertConfig, MobileBertForSequenceClassification

    narrow = {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2}
    return MobileBertForSequenceClassification(MobileBertConfig(**BERT, **narrow))


# The endings of the layers that adapters follow, as a reader of the architecture would name them.
MODELS: dict[str, tuple[Callable[[], Any], list[str], list[str]]] = {
    "bert": (bert, ["attention.output.dense"], ["output.dense"]),
    "roberta": (roberta, ["attention.output.dense"], ["output.dense"]),
    "distilbert": (distilbert, ["attention.out_lin"], ["ffn.lin2"]),
    "gpt2": (gpt2, ["attn.c_proj"], ["mlp.c_proj"]),
    "llama": (llama, ["self_attn.o_proj"], ["mlp.down_proj"]),
    "t5": (t5, ["SelfAttention.o", "EncDecAttention.o"], ["DenseReluDense.wo"]),
    "phi3": (phi3, ["self_attn.o_proj"], ["mlp.down_proj"]),
    "mobilebert": (mobilebert, ["attention.output.dense"], ["output.bottleneck.dense"]),
    "bart": (bart, ["self_attn.out_proj", "encoder_attn.out_proj"], ["fc2"]),
}


def logits(model: Any) -> torch.Tensor:
    further = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model.eval()(input_ids=IDS, **further).logits


@pytest.mark.parametrize("kind", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_adapters_begin_as_the_identity_in_the_places_of_their_papers(name: str, kind: Any, tmp_path: Path) -> None:
    make, attention, feed_forward = MODELS[name]
    torch.manual_seed(0)
    model = make()
    before, parts = logits(model), blocks.anatomy(model)
    model.save_pretrained(tmp_path / "plain")
    method = Adapters(kind=kind, reduction=4)
    adapted = method.apply(model, parts)
    assert logits(adapted).equal(before)
    places = [found.removesuffix(".adapter") for found, _ in adapted.named_modules() if found.endswith(".adapter")]
    stacks = 2 if model.config.is_encoder_decoder else 1
    crossing = 2 if stacks == 2 else 0  # the decoder's blocks attend twice
    assert len(places) == (4 * stacks + crossing if kind == "houlsby" else 2 * stacks)
    wanted = [*attention, *feed_forward] if kind == "houlsby" else feed_forward
    assert all(any(place.endswith(end) for end in wanted) for place in places)
    if kind == "pfeiffer":
        assert not any(place.endswith(end) for place in places for end in attention)
    learning = {found for found, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert learning == {f"{place}.adapter.{part}" for place in places for part in ("down.weight", "down.bias", "up.weight", "up.bias")}
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    expected = logits(adapted)
    assert (expected - before).abs().max() > 1e-3
    for base in ([tmp_path / "plain" / "model.safetensors"], None):
        folder = tmp_path / ("written" if base is None else "linked")
        method.save(adapted, folder, base)
        assert (folder / "adapters.safetensors").stat().st_size < 60_000
        torch.testing.assert_close(logits(method.open(folder, type(model).from_pretrained)), expected, rtol=1e-6, atol=1e-6)


def test_what_an_adapter_adds() -> None:
    """By hand, in numpy: up(act(down y)), with the bottleneck of the reduction."""
    import numpy as np

    torch.manual_seed(0)
    network: Any = bottleneck(12, 4, "relu")
    assert network.down.weight.shape == (3, 12) and network.up.weight.shape == (12, 3)
    torch.nn.init.normal_(network.up.weight)
    y = torch.randn(2, 5, 12)
    down, up = network.down.weight.detach().numpy(), network.up.weight.detach().numpy()
    expected = np.maximum(y.numpy() @ down.T, 0) @ up.T
    np.testing.assert_allclose(network(y).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_adapter_acts_before_the_residual_sum_and_the_norm() -> None:
    """In BERT: LayerNorm(x + y + adapter(y)) with y the output of the attention's dense layer."""
    torch.manual_seed(0)
    model = bert()
    adapted: Any = Adapters(kind="houlsby").apply(model, blocks.anatomy(model)).eval()
    output = adapted.bert.encoder.layer[0].attention.output
    torch.nn.init.normal_(output.dense.adapter.up.weight)
    hidden, residual = torch.randn(1, 3, 32), torch.randn(1, 3, 32)
    y = torch.nn.functional.linear(hidden, output.dense.weight, output.dense.bias)
    expected = output.LayerNorm(residual + y + output.dense.adapter(y))
    torch.testing.assert_close(output(hidden, residual), expected)


def test_a_fresh_head_learns_in_full_and_is_saved(tmp_path: Path) -> None:
    model = bert()
    parts = blocks.anatomy(model)
    adapted = Adapters().apply(model, replace(parts, fresh=parts.head))
    learning = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if ".adapter." not in name} == set(parts.head)


def test_no_place_for_adapters_and_new_tokens_are_refused() -> None:
    parts = blocks.anatomy(bert())
    with pytest.raises(ModelError, match="adapters have no place"):
        Adapters().apply(bert(), replace(parts, feed_forward_outputs=[]))
    with pytest.raises(ModelError, match="adds 2 tokens"):
        Adapters().apply(bert(), replace(parts, new_tokens=[48, 49]))
