"""Quantised models: which layers are held in few bits, that gradients and evaluations do not disturb each other, sizes, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.pytorch_utils import Conv1D

from burnish.core.errors import ModelError
from burnish.models import load, quantized
from burnish.models.blocks import anatomy
from burnish.models.spec import Model

bitsandbytes = pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.usefixtures("quick")

SIZE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "max_position_embeddings": 40}
CASES = {
    "bert": ("AutoModelForSequenceClassification", SIZE),
    "roberta": ("AutoModelForTokenClassification", SIZE),
    "distilbert": ("AutoModelForQuestionAnswering", {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 128}),
    "gpt2": ("AutoModelForCausalLM", {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 40}),
    "llama": ("AutoModelForCausalLM", {**SIZE, "num_key_value_heads": 1, "tie_word_embeddings": False}),
    "t5": ("AutoModelForSeq2SeqLM", {"d_model": 64, "d_kv": 32, "d_ff": 128, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}),
}
FORMATS = ("nf4", "int8")


@pytest.fixture(scope="module")
def saved(tiny_bert: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each architecture, 64 wide, saved under the head that the test opens it with."""
    made = {}
    for architecture, (auto, size) in CASES.items():
        source = tiny_bert if architecture in ("bert", "distilbert") else tiny_llama
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        config = transformers.AutoConfig.for_model(architecture, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **size)
        torch.manual_seed(0)
        made[architecture] = tmp_path_factory.mktemp(architecture)
        getattr(transformers, auto).from_config(config).save_pretrained(made[architecture])
        tokenizer.save_pretrained(made[architecture])
    return made


def opened(folder: Path, auto: str, quantize: Any = None) -> Any:
    spec = Model(name=str(folder), quantize=quantize)
    return load.load_model(spec, auto, load.load_tokenizer(spec), 0)[0]


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(6, 30).reshape(2, 12)
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)
    found: torch.Tensor = output.logits if "logits" in output else output.start_logits
    return found


@pytest.mark.parametrize("quantize", FORMATS)
@pytest.mark.parametrize("architecture", CASES)
def test_the_linear_layers_of_the_blocks_are_quantised_and_nothing_else(saved: dict[str, Path], architecture: str, quantize: str) -> None:
    auto, _ = CASES[architecture]
    plain, model = opened(saved[architecture], auto), opened(saved[architecture], auto, quantize)
    kind = bitsandbytes.nn.Linear4bit if quantize == "nf4" else bitsandbytes.nn.Linear8bitLt
    held = {name for name, module in model.named_modules() if isinstance(module, kind)}
    # transformers keeps T5's `wo` in float32 whatever else is done: its activations are too large for fewer bits.
    blocks = {name for name, module in plain.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)} & set(anatomy(plain).linears)
    assert held == {name for name in blocks if not (architecture == "t5" and name.endswith(".wo"))} and held
    assert anatomy(model).linears == anatomy(plain).linears and anatomy(model).head == anatomy(plain).head
    others = {p.dtype for name, p in model.named_parameters() if name.removesuffix(".weight") not in held}
    assert others == {torch.float32}
    with torch.no_grad():
        expected, found = logits(plain.eval()), logits(model.eval())
    error = (found - expected).norm() / expected.norm()
    assert 0 < error < (0.4 if quantize == "nf4" else 0.05)


@pytest.mark.parametrize("quantize", FORMATS)
def test_weights_are_those_of_the_format(saved: dict[str, Path], quantize: str) -> None:
    """nf4: each block of 64 is its largest value times one of 16 numbers. int8: each row in steps of its largest value / 127."""
    auto, _ = CASES["gpt2"]
    plain, model = (
        opened(saved["gpt2"], auto),
        opened(saved["gpt2"], auto, {"name": quantize, "double": False} if quantize == "nf4" else quantize),
    )
    weight = plain.transformer.h[0].attn.c_attn.weight.T.contiguous()  # Conv1D lies the other way round
    layer = model.transformer.h[0].attn.c_attn
    if quantize == "nf4":
        found = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        blocks, scale = weight.reshape(-1, 64), weight.reshape(-1, 64).abs().amax(dim=1, keepdim=True)
        levels = layer.weight.quant_state.code
        assert len(levels) == 16 and levels[7] == 0
        nearest = levels[(blocks[:, :, None] / scale[:, :, None] - levels).abs().argmin(dim=2)]
        torch.testing.assert_close(found.reshape(-1, 64), nearest * scale, rtol=1e-5, atol=1e-6)
    else:
        scale = weight.abs().amax(dim=1, keepdim=True)
        torch.testing.assert_close(layer.weight.CB.float(), torch.round(weight / scale * 127), rtol=0, atol=1)
        torch.testing.assert_close(layer.weight.SCB, scale[:, 0], rtol=1e-3, atol=0)  # it is computed in 16 bits


