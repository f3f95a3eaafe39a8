"""A frozen product and LoRA's update beside it as one function with a gradient of its own.

    y = x W^T + b + s (x A^T) B^T            x is dropped on the way to A, where LoRA drops
    dx = dy W + s (dy B) A, dA = s (dy B)^T x, dB = s dy^T (x A^T)

peft computes the update in products of their own, scales it, and adds it, and autograd does all that again in backward: on a model of 22.7M
a third of a step. Here the update is added within its last product, where the large one has left its result. The ranks stand first, for
the CPU's library multiplies (r, n) by (n, E) up to six times as fast as its transpose, which autograd would take.

Legend: n rows, D inputs, E outputs, r rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from burnish.models.fast.prepacked import FEWEST, Prepacked, product


class Adapted(torch.autograd.Function):
    """The formulas at the head of this file. `dropped` is what A gets, None where it is `rows` themselves."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        dropped: torch.Tensor | None,
        first: torch.Tensor,
        second: torch.Tensor,
        size: float,
        base: Prepacked,
    ) -> torch.Tensor:
        seen = rows if dropped is None else dropped
        low = first @ seen.t()  # (r, n)
        found = product(rows, base.down, base.layer.bias)  # (n, E)
        ctx.save_for_backward(seen, low, first, second)
        ctx.apart, ctx.size, ctx.up = dropped is not None, size, base.up
        return found.addmm_(low.t(), second.t(), alpha=size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        seen, low, first, second = ctx.saved_tensors
        of_rows, of_dropped, of_first, of_second = ctx.needs_input_grad[:4]
        slope = slope.contiguous()
        below = (second.t() @ slope.t()).mul_(ctx.size)  # (r, n)
        by_rows = product(slope, ctx.up, None) if of_rows else None
        by_dropped = below.t() @ first if ctx.apart and of_dropped else None
        if by_rows is not None and not ctx.apart:
            by_rows.addmm_(below.t(), first)
        by_first = below @ seen if of_first else None
        by_second = (low @ slope).mul_(ctx.size).t() if of_second else None
        return by_rows, by_dropped, by_first, by_second, None, None


@dataclass(eq=False)
class LowRank:
    """The forward of one of peft's LoRA layers. What `Adapted` does not say goes peft's own way: adapters that are switched off, merged,
    several or named by row, biases and variants of LoRA, other numbers than float32, few rows, somebody who listens to the layers within."""

    layer: Any

    def __call__(self, x: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        layer, base = self.layer, self.layer.base_layer.forward
        if layer.merged and not layer.disable_adapters and not args and not named:
            # The blocks were laid out before the weight took the update in.
            return F.linear(x, layer.base_layer.weight, layer.base_layer.bias)
        if args or named or not torch.is_grad_enabled() or not self.plain(x):
            own: torch.Tensor = type(layer).forward(layer, x, *args, **named)
            return own
        (name,) = layer.active_adapters
        first, second, dropout = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name]
        rows = x.flatten(0, -2)
        dropped = None if isinstance(dropout, nn.Identity) or not dropout.training else dropout(x).flatten(0, -2)
        found: torch.Tensor = Adapted.apply(rows, dropped, first.weight, second.weight, layer.scaling[name], base)
        return found.view(*x.shape[:-1], found.shape[-1])

    def plain(self, x: torch.Tensor) -> bool:
        """Whether this is one LoRA on a frozen weight, over rows that are worth it."""
        layer = self.layer
        if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
            return False
        name, base = layer.active_adapters[0], layer.base_layer
        if name not in layer.lora_A or name in layer.lora_variant or layer.lora_bias[name]:
            return False
        fit = x.dtype == layer.lora_A[name].weight.dtype == torch.float32 and x.numel() >= FEWEST * x.shape[-1]
        held = isinstance(vars(base).get("forward"), Prepacked) and not (base.bias is not None and base.bias.requires_grad)
        return fit and held and not torch.is_autocast_enabled("cpu") and not any(map(heard, (base, layer.lora_A[name], layer.lora_B[name])))


def heard(module: nn.Module) -> bool:
    """Whether somebody listens to what goes through a module."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


def fuse_low_rank(model: nn.Module) -> int:
    """Lets each LoRA layer beside a weight that `prepack` has laid out for training go through as one function; says how many."""
    if not hasattr(model, "peft_config"):
        return 0
    from peft.tuners.lora import Linear

    layers: list[Any] = [module for module in model.modules() if type(module) is Linear and "forward" not in vars(module)]
    chosen = [one for one in layers if isinstance(held := vars(one.base_layer).get("forward"), Prepacked) and held.up is not None]
    for layer in chosen:
        layer.forward = LowRank(layer)
    return len(chosen)
