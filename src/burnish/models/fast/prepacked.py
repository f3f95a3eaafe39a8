"""Prediction on a CPU: weights laid out once as its matrix products want them, a sixth faster each.

oneDNN's products read a weight in blocks; from ordinary rows it makes them anew at every call. A finished model's weights do not change, so
that they are made once. The ordinary weights stay where they are, so this takes their size in memory again.

Legend: n rows, D inputs, E outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

ROWS = 2048
"""Rows that the layout is made for; others come out the same."""

FEWEST = 16
"""Rows below which the ordinary product is as fast: texts that are written token by token."""

MOST_BYTES = 10**9
"""Weights of a model at most, for they are held twice."""

CLOSE = 1e-5
"""How far the products may be apart, as a share of the largest."""


@dataclass(eq=False)
class Prepacked:
    """The forward of a linear layer: x W^T + b of rows (..., D) -> (..., E)."""

    layer: nn.Linear
    blocks: torch.Tensor

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        if input.dtype != torch.float32 or torch.is_grad_enabled() or input.numel() < FEWEST * input.shape[-1]:
            return F.linear(input, self.layer.weight, self.layer.bias)
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, self.blocks, self.layer.bias, "none", [], "")
        return found


def prepack(model: nn.Module) -> int:
    """Lays out the weights of every plain linear layer, and says how many: none where this torch, this machine or this model does not
    allow it. What the first layer then gives is compared with what it gave."""
    layers = [module for module in model.modules() if type(module) is nn.Linear and "forward" not in vars(module)]
    plain = [one for one in layers if one.weight.device.type == "cpu" and one.weight.dtype == torch.float32]
    if not plain or not torch.backends.mkldnn.is_available() or sum(one.weight.nbytes for one in plain) > MOST_BYTES:
        return 0
    try:
        with torch.no_grad():
            packed = [(one, torch.ops.mkldnn._reorder_linear_weight(one.weight.detach(), ROWS)) for one in plain]
            if not same(plain[0], Prepacked(*packed[0])):
                return 0
    except (AttributeError, RuntimeError):  # another build of torch, without oneDNN's operators
        return 0
    for layer, blocks in packed:
        layer.forward = Prepacked(layer, blocks)
    return len(packed)


def same(layer: nn.Linear, packed: Any) -> bool:
    """Whether a layer gives the same both ways."""
    rows = torch.randn(2 * FEWEST, layer.in_features, generator=torch.Generator().manual_seed(0))
    plain = layer(rows)
    return bool((packed(rows) - plain).abs().max() <= CLOSE * plain.abs().max())