@pytest.mark.parametrize("quantize", FORMATS)
def test_an_evaluation_between_two_steps_changes_neither_gradient_nor_output(saved: dict[str, Path], quantize: str) -> None:
    """On processors with bf16 units bitsandbytes would pack nf4 weights anew in evaluation, and stop gradients from then on."""
    auto, _ = CASES["llama"]
    model = opened(saved["llama"], auto, quantize)

    def gradient() -> torch.Tensor:
        model.train()
        model.zero_grad()
        logits(model).square().mean().backward()
        return model.model.embed_tokens.weight.grad.clone()

    model.requires_grad_(False)
    model.model.embed_tokens.weight.requires_grad_(True)
    before = gradient()
    assert before.abs().sum() > 0
    with torch.no_grad():
        first = logits(model.eval())
    assert torch.equal(gradient(), before)
    with torch.no_grad():
        assert torch.equal(logits(model.eval()), first)
        # Training on a CPU, int8 rounds weights only, and not what they are multiplied with.
        torch.testing.assert_close(first, logits(model.train()), rtol=0, atol=0 if quantize == "nf4" else 0.02)


@pytest.mark.parametrize(
    ("quantize", "bits"), [("nf4", 4 + 8 / 64 + 32 / 64 / 256), ({"name": "nf4", "double": False}, 4.5), ("int8", 8.0)]
)
def test_bytes_are_counted_with_their_scales(saved: dict[str, Path], quantize: Any, bits: float) -> None:
    auto, _ = CASES["llama"]
    plain, model = opened(saved["llama"], auto), opened(saved["llama"], auto, quantize)
    inside = [plain.get_submodule(name).weight for name in anatomy(plain).linears]
    whole, held = sum(p.numel() for p in plain.parameters()), sum(p.numel() for p in inside)
    assert quantized.footprint(plain) == {"bytes": 4 * whole, "float32_bytes": 4 * whole}
    rows = 4 * sum(len(weight) for weight in inside) if quantize == "int8" else 0
    for _ in range(2):  # before a product, and after the first, which moves int8's scales to another place
        counted = quantized.footprint(model)
        assert counted["float32_bytes"] == 4 * whole
        assert counted["bytes"] == pytest.approx(4 * (whole - held) + held * bits / 8 + rows, rel=0.005)
        logits(model)


def test_products_are_in_the_format_that_was_asked_for(saved: dict[str, Path]) -> None:
    auto, _ = CASES["llama"]
    formats = {}
    for compute in ("auto", "bfloat16"):
        layer = opened(saved["llama"], auto, {"name": "nf4", "compute": compute}).model.layers[0].mlp.up_proj
        formats[compute] = layer.compute_dtype
    assert formats == {"auto": torch.float32, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"name": "new:llama", "tokenizer": "bundled:tokenizer", "quantize": "nf4"}, "random weights"),
        ({"from_scratch": True, "quantize": "int8"}, "random weights"),
        ({"dtype": "bfloat16", "quantize": "nf4"}, "`dtype`"),
        ({"quantize": {"name": "int8", "double": False}}, "settings of nf4"),
        ({"quantize": {"name": "int8", "compute": "bfloat16"}}, "settings of nf4"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(tiny_llama: Path, settings: dict[str, Any], reason: str) -> None:
    fault = Model(**{"name": str(tiny_llama), **settings}).fault()
    assert fault is not None and reason in fault and "`quantize`" in fault


def test_without_the_library_the_recipe_says_how_to_get_it(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    fault = Model(name=str(tiny_llama), quantize="nf4").fault()
    assert fault is not None and "bitsandbytes" in fault and "burnish[quantize]" in fault


def test_a_model_that_was_saved_quantised_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    auto, _ = CASES["llama"]
    opened(saved["llama"], auto, "nf4").save_pretrained(tmp_path)
    for quantize in (None, "int8"):
        with pytest.raises(ModelError, match="quantised already"):
            spec = Model(name=str(tmp_path), quantize=quantize)
            load.load_model(spec, auto, load.load_tokenizer(Model(name=str(saved["llama"]))), 0)


def test_the_word_of_quantised_weights_stays_only_where_the_files_hold_such(saved: dict[str, Path], tmp_path: Path) -> None:
    auto, _ = CASES["llama"]
    model = opened(saved["llama"], auto, "nf4")
    model.save_pretrained(tmp_path / "stored")
    model.config.save_pretrained(tmp_path / "linked" / "base")
    (tmp_path / "linked" / "base" / "model.safetensors").symlink_to(saved["llama"] / "model.safetensors")
    for name in ("stored", "linked"):
        quantized.complete(tmp_path / name)
    assert "quantization_config" in json.loads((tmp_path / "stored" / "config.json").read_text())
    assert "quantization_config" not in json.loads((tmp_path / "linked" / "base" / "config.json").read_text())
    plain = getattr(transformers, auto).from_pretrained(tmp_path / "linked" / "base")
    assert not any(isinstance(module, bitsandbytes.nn.Linear4bit) for module in plain.modules())
