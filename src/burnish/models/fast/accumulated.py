"""Gradients of tables as large as a vocabulary, added where they are gathered: no second table is made for each part of them.

autograd makes a gradient of a table (V, D) for every chunk of rows that goes through the output matrix, and one, zero but for the tokens of a
micro-batch, for the input embeddings; each is then added to the one before. At 128,000 tokens and a width of 320 each is 164 MB.
Here a chunk's product adds to the sum itself (`core.fused.Sums`), and the embeddings' rows go right into the gradient of the weight.

Legend: s rows, D width, V tokens of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from burnish.core.fused import Sums, summing
from burnish.models.fast.embedding import plain


class Summed(torch.autograd.Function):
    """x W^T + b, of which backward adds the gradient of W to `sums`."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, bias: torch.Tensor | None, layer: nn.Linear, sums: Sums) -> torch.Tensor:
        ctx.save_for_backward(rows)
        ctx.layer, ctx.sums = layer, sums
        return F.linear(rows, layer.weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        ctx.sums.add_product(ctx.layer.weight, slope, rows)
        own = slope @ ctx.layer.weight if ctx.needs_input_grad[0] else None
        return own, slope.sum(dim=0) if ctx.needs_input_grad[1] else None, None, None


@dataclass(eq=False)
class Output:
    """The forward of an output matrix: while chunks are summed, its gradient is one of the sums."""

    layer: nn.Linear

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        layer, sums = self.layer, summing()
        if sums is None or not sums.take(layer.weight) or torch.is_autocast_enabled(input.device.type):
            return F.linear(input, layer.weight, layer.bias)
        found: torch.Tensor = Summed.apply(input.flatten(0, -2), layer.bias, layer, sums)
        return found.view(*input.shape[:-1], found.shape[-1])


class Scattered(torch.autograd.Function):
    """Rows of a table, of which backward adds the gradient to that of the table. `anchor` is what makes autograd come by."""

    @staticmethod
    def forward(ctx: Any, ids: torch.Tensor, anchor: torch.Tensor, module: nn.Embedding) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.module = module
        return F.embedding(ids, module.weight, module.padding_idx)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[None, None, None]:
        module, ids = ctx.module, ctx.saved_tensors[0].flatten()
        rows = slope.reshape(len(ids), -1)
        if module.padding_idx is not None:  # which learns nothing
            real = (ids != module.padding_idx).nonzero()[:, 0]
            ids, rows = ids[real], rows[real]
        if module.weight.grad is None:
            module.weight.grad = torch.zeros_like(module.weight)
        # Each token's rows are summed first, as autograd does it: so the bits are those of a weight that moves within backward.
        seen, place = ids.unique(return_inverse=True)
        sums = rows.new_zeros(len(seen), rows.shape[1]).index_add_(0, place, rows)
        module.weight.grad.index_add_(0, seen, sums.to(module.weight.dtype))
        return None, None, None


@dataclass(eq=False)
class Input:
    """The forward of input embeddings all rows of which learn."""

    module: nn.Embedding
    anchor: torch.Tensor

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        module = self.module
        if torch.is_grad_enabled() and module.weight.requires_grad and module.weight.device.type == "cpu":
            found: torch.Tensor = Scattered.apply(input, self.anchor, module)
            return found
        return F.embedding(input, module.weight, module.padding_idx)


def sum_outputs(model: Any) -> None:
    """Lets a plain output matrix add the gradients of chunks in place."""
    output = model.get_output_embeddings()
    if type(output) is nn.Linear and "forward" not in vars(output):
        output.forward = Output(output)  # type: ignore[method-assign]


def scatter_inputs(model: Any) -> None:
    """Lets the input embeddings, where they are a plain table that learns, add their gradient in place.

    Not where something waits for a weight's gradient to be whole within backward: what goes right into it is not announced.
    """
    weight = getattr(model.get_input_embeddings(), "weight", None)
    modules = [module for module in model.modules() if isinstance(module, nn.Embedding) and module.weight is weight]
    if weight is not None and weight.requires_grad and all(map(plain, modules)):
        for module in modules:
            module.forward = Input(module, torch.zeros((), requires_grad=True))  # type: ignore[method-assign]
