"""Attention whose weights are dropped, over groups of packed sequences: one function with a gradient of its own.

    S = Q K^T size + B, P = softmax(S), O = (P * M / (1 - p)) V      M the mask that is drawn, B what is added by relative position
    dV = (P * M / (1 - p))^T dO, dP = (dO V^T) * M / (1 - p), dS = P * (dP - sum(dP * P)), dQ = dS K size, dK = dS^T Q size, dB = dS

torch's own kernels leave their fast way on the CPU where weights are dropped. Here each group is a few products over padded blocks, and
autograd sees one operation for all of them; backward keeps P and one byte for each of M.

Legend: H heads, G heads of keys and values, n rows that ask, N rows that are seen, b examples of a group, Q and T their padded lengths, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from burnish.models.fast.layout import Spread
from burnish.models.fast.masks import multiplied

Draw = Callable[[tuple[int, ...], torch.device], torch.Tensor]
"""Shape (b, H, Q, T) -> which weights are kept, bool."""


@dataclass(frozen=True)
class Group:
    """Sequences that attend together: who asks, what is seen, `mask` (b, 1, Q, T) or (Q, T) of what may be, and what draws (b, H, Q, T)."""

    asking: Spread
    seen: Spread
    mask: torch.Tensor | None
    draw: Draw


def dropped_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, groups: Sequence[Group], size: float, factor: float
) -> torch.Tensor:
    """(n, H, D) of `q` (n, H, D), `k` and `v` (N, G, D), `bias` (1, H, T, T) for the longest; what is kept is multiplied by `factor`, 1 / (1 - p)."""
    found: torch.Tensor = Weighing.apply(q, k, v, bias, groups, size, factor)
    return found


class Weighing(torch.autograd.Function):
    """The formulas at the head of this file, group by group."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        bias: torch.Tensor | None,
        groups: Sequence[Group],
        size: float,
        factor: float,
    ) -> torch.Tensor:
        found, kept = q.new_zeros(q.shape), []
        with torch.autocast(q.device.type, enabled=False):
            for group in groups:
                one, keys, values = heads(q, group.asking), heads(k, group.seen, q.shape[1]), heads(v, group.seen, q.shape[1])
                scores = (one @ keys.transpose(2, 3)).mul_(size)  # (b, H, Q, T)
                if bias is not None:
                    scores += corner(bias, scores)
                if group.mask is not None:
                    # A sum with a mask of one head for all of them: six times as fast as to fill each head's.
                    scores.add_(torch.zeros_like(group.mask, dtype=scores.dtype).masked_fill_(~group.mask, float("-inf")))
                weights = scores.softmax(dim=-1, dtype=torch.float32)
                mask = group.draw(tuple(weights.shape), weights.device)
                kept += [weights, mask]
                joined(multiplied(weights, mask, factor).to(q.dtype) @ values, group.asking, found)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.rest = groups, size, factor
        ctx.bias = None if bias is None or not ctx.needs_input_grad[3] else (bias.shape, bias.dtype)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[Any, ...]:
        (q, k, v, *kept), (groups, size, factor) = ctx.saved_tensors, ctx.rest
        slopes = [one.new_zeros(one.shape) for one in (q, k, v)]
        by_bias = None if ctx.bias is None else q.new_zeros(ctx.bias[0], dtype=torch.float32)
        for number, group in enumerate(groups):
            weights, mask = kept[2 * number : 2 * number + 2]
            one, keys, values = heads(q, group.asking), heads(k, group.seen, q.shape[1]), heads(v, group.seen, q.shape[1])
            out = heads(upstream, group.asking, real=True)
            by_weight = multiplied((out @ values.transpose(2, 3)).float(), mask, factor)  # (b, H, Q, T)
            by_score = torch._softmax_backward_data(by_weight, weights, -1, torch.float32).to(q.dtype)
            if by_bias is not None:
                corner(by_bias, by_score).add_(by_score.sum(dim=0, keepdim=True))
            joined((by_score @ keys).mul_(size), group.asking, slopes[0])
            joined((by_score.transpose(2, 3) @ one).mul_(size), group.seen, slopes[1])
            joined(multiplied(weights, mask, factor).to(q.dtype).transpose(2, 3) @ out, group.seen, slopes[2])
        return *slopes, None if by_bias is None else by_bias.to(ctx.bias[1]), None, None, None


def corner(bias: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Of (1, H, T, T) what stands beside scores (b, H, Q, K) of shorter sequences."""
    return bias[..., : scores.shape[2], : scores.shape[3]]


def heads(rows: torch.Tensor, spread: Spread, num_heads: int | None = None, real: bool = False) -> torch.Tensor:
    """(b, H, T, D) of rows (n, G, D): padded, heads repeated where queries have more of them; `real` leaves zeros for padding."""
    part, times = rows[spread.first : spread.last], 1 if num_heads is None else num_heads // rows.shape[1]
    if spread.index is None:
        block = part.view(*spread.size, *rows.shape[1:]).transpose(1, 2)
        return block if times == 1 else block.repeat_interleave(times, dim=1)
    number = rows.shape[1] * times
    block = gathered(part.reshape(-1, rows.shape[2]), spread.from_rows(rows.shape[1], times))
    block = block.view(spread.size[0], number, spread.size[1], rows.shape[2])
    if real and spread.real is not None:
        block.mul_(spread.real[:, None, :, None])
    return block


def joined(block: torch.Tensor, spread: Spread, rows: torch.Tensor) -> None:
    """Writes (b, H, T, D) into the group's own `rows` (n, G, D), heads that were repeated summed."""
    if block.shape[1] != rows.shape[1]:
        block = block.unflatten(1, (rows.shape[1], -1)).sum(dim=2)
    part = rows[spread.first : spread.last]
    if spread.back is None:
        part.view(*spread.size, *rows.shape[1:]).copy_(block.transpose(1, 2))
    else:
        gathered(block.reshape(-1, block.shape[3]), spread.from_heads(block.shape[1]), part.view(-1, rows.shape[2]))


def gathered(rows: torch.Tensor, index: torch.Tensor, into: torch.Tensor | None = None) -> torch.Tensor:
    """(k, D) the rows (m, D) at `index` (k,), without a gradient. On the CPU numpy copies short rows three times as fast as torch does."""
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return torch.index_select(rows, 0, index) if into is None else into.copy_(rows.index_select(0, index))
    found = rows.new_empty(len(index), rows.shape[1]) if into is None else into
    np.take(rows.detach().numpy(), index.numpy(), axis=0, out=found.numpy(), mode="clip")  # clip: the other modes copy `out` first
    return found
