"""Models whose pretrained weights are held in few bits, by bitsandbytes: how they are opened, how large they are, how they lie on disk.

Legend: n weights; nf4 packs two into a byte, so that a parameter's own shape says nothing of what it stands for.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.core.errors import ModelError
from burnish.models.blocks import anatomy, is_linear
from burnish.models.quantize import Quantize

if TYPE_CHECKING:
    from torch import nn

FLOAT32_BYTES = 4
OUTLIER = 6.0
"""Columns of the input that reach this value are multiplied in 16 bits under int8: the value of the paper, section 3.2."""

SETTINGS = "quantization_config"
STORED = (".quant_map", ".SCB")
"""Ends of the names that bitsandbytes gives to what it keeps beside quantised weights."""


def options(quantize: Quantize, auto: Any, config: Any, device: str, trust_remote_code: bool = False) -> dict[str, Any]:
    """What `from_pretrained` is given besides, to open a model with quantised blocks on a device (`cpu`, `cuda`).

    Raises ModelError where the weights are quantised already, or the blocks have no linear layers to quantise.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every cast, at every product
    from transformers import BitsAndBytesConfig

    untouched = outside_blocks(auto, config, trust_remote_code)
    if quantize.name == "int8":
        made = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=OUTLIER, llm_int8_skip_modules=untouched)
    else:
        made = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=quantize.double,
            bnb_4bit_compute_dtype=compute_dtype(quantize, device),
            llm_int8_skip_modules=untouched,  # the name is of int8, the list is for both
        )
    return {SETTINGS: made, "device_map": {"": device}}


def compute_dtype(quantize: Quantize, device: str) -> Any:
    """The number format of products with nf4 weights on a device."""
    import torch

    if quantize.compute != "auto":
        return getattr(torch, quantize.compute)
    return torch.bfloat16 if device == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def outside_blocks(auto: Any, config: Any, trust_remote_code: bool) -> list[str]:
    """The linear layers that stay as they are: heads and outputs, whether fresh or pretrained, found on a model without its numbers."""
    import torch

    with torch.device("meta"):
        model = auto.from_config(config, trust_remote_code=trust_remote_code)
    inside = set(anatomy(model).linears)
    if not inside:
        raise ModelError(f"{type(model).__name__} has no linear layers in its blocks: there is nothing to quantise.")
    return [name for name, module in model.named_modules() if is_linear(module) and name not in inside]


def require_plain(config: Any, name: str) -> None:
    """Raises ModelError for a model whose files hold quantised weights: their full precision is lost, and it is Burnish that quantises."""
    if getattr(config, SETTINGS, None) is not None:
        raise ModelError(
            f"the weights of {name} are quantised already: give the model in full precision, and say model.quantize=nf4 or int8 to hold it in few bits."
        )


def settle(model: nn.Module) -> None:
    """Makes a quantised model compute in evaluation as it does in training.

    On processors with bf16 units bitsandbytes packs nf4 weights anew at the first product in evaluation mode: other numbers, and
    from then on products through which no gradient flows back, so that training after an evaluation would stand still.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 (no attribute that torch types know)


def footprint(model: nn.Module) -> dict[str, int]:
    """Bytes of a model's weights as they are held, scales included, and as float32 would take."""
    held = full = 0
    seen: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:  # an output that is tied to the embeddings
                continue
            seen.add(id(parameter))
            state = getattr(parameter, "quant_state", None)
            elements = parameter.numel() if state is None else math.prod(state.shape)
            held += sum(tensor.numel() * tensor.element_size() for tensor in [parameter, *scales(module, parameter)])
            full += elements * FLOAT32_BYTES
    return {"bytes": held, "float32_bytes": full}


def scales(module: nn.Module, parameter: Any) -> list[Any]:
    """The tensors that belong to a quantised parameter, without the small table of the 16 values."""
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return [state.absmax, *([state.state2.absmax] if state.nested else [])]
    eight = getattr(module, "state", None)
    if parameter is not getattr(module, "weight", None) or eight is None:
        return []
    rows = [getattr(parameter, "SCB", None), getattr(eight, "SCB", None)]  # moves from one to the other at the first product
    return [next(scale for scale in rows if scale is not None)] if any(scale is not None for scale in rows) else []


def complete(folder: Path) -> None:
    """Takes the word of quantised weights out of a saved model's configuration where its files are not: linked to the base's in full
    precision, they are quantised anew whenever the model is opened."""
    for path in folder.rglob("config.json"):
        settings = json.loads(path.read_text(encoding="utf-8"))
        stored = any(name.endswith(STORED) for file in path.parent.glob("model*.safetensors") for name in names_in(file))
        if not stored and settings.pop(SETTINGS, None) is not None:
            path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def names_in(file: Path) -> list[str]:
    """The names of the tensors in a safetensors file."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return list(opened.keys())
