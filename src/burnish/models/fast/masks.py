"""Masks of dropout by a hash instead of a generator: no state, any row by itself, the same however a batch is cut, padded or packed.

torch draws a mask on the CPU one number after the other, 6 nanoseconds each. Here a row has a key of 64 bits (of seed, step, place and
token), a word of a row is a hash of its key and its number, and each of its four lanes of 16 bits decides about one feature:

    key    r = mix(base(seed, step, place) + slot * 2^32 + position + head * gamma) | 1          heads of attention count from 1
    word   z = r * c[w] mod 2^64;  z = z xor (z >> 32);  z = z * m mod 2^64      c[w] = mix((w + 1) * gamma) | 1
    kept   where lane j of the row, read as a signed number, is not among the round(p * 2^16) lowest

`mix` is the finalizer of SplitMix64 (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators"). A word needs no more
than two multiplications, for its key and its constant are well mixed already: that is a counter-based generator in the manner of
Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3", which is passed over each place once. numpy computes on the CPU (its
integer loops are vectorized, torch's only in part), torch elsewhere: both give the same bits.

Legend: n rows, F features of a row, W = ceil(F / 4) words, b sequences, H heads, Q queries, K keys of attention.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from burnish.models.fast.layout import Rows

LANES, LEVELS = 4, 1 << 16
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
ALL = (1 << 64) - 1
CHUNK = 1 << 16
"""Words that numpy works on at a time: half a megabyte, which stays near the core."""

RUN = 6144
"""Words that one loop of numpy runs over: rows of fewer words are taken together."""


def mix(number: int) -> int:
    """SplitMix64's finalizer: 64 bits to 64 bits, one to one, each bit of the result depending on all."""
    number = ((number ^ (number >> 30)) * FIRST) & ALL
    number = ((number ^ (number >> 27)) * SECOND) & ALL
    return number ^ (number >> 31)


def base(values: Iterable[int]) -> int:
    """One key of several numbers, in their order."""
    state = 0
    for value in values:
        state = mix(((state ^ (value & ALL)) + GAMMA) & ALL)
    return state


def signed(number: int) -> int:
    """The number of torch's int64 that has the same bits."""
    return number - (1 << 64) if number >> 63 else number


def level(p: float) -> int:
    """How many of 2^16 lanes are dropped: never all of them, however near p is to 1."""
    return min(round(p * LEVELS), LEVELS - 1)


def scale(p: float) -> float:
    """What is kept is multiplied by this, so that the expectation stays exactly the same: 1 / (1 - p), with p in steps of 2^-16."""
    return LEVELS / (LEVELS - level(p))


def row_keys(rows: Rows, place: int, key: tuple[int, ...]) -> torch.Tensor:
    """(n,) int64 keys of tokens at a place of a model; `key` is (seed, step), and a further number where a place is visited again.

    Slots and positions may have any shapes that go together, such as (B, 1) and (B, T); so have the keys.
    """
    return mixed((rows.slots << 32) + rows.positions + signed(base((*key, place))))


def head_keys(slots: torch.Tensor, positions: torch.Tensor, num_heads: int, place: int, key: tuple[int, ...]) -> torch.Tensor:
    """(b, H, Q) keys of the rows of attention: a query of a head.

    `slots` (b,) and `positions` (b, Q) say which tokens ask.
    """
    heads = torch.arange(1, num_heads + 1, device=slots.device) * signed(GAMMA) + signed(base((*key, place)))  # (H,)
    tokens = (slots[:, None] << 32) + positions  # (b, Q)
    return mixed(tokens[:, None, :] + heads[None, :, None])


def attention_kept(
    slots: torch.Tensor, positions: torch.Tensor, num_heads: int, num_keys: int, place: int, key: tuple[int, ...], p: float
) -> torch.Tensor:
    """(b, H, Q, K) which probabilities of attention are kept, for queries at `positions` (b, Q) of the examples at `slots` (b,).

    What a query keeps depends neither on the other queries nor on how many keys (or how much padding) stand behind those it looks at.
    """
    return kept(head_keys(slots, positions, num_heads, place, key), num_keys, p)


def kept(keys: torch.Tensor, features: int, p: float) -> torch.Tensor:
    """(*keys.shape, F) bool: which features of each row are kept when each is dropped with probability `p`, in steps of 2^-16.

    The first features of a row are the same however many there are.
    """
    flat = keys.reshape(-1)
    if keys.device.type == "cpu":
        found = torch.from_numpy(kept_by_numpy(flat.numpy().view(np.uint64), features, level(p)))
    else:
        found = kept_by_torch(flat, features, level(p))
    return found.view(*keys.shape, features)


