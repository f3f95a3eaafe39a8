"""Weights that do not learn, laid out once as a CPU's matrix products want them, a sixth faster each.

oneDNN's products read a weight in blocks; from ordinary rows it makes them anew at every call. A finished model's weights do not change,
nor do those beside which adapters learn, so that they are made once; for these also those of the transposed weight, by which backward brings
gradients down. The ordinary weights stay where they are: this takes their size in memory again, once or twice.

Legend: n rows, D inputs, E outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

ROWS = 2048
"""Rows that the layout is made for; others come out the same."""

FEWEST = 16
"""Rows below which the ordinary product is as fast: texts that are written token by token."""

MOST_BYTES = 10**9
"""Weights of a model at most, for they are held twice."""

CLOSE = 1e-5
"""How far the products may be apart, as a share of the largest."""


def product(rows: torch.Tensor, blocks: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., E) of rows (..., D) and the blocks of a weight (E, D)."""
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, blocks, bias, "none", [], "")
    return found


class Frozen(torch.autograd.Function):
    """x W^T + b where W does not learn: dx = dy W, db = the sum of dy over rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, bias: torch.Tensor | None, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.up = up
        return product(rows, down, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        own = product(slope.contiguous(), ctx.up, None) if ctx.needs_input_grad[0] else None
        return own, slope.sum(dim=0) if ctx.needs_input_grad[1] else None, None, None


@dataclass(eq=False)
class Prepacked:
    """The forward of a linear layer: x W^T + b of rows (..., D) -> (..., E). `up` are the blocks for backward, where there is one."""

    layer: nn.Linear
    down: torch.Tensor
    up: torch.Tensor | None = None

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        layer, learning = self.layer, torch.is_grad_enabled()
        few = input.numel() < FEWEST * input.shape[-1]
        if few or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or (learning and self.up is None):
            return F.linear(input, layer.weight, layer.bias)
        if not learning:
            return product(input, self.down, layer.bias)
        # In two dimensions, for a view that a function gives may not be changed in place, as some adapters do.
        found: torch.Tensor = Frozen.apply(input.flatten(0, -2), layer.bias, self.down, self.up)
        return found.view(*input.shape[:-1], found.shape[-1])


def prepack(model: nn.Module, training: bool = False) -> int:
    """Lays out the weights of the plain linear layers, in `training` of those that do not learn, and says how many: none where this torch,
    this machine or this model does not allow it. What the first layer then gives is compared with what it gave."""
    layers = [module for module in model.modules() if type(module) is nn.Linear and "forward" not in vars(module)]
    plain = [one for one in layers if one.weight.device.type == "cpu" and one.weight.dtype == torch.float32]
    chosen = [one for one in plain if not (training and one.weight.requires_grad)]
    room = MOST_BYTES // (2 if training else 1)
    if not chosen or not torch.backends.mkldnn.is_available() or sum(one.weight.nbytes for one in chosen) > room:
        return 0
    try:
        with torch.no_grad():
            packed = [Prepacked(one, blocks(one.weight), blocks(one.weight.t()) if training else None) for one in chosen]
            if not same(chosen[0], packed[0]):
                return 0
    except (AttributeError, RuntimeError):  # another build of torch, without oneDNN's operators
        return 0
    for one in packed:
        one.layer.forward = one  # type: ignore[method-assign]
    return len(packed)


def blocks(weight: torch.Tensor) -> torch.Tensor:
    """A weight (E, D) as oneDNN reads it."""
    found: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
    return found


def same(layer: nn.Linear, packed: Any) -> bool:
    """Whether a layer gives the same both ways."""
    rows = torch.randn(2 * FEWEST, layer.in_features, generator=torch.Generator().manual_seed(0))
    plain = layer(rows)
    return bool((packed(rows) - plain).abs().max() <= CLOSE * plain.abs().max())
