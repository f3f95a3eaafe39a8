"""A head and what is made of its logits, whose gradient is computed along with them: nothing is kept, and nothing computed again.

What leaves a chunk of rows is one number each, and what comes back to it in backward is one slope each. Where all slopes are the same (a
sum or a mean over rows, which every loss ends in), the gradient is the one that a slope of 1 gives, times that slope: so it is computed
at once, while the chunk's logits are there, and only multiplied in backward. That spares the second forward of the head that chunks
recomputed in backward cost; where slopes differ after all, that is what is done. Hsu et al. 2024, "Liger Kernel", arXiv:2410.10989, section 3.2.

Legend: S rows, s rows of a chunk, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.autograd.function import once_differentiable

Score = Callable[[torch.Tensor, slice], torch.Tensor]
"""Rows (s, D) and where they stand among all -> (s,): a number of each."""


def scored(score: Score, hidden: torch.Tensor, rows: int) -> torch.Tensor:
    """(S,) the scores of `hidden` (S, D), `rows` of them at a time, with a gradient for `hidden` and for whatever `score` learns by."""
    surroundings = Surroundings(hidden.device)
    with surroundings.restored():
        learned = leaves(score(hidden[:1].detach(), slice(0, 1)))
    found: torch.Tensor = Fused.apply(score, rows, learned, surroundings, hidden, *learned)
    return found


def leaves(value: torch.Tensor) -> list[torch.Tensor]:
    """The parameters that a value was computed of."""
    waiting, seen, found = [value.grad_fn], set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.append(variable)
        waiting += [following for following, _ in node.next_functions]
    return found


class Fused(torch.autograd.Function):
    """Scores of all rows, and the gradient of their sum."""

    @staticmethod
    def forward(
        ctx: Any,
        score: Score,
        rows: int,
        learned: Sequence[torch.Tensor],
        surroundings: Surroundings,
        hidden: torch.Tensor,
        *_: torch.Tensor,
    ) -> torch.Tensor:
        ctx.again, ctx.slopes = (score, rows, learned, hidden.detach(), surroundings), None
        if surroundings.narrow:
            return torch.cat([score(hidden[start : start + rows], slice(start, start + rows)) for start in range(0, len(hidden), rows)])
        values, ctx.slopes = together(score, rows, learned, hidden.detach(), None)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slopes, ctx.slopes = ctx.slopes, None
        same = upstream.flatten()[0]
        if slopes is not None and bool((upstream == same).all()):
            return None, None, None, None, *(slope if slope is None else slope.mul_(same) for slope in slopes)
        score, rows, learned, hidden, surroundings = ctx.again
        with surroundings.restored():
            return None, None, None, None, *together(score, rows, learned, hidden, upstream)[1]


def together(
    score: Score, rows: int, learned: Sequence[torch.Tensor], hidden: torch.Tensor, upstream: torch.Tensor | None
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """(S,) scores, and the gradients of `hidden` and of what is `learned`, for the slopes `upstream` (S,) or for 1 each."""
    values, own, sums = [], torch.empty_like(hidden), Sums(learned)
    before = NOW.set(sums)
    try:
        for start in range(0, len(hidden), rows):
            place = slice(start, start + rows)
            with torch.enable_grad():
                piece = hidden[place].requires_grad_()
                found = score(piece, place)
                total = found.sum() if upstream is None else (found * upstream[place]).sum()
                own[place], *rest = torch.autograd.grad(total, [piece, *learned], allow_unused=True)
            sums.add(rest)
            values.append(found.detach())
    finally:
        NOW.reset(before)
    return torch.cat(values), [own, *sums.found]


class Sums:
    """The gradients of some weights, chunk by chunk.

    A layer that says that it will `take` a weight adds that weight's gradient by itself, in place, and keeps it from autograd, which
    would make a whole gradient for each chunk.
    """

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        self.places = {id(weight): place for place, weight in enumerate(weights)}
        self.found: list[torch.Tensor | None] = [None] * len(weights)

    def take(self, weight: torch.Tensor) -> bool:
        return id(weight) in self.places

    def add_product(self, weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
        """`left` (s, E) and `right` (s, D) -> left^T right (E, D), added."""
        place = self.places[id(weight)]
        whole = self.found[place]
        self.found[place] = left.t() @ right if whole is None else whole.addmm_(left.t(), right)

    def add(self, parts: Sequence[torch.Tensor | None]) -> None:
        """The gradients of a chunk that autograd has found, one for each weight."""
        for place, part in enumerate(parts):
            whole = self.found[place]
            if part is not None:
                self.found[place] = part if whole is None else whole.add_(part)


NOW: ContextVar[Sums | None] = ContextVar("sums", default=None)


def summing() -> Sums | None:
    """The sums to which the chunk that is being computed belongs."""
    return NOW.get()


class Surroundings:
    """What decides, beside its inputs, what a computation gives: number formats of autocast, and torch's generators.

    `narrow` says that slopes are rounded to fp16: those of a loss that is not scaled yet would be lost, and wait for backward.
    """

    def __init__(self, device: torch.device) -> None:
        self.kind = device.type
        self.autocast = torch.is_autocast_enabled(self.kind), torch.get_autocast_dtype(self.kind)
        self.devices = [device.index or 0] if self.kind == "cuda" else []
        self.narrow = self.autocast == (True, torch.float16)
        self.states = torch.get_rng_state(), [torch.cuda.get_rng_state(one) for one in self.devices]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Within, everything is as it was then."""
        enabled, dtype = self.autocast
        with torch.random.fork_rng(self.devices), torch.autocast(self.kind, dtype=dtype, enabled=enabled):
            torch.set_rng_state(self.states[0])
            for one, state in zip(self.devices, self.states[1], strict=True):
                torch.cuda.set_rng_state(state, one)
            yield
