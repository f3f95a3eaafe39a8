"""Attention over packed sequences, as transformers' attention interface calls it: each sequence sees itself alone.

Legend: H heads, G heads of keys and values, N tokens, n rows that ask, b examples of a group, T keys and Q queries of the longest, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from burnish.models.fast.layout import Layout, Spread
from burnish.models.fast.masks import attention_kept, masked, scale
from burnish.models.fast.passing import Passage, Passing

NAME = "burnish"
"""What the function is registered as."""

UNDERSTOOD = {
    "sliding_window",
    "is_causal",
    "position_ids",
    "cache_position",
    "use_cache",
    "output_attentions",
    "head_mask",
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
    now = passage.now
    strange = [name for name, found in asked.items() if found is not None and found is not False and name not in UNDERSTOOD]
    if now is None or now.layout is None or attention_mask is not None or strange:
        raise Unsupported(", ".join(strange) or "a mask of its own")
    if now.capturing:
        raise CapturedKeys(key, value)
    if now.captured is not None:
        key, value = now.captured
    causal = asked.get("is_causal")
    causal = bool(getattr(module, "is_causal", True)) if causal is None else causal
    window = window_of(asked.get("sliding_window"), causal)
    layout = now.layout
    if layout.prefixes is not None and not causal:
        raise Unsupported("shared tokens that see what follows them")
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (n, H, D), (N, G, D) twice
    size = q.shape[-1] ** -0.5 if scaling is None else scaling
    if now.captured is None and layout.prefixes is None and not dropout and flash(q):
        return flash_attention(q, k, v, layout, size, causal, window)[None], None
    drop = dropping(module, now, q.shape[1], dropout) if dropout else None
    k, v = layout.complete(k), layout.complete(v)
    found = []
    for asking, seen in layout.whole if now.captured is None else layout.trimmed:
        mask = allowed(asking, seen, causal, window)
        block = attention(asking.spread(q), seen.spread(k), seen.spread(v), mask, causal, size, drop and partial(drop, asking))
        found.append(asking.joined(block))
    return (found[0] if len(found) == 1 else torch.cat(found))[None], None


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
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, scale: float, causal: bool, window: tuple[int, int] | None
) -> torch.Tensor:
    """All sequences in one kernel, without padding: `q` (N, H, D), `k` and `v` (N, G, D) -> (N, H, D). Dao 2023, "FlashAttention-2"."""
    from torch.nn.attention import varlen

    back, ahead = (-1, -1) if window is None else (window[0] - 1, window[1] - 1)
    ends, longest = layout.ends, max(layout.lengths)
    found: Any = varlen.varlen_attn(
        q,
        k,
        v,
        ends,
        ends,
        longest,
        longest,
        scale=scale,
        window_size=(back, 0 if causal else ahead),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return found


def allowed(asking: Spread, seen: Spread, causal: bool, window: tuple[int, int] | None) -> torch.Tensor | None:
    """(b, 1, Q, T) which keys a query may see, None where it is all of them (or all before it, which attention knows by itself)."""
    longest = seen.size[1]
    narrow = window is not None and longest > min(window)
    partly = asking.last - asking.first < seen.last - seen.first  # some tokens do not ask: they are trimmed, or another's
    padded = seen.index is not None and not (causal and not partly)  # what a query sees stands before the padding
    if not narrow and not padded and not (causal and partly):
        return None
    positions = torch.arange(longest, device=seen.positions.device)
    behind = asking.positions[:, :, None] - positions  # (b, Q, T) how far back each key stands
    mask = behind >= 0 if causal else torch.ones_like(behind, dtype=torch.bool)
    if narrow and window is not None:
        mask = mask & (behind < window[0]) & (behind > -window[1])
    if seen.index is not None:
        assert seen.real is not None, "a block with padding knows what is real"
        mask = mask & seen.real[:, None, :]
        mask = mask | (~mask.any(dim=-1, keepdim=True))  # padding that asks sees something, or its softmax would be no number
    return mask[:, None]


def dropping(module: Any, now: Passing, heads: int, p: float) -> Callable[[Spread, torch.Tensor], torch.Tensor]:
    """What drops weights (b, H, Q, T) of the tokens that ask: by key, or by torch's generator where the recipe says so."""
    if not module.passage.keyed:
        return lambda asking, weights: F.dropout(weights, p)
    key = now.key_at(module.place)

    def drop(asking: Spread, weights: torch.Tensor) -> torch.Tensor:
        slots = torch.tensor([now.slots[example] for example in asking.examples], device=weights.device)
        return masked(weights, attention_kept(slots, asking.positions, heads, weights.shape[-1], module.place, key, p), scale(p))

    return drop


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    size: float,
    drop: Callable[[torch.Tensor], torch.Tensor] | None,
) -> torch.Tensor:
    """`q` (b, Q, H, D), `k` and `v` (b, T, G, D) -> (b, Q, H, D)."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    if drop is None:
        shared = q.shape[1] != k.shape[1]
        found = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal and mask is None, scale=size, enable_gqa=shared)
        return found.transpose(1, 2)
    if q.shape[1] != k.shape[1]:
        k, v = (tensor.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for tensor in (k, v))
    scores = (q * size) @ k.transpose(2, 3)  # (b, H, Q, T)
    if mask is None and causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return (drop(weights) @ v).transpose(1, 2)
