"""Attention over packed sequences, as transformers' attention interface calls it: each sequence sees itself alone.

Legend: H heads, G heads of keys and values, N tokens, n rows that ask, b examples of a group, T keys and Q queries of the longest, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from burnish.models.fast.layout import Crossing, Layout, Spread
from burnish.models.fast.masks import attention_kept, scale
from burnish.models.fast.passing import Passage, Passing
from burnish.models.fast.weighing import Draw, Group, dropped_attention

NAME = "burnish"
"""What the function is registered as."""

UNDERSTOOD = {
    "sliding_window",
    "is_causal",
    "position_ids",
    "cache_position",
    "use_cache",
    "deterministic",
}
"""What an architecture may say beside; with anything else that is set (soft caps, sinks, biases) it is not packed."""


class CapturedKeys(Exception):
    """Keys and values are there: what a block computes after them is not wanted in this pass."""

    def __init__(self, key: torch.Tensor, value: torch.Tensor) -> None:
        self.key, self.value = key, value


class Unsupported(Exception):
    """An architecture asks for something that packed attention does not do."""


def register() -> None:
    """Makes the function known to transformers. Without a mask function beside it, no mask is built."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


@torch.compiler.disable
def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **asked: Any,
) -> tuple[torch.Tensor, None]:
    """softmax(q k^T * scaling) v within each sequence: `query` (1, H, n, D), `key` and `value` (1, G, N, D) -> (1, n, H, D)."""
    passage: Passage = module.passage  # type: ignore[assignment]
    now, place = passage.now, int(module.place)  # type: ignore[arg-type]
    bias = asked.pop("position_bias", None)
    strange = [name for name, found in asked.items() if found is not None and found is not False and name not in UNDERSTOOD]
    layout = None if now is None else now.layout_at(place)
    if now is None or layout is None or attention_mask is not None or strange:
        raise Unsupported(", ".join(strange) or "a mask of its own")
    if now.capturing:
        raise CapturedKeys(key, value)
    if now.captured is not None:
        key, value = now.captured
    causal = asked.get("is_causal")
    causal = bool(getattr(module, "is_causal", True)) if causal is None else causal
    window = window_of(asked.get("sliding_window"), causal)
    if layout.prefixes is not None and not causal:
        raise Unsupported("shared tokens that see what follows them")
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (n, H, D), (N, G, D) twice
    size = q.shape[-1] ** -0.5 if scaling is None else scaling
    bias = None if bias is None or bias.shape[-1] == 1 else bias  # a decoder adds nothing to how it looks at its encoder
    crossing = now.crossing if place in passage.crossing else None
    if now.captured is None and layout.prefixes is None and bias is None and not dropout and flash(q):
        seen_layout = layout if crossing is None else crossing.seen
        return flash_attention(q, k, v, (layout, seen_layout), size, causal, window)[None], None
    pairs, masks = grouped(now, layout, crossing, causal, window)
    k, v = (k, v) if crossing is not None else (layout.complete(k), layout.complete(v))
    if dropout:
        drawn = draws(module, now, pairs, dropout)
        groups = [Group(*pair, explicit(mask, causal, pair[1]), draw) for pair, mask, draw in zip(pairs, masks, drawn, strict=True)]
        return dropped_attention(q, k, v, bias, groups, size, scale(dropout))[None], None
    found = [
        asking.joined(attention(asking.spread(q), seen.spread(k), seen.spread(v), biased(mask, bias, causal, seen), causal, size))
        for (asking, seen), mask in zip(pairs, masks, strict=True)
    ]
    return (found[0] if len(found) == 1 else torch.cat(found))[None], None


def grouped(
    now: Passing, layout: Layout, crossing: Crossing | None, causal: bool, window: tuple[int, int] | None
) -> tuple[list[tuple[Spread, Spread]], list[torch.Tensor | None]]:
    """Who asks and what is seen, group by group, and what of it may be."""
    if crossing is not None:
        return crossing.pairs, crossing.masks
    trimmed = now.captured is not None
    return layout.trimmed if trimmed else layout.whole, layout.masks(trimmed, causal, window)


def biased(mask: torch.Tensor | None, bias: torch.Tensor | None, causal: bool, seen: Spread) -> torch.Tensor | None:
    """What is added to the scores of a group: `bias` (1, H, T, T) by relative position, of which a shorter group takes a corner."""
    if bias is None:
        return mask
    longest, mask = seen.size[1], explicit(mask, causal, seen)
    own = bias[..., :longest, :longest]
    return own if mask is None else own.masked_fill(~mask, float("-inf"))


def window_of(said: Any, causal: bool) -> tuple[int, int] | None:
    """How many tokens back and ahead a token sees, itself counted, where that is limited: causal models say one number of tokens,
    others (ModernBERT) both or half a window."""
    if said is None:
        return None
    back, ahead = (abs(one) + 1 for one in said) if isinstance(said, (tuple, list)) else (int(said), int(said))
    return (back, 1) if causal else (back, ahead)


def flash(q: torch.Tensor) -> bool:
    """Whether torch's flash kernel for sequences of different lengths takes these numbers: on CUDA, in two bytes each."""
    return q.is_cuda and q.dtype in (torch.float16, torch.bfloat16)


def flash_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layouts: tuple[Layout, Layout],
    scale: float,
    causal: bool,
    window: tuple[int, int] | None,
) -> torch.Tensor:
    """All sequences in one kernel, without padding: `q` (n, H, D), `k` and `v` (N, G, D) -> (n, H, D). Dao 2023, "FlashAttention-2"."""
    from torch.nn.attention import varlen

    back, ahead = (-1, -1) if window is None else (window[0] - 1, window[1] - 1)
    asking, seen = layouts
    found: Any = varlen.varlen_attn(
        q,
        k,
        v,
        asking.ends,
        seen.ends,
        max(asking.lengths),
        max(seen.lengths),
        scale=scale,
        window_size=(back, 0 if causal else ahead),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return found


def explicit(mask: torch.Tensor | None, causal: bool, seen: Spread) -> torch.Tensor | None:
    """A mask that says itself that nothing after a token is seen."""
    if mask is not None or not causal:
        return mask
    return torch.ones(seen.size[1], seen.size[1], dtype=torch.bool, device=seen.positions.device).tril()


def draws(module: Any, now: Passing, pairs: Sequence[tuple[Spread, Spread]], p: float) -> list[Draw]:
    """What draws which weights (b, H, Q, T) of each group are kept: by key, or by torch's generator where the recipe says so."""
    if not module.passage.keyed:
        return [lambda shape, device: torch.rand(shape, device=device) >= p] * len(pairs)
    key = now.key_at(module.place)

    def by_key(asking: Spread) -> Draw:
        def draw(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
            slots = torch.tensor([now.slots[example] for example in asking.examples], device=device)
            return attention_kept(slots, asking.positions, shape[1], shape[-1], module.place, key, p)

        return draw

    return [by_key(asking) for asking, _ in pairs]


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool, size: float) -> torch.Tensor:
    """`q` (b, Q, H, D), `k` and `v` (b, T, G, D) -> (b, Q, H, D)."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    shared = q.shape[1] != k.shape[1]
    found = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal and mask is None, scale=size, enable_gqa=shared)
    return found.transpose(1, 2)
