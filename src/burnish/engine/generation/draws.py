"""Draws the next token of a text from its own random numbers, so that a text depends on neither its neighbours nor its place.

Legend: B texts in the model, T tokens of them with padding, W tokens to write, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def uniforms(seed: int, index: int, number: int) -> np.ndarray:
    """(number,) random numbers in [0, 1) for the tokens of prompt `index`: the first ones are the same whatever `number` is."""
    return np.random.default_rng([seed, index]).random(number, dtype=np.float32)


def drawn(scores: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """(B,) tokens drawn from softmax(scores) by inversion: the first whose cumulated probability exceeds `uniform` of the whole.

    `scores` (B, V) may hold -inf, `uniform` (B,) is below 1: tokens without probability are never drawn, for u * total < total in
    floating point too. One number a token instead of the V of `torch.multinomial`. float32 keeps the sums to about 1e-7.
    """
    cumulated = torch.softmax(scores, dim=-1).cumsum(dim=-1)  # (B, V)
    threshold = uniform[:, None] * cumulated[:, -1:]  # (B, 1)
    return torch.searchsorted(cumulated, threshold, right=True)[:, 0]


class Drawn:
    """A logits processor that comes last: leaves only the token that its text's own random number draws.

    `draws` (B, W) are the texts' numbers, `start` the tokens before the first that is written.
    """

    def __init__(self, draws: np.ndarray, start: int) -> None:
        self.draws = torch.from_numpy(draws)
        self.start = start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        uniform = self.draws[:, input_ids.shape[1] - self.start].to(scores.device)  # (B,)
        only = torch.full_like(scores, float("-inf"))
        return only.scatter_(1, drawn(scores, uniform)[:, None], 0.0)


def matrix_of(seed: int, indices: Sequence[int], number: int) -> np.ndarray:
    """(B, number): a row of random numbers for each of these prompts."""
    return np.stack([uniforms(seed, index, number) for index in indices])
