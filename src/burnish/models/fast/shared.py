"""Tokens that examples of a micro-batch begin with in common, computed once: the prompt of n samples, of a preferred and a rejected answer.

In a causal model what a token becomes depends on itself and on the tokens before it. Where an example begins as the one before it does,
those tokens are rows of that one alone, their owner. Its keys and values are spread to all that share them, and their gradients are
summed. Without dropout that equals the computation of every example by itself, to rounding. With it a shared token is dropped as its
owner's, so that the samples of a prompt see one and the same mask on it: each of them has the distribution that it has alone, but not
the numbers, and to cut such examples apart draws other ones.

Legend: B examples, M tokens of all, N rows that are computed, L tokens of an example, l rows of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Prefixes:
    """Of each example its `lengths` L and how many of its first tokens are the `shared` ones of the example before it.

    That example's may be shared in turn: [0, 30, 30, 30] are four samples of a prompt of 30 tokens, which the first one owns.
    """

    lengths: Sequence[int]
    shared: Sequence[int]
    device: torch.device

    @cached_property
    def tokens(self) -> torch.Tensor:
        """(M,) the row of each token of every example, shared or not."""
        found: list[torch.Tensor] = []
        first, rows = 0, torch.empty(0, dtype=torch.long)
        for length, common in zip(self.lengths, self.shared, strict=True):
            end = first + length - common
            rows = torch.cat([rows[:common], torch.arange(first, end)])  # (L,)
            found.append(rows)
            first = end
        return torch.cat(found).to(self.device)

    @cached_property
    def own(self) -> torch.Tensor:
        """(N,) where among the M tokens those stand that are rows."""
        sizes = torch.tensor(list(self.lengths))
        firsts = (sizes.cumsum(0) - sizes + torch.tensor(list(self.shared))).repeat_interleave(sizes)
        return (torch.arange(len(firsts)) >= firsts).nonzero()[:, 0].to(self.device)

    def complete(self, rows: torch.Tensor) -> torch.Tensor:
        """(M, ...) of rows (N, ...): every example whole, as if it stood alone."""
        found: torch.Tensor = Completing.apply(rows, self)
        return found

    def summed(self, gradient: torch.Tensor) -> torch.Tensor:
        """(N, ...) of (M, ...): a row gets the sum over all that share it.

        Each example hands its part to the one before it, from the last to the first: unlike scattered additions on a GPU, always in
        the same order, so that a run that is resumed finds the same bits. Sums are of 32 bits at the least.
        """
        whole = gradient.to(torch.promote_types(gradient.dtype, torch.float32), copy=True)
        here = len(whole)
        for example in range(len(self.lengths) - 1, 0, -1):
            here -= self.lengths[example]
            before, common = here - self.lengths[example - 1], self.shared[example]
            if common:
                whole[before : before + common] += whole[here : here + common]
        return whole.index_select(0, self.own).to(gradient.dtype)

    def compare(self, inputs: Mapping[str, Any], source: torch.Tensor, width: int) -> None:
        """Raises ValueError where the inputs (B, T) of shared tokens differ; `source` (N,) are the rows' places in the padded (B T)."""
        sizes = torch.tensor(list(self.lengths))
        real = (torch.arange(width) < sizes[:, None]).flatten().nonzero()[:, 0].to(self.device)  # (M,)
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor) and value.shape == (len(self.lengths), width):
                flat = value.flatten()
                if not torch.equal(flat[real], flat[source][self.tokens]):
                    raise ValueError(f"Batch.shared says that examples begin as the one before them does, but {name} differ there.")


class Completing(torch.autograd.Function):
    """The rows of every token; backward sums over those that share one."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, prefixes: Prefixes) -> torch.Tensor:
        ctx.prefixes = prefixes
        return rows.index_select(0, prefixes.tokens)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.prefixes.summed(gradients[0]), None


def checked(shared: Sequence[int], lengths: Sequence[int], read: torch.Tensor | None) -> list[int]:
    """What `Batch.shared` says of examples of these lengths. Raises ValueError where it cannot be, or where `read` (B, T) is in what is shared.

    What is read has to be an example's own: a row of its owner's would have to answer for several.
    """
    bounds = [min(before, own - 1) for before, own in zip([0, *lengths], lengths, strict=False)]
    if len(shared) != len(lengths) or not all(0 <= one <= bound for one, bound in zip(shared, bounds, strict=True)):
        raise ValueError(
            f"Batch.shared is {list(shared)} for examples of {list(lengths)} tokens: each shares tokens with the one before it "
            "(the first with none), and has at least one of its own."
        )
    if read is not None and (early := read.cpu() & (torch.arange(read.shape[1]) < torch.tensor(list(shared))[:, None])).any():
        example, position = early.nonzero()[0].tolist()
        raise ValueError(
            f"Batch.read marks position {position} of example {example}, which shares its first {shared[example]} tokens with the one "
            "before it. Share only what stands before the first position that is read (core.prefixes.shared_prefixes does)."
        )
    return list(shared)