def kept_by_numpy(keys: np.ndarray, features: int, dropped: int) -> np.ndarray:
    """(n, F) of keys (n,) uint64; `dropped` of 2^16 lanes are."""
    found = np.empty((len(keys), features), dtype=bool)
    rows = max(1, CHUNK * LANES // max(1, features))
    for start in range(0, len(keys), rows):
        part = slice(start, start + rows)
        np.greater_equal(lanes(keys[part], features), np.int16(dropped - LEVELS // 2), out=found[part])
    return found


def lanes(keys: np.ndarray, features: int) -> np.ndarray:
    """(n, F) int16, each of which is as likely as any other."""
    words = max(1, -(-features // LANES))
    hashed = products(keys, words)
    np.bitwise_xor(hashed, hashed >> np.uint64(32), out=hashed)
    np.multiply(hashed, np.uint64(SECOND), out=hashed)
    return hashed.view(np.int16).reshape(len(keys), words * LANES)[:, :features]


def products(keys: np.ndarray, words: int) -> np.ndarray:
    """(n * W,) the key of each row times each of the words' constants.

    numpy multiplies two long runs of numbers three times as fast as it does one number with a short run.
    """
    run = constants(words, -(-RUN // words))
    found = np.repeat(keys, words)
    whole = len(found) // len(run) * len(run)
    many, rest = found[:whole].reshape(-1, len(run)), found[whole:]
    np.multiply(many, run, out=many)
    np.multiply(rest, run[: len(rest)], out=rest)
    return found


@lru_cache(maxsize=64)
def constants(words: int, rows: int) -> np.ndarray:
    """(rows * W,) odd numbers, one for each word of a row, for so many rows one after another. Not to be written to."""
    numbers = torch.arange(1, words + 1) * signed(GAMMA)
    return np.tile(mixed(numbers).numpy().view(np.uint64), rows)


def kept_by_torch(keys: torch.Tensor, features: int, dropped: int) -> torch.Tensor:
    """(n, F) of keys (n,) int64, on any device: bit for bit what `kept_by_numpy` gives."""
    words = max(1, -(-features // LANES))
    hashed = keys[:, None] * constants_on(keys.device, words)
    hashed = (hashed ^ ((hashed >> 32) & 0xFFFFFFFF)) * signed(SECOND)
    return hashed.view(torch.int16)[:, :features] >= dropped - LEVELS // 2


@lru_cache(maxsize=64)
def constants_on(device: torch.device, words: int) -> torch.Tensor:
    return torch.from_numpy(constants(words, 1).view(np.int64)).to(device)


def mixed(numbers: torch.Tensor) -> torch.Tensor:
    """`mix` of each of many int64, made odd: keys and constants are multiplied, and a factor of 2 would be lost."""
    if numbers.device.type != "cpu":
        return mixed_by_torch(numbers)
    found = numbers.numpy().view(np.uint64)  # every caller hands over numbers of its own
    shifted = np.empty_like(found)
    for shift, factor in ((30, FIRST), (27, SECOND)):
        np.right_shift(found, np.uint64(shift), out=shifted)
        np.bitwise_xor(found, shifted, out=found)
        np.multiply(found, np.uint64(factor), out=found)
    np.right_shift(found, np.uint64(31), out=shifted)
    np.bitwise_xor(found, shifted, out=found)
    np.bitwise_or(found, np.uint64(1), out=found)
    return numbers


def mixed_by_torch(numbers: torch.Tensor) -> torch.Tensor:
    for shift, factor in ((30, FIRST), (27, SECOND)):
        numbers = (numbers ^ ((numbers >> shift) & (ALL >> shift))) * signed(factor)
    return (numbers ^ ((numbers >> 31) & (ALL >> 31))) | 1


class Masked(torch.autograd.Function):
    """x * mask * scale, of which backward keeps the mask alone (one byte an element); its gradient is the same of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.save_for_backward(mask)
        ctx.factor = factor
        return multiplied(x, mask, factor)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return masked(gradients[0], mask, ctx.factor), None, None


def masked(x: torch.Tensor, mask: torch.Tensor, factor: float) -> torch.Tensor:
    """`x` where `mask` (of the same shape) says so, times `factor`, and 0 elsewhere; differentiable as often as one likes."""
    found: torch.Tensor = Masked.apply(x, mask, factor)
    return found


def multiplied(x: torch.Tensor, mask: torch.Tensor, factor: float) -> torch.Tensor:
    """x * mask * factor, without a gradient. On the CPU numpy makes numbers of the mask, six times as fast as torch does."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        found: torch.Tensor = torch.ops.aten.native_dropout_backward(x, mask, factor)
        return found
    numbers = torch.empty(x.shape)
    np.copyto(numbers.numpy(), mask.numpy().view(np.int8))
    return torch.addcmul(torch.zeros(()), x, numbers, value=factor, out=numbers)
