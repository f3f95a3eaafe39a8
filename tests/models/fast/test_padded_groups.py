"""Attention whose weights are dropped, over groups with padding: what autograd finds for the formula, sequence by sequence."""

from __future__ import annotations

import pytest
import torch

from burnish.models.fast.layout import Layout
from burnish.models.fast.weighing import Group, dropped_attention

LENGTHS = (9, 7, 7, 3)
SIZE, P = 0.4, 0.2


def rows(heads: int, seed: int, strided: bool = False) -> torch.Tensor:
    """(n, H, D), in order or as a view of heads that stand first."""
    found = torch.randn(heads, sum(LENGTHS), 8, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return found.transpose(0, 1) if strided else found.transpose(0, 1).contiguous()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [1, 2], ids=["as many keys", "grouped keys"])
@pytest.mark.parametrize("strided", [False, True])
def test_padded_groups(causal: bool, shared: int, strided: bool) -> None:
    q, k, v = rows(4, 0, strided), rows(4 // shared, 1, strided), rows(4 // shared, 2, strided)
    layout = Layout(LENGTHS, max(LENGTHS), range(len(LENGTHS)), torch.device("cpu"), None)
    assert any(one.index is not None for one, _ in layout.whole)
    draw, drawn = torch.Generator().manual_seed(3), {}

    def kept(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        mask = torch.rand(shape, generator=draw) >= P
        drawn[len(drawn)] = mask
        return mask

    before = torch.ones(max(LENGTHS), max(LENGTHS), dtype=torch.bool).tril()
    groups = []
    for (asking, seen), mask in zip(layout.whole, layout.masks(False, causal, None), strict=True):
        own = before[: seen.size[1], : seen.size[1]] if mask is None and causal else mask
        groups.append(Group(asking, seen, own, kept))
    found = dropped_attention(q, k, v, None, groups, SIZE, 1 / (1 - P))

    parts, start = [], 0
    for number, group in enumerate(groups):
        for place, example in enumerate(group.asking.examples):
            length = LENGTHS[example]
            one, keys, values = (tensor[start : start + length].transpose(0, 1) for tensor in (q, k, v))
            keys, values = keys.repeat_interleave(shared, dim=0), values.repeat_interleave(shared, dim=0)
            scores = one @ keys.transpose(1, 2) * SIZE
            if causal:
                scores = scores.masked_fill(~before[:length, :length], float("-inf"))
            weights = scores.softmax(dim=-1) * drawn[number][place, :, :length, :length] / (1 - P)
            parts.append((weights @ values).transpose(0, 1))
            start += length
    wanted = torch.cat(parts)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    slopes, plainly = (torch.autograd.grad(one.sin().sum(), (q, k, v), retain_graph=True) for one in (found, wanted))
    for slope, plain in zip(slopes, plainly, strict=True):
        torch.testing.assert_close(slope, plain, rtol=1e-4, atol=1e-5)
