"""The batches of a step, prepared while the step before it computes.

What is prepared is a pure function of (step, examples, budget): the same wherever and whenever it is made. So whatever was prepared for
another batch than the one that comes (memory ran out, and micro-batches are smaller now) is thrown away, and what went wrong while
preparing is tried again in its turn, and goes wrong there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

from burnish.core.protocols import Batch, Objective
from burnish.engine.batches import Budget, micro_batches

Chosen = tuple[Any, Sequence[int]]
"""Examples, and which of them make the step."""

Rewrite = Callable[[Sequence[int], int], Chosen]
"""The indices of a step's examples, and its number -> the examples that are learned from in their place, one for each."""

Upcoming = Callable[[int], Sequence[int]]
"""Step -> the indices of its examples."""


@dataclass(frozen=True)
class Prepared:
    """A global batch, cut. `groups` are the micro-batches as positions in the global batch, whose examples are `lengths` tokens long;
    `indices` are what its examples are called, `chosen` the examples themselves."""

    step: int
    indices: Sequence[int]
    budget: Budget
    chosen: Chosen
    lengths: Sequence[int]
    groups: Sequence[Sequence[int]]
    batches: Sequence[Batch]

    def is_for(self, step: int, indices: Sequence[int], budget: Budget) -> bool:
        return self.step == step and self.budget == budget and list(self.indices) == list(indices)


@dataclass(frozen=True)
class Preparation:
    """How batches are made: rows put in other words (`rewrite`), cut within a budget, collated, and put where a GPU copies from (`pin`).

    Nothing is drawn from generators that others draw from, for it may run beside them.
    """

    objective: Objective
    examples: Any
    seed: int
    pin: Callable[[Batch], Batch]
    rewrite: Rewrite | None = None

    def __call__(self, step: int, indices: Sequence[int], budget: Budget) -> Prepared:
        chosen = self.rewrite(indices, step) if self.rewrite else (self.examples, indices)
        return self.cut(step, indices, budget, chosen)

    def again(self, prepared: Prepared, budget: Budget) -> Prepared:
        """The same batch, cut within another budget."""
        return self.cut(prepared.step, prepared.indices, budget, prepared.chosen)

    def cut(self, step: int, indices: Sequence[int], budget: Budget, chosen: Chosen) -> Prepared:
        examples, places = chosen
        lengths = [int(examples.lengths[place]) for place in places]
        groups, key = micro_batches(lengths, budget), (self.seed, step)
        batches = [self.pin(self.objective.collate(examples, [places[at] for at in group], key)) for group in groups]
        return Prepared(step, indices, budget, chosen, lengths, groups, batches)


class Ahead:
    """One step's batches, made in a thread of their own that lives no longer than the step beside which it works.

    Between `begin` and `rest` somebody computes: evaluations, checkpoints and whoever listens to a run never meet the thread, and none
    is left when a run ends, however it ends.
    """

    def __init__(self, prepare: Callable[[int, Sequence[int], Budget], Prepared]) -> None:
        self.prepare = prepare
        self.ready: Prepared | None = None
        self.thread: Thread | None = None

    def take(self, step: int, indices: Sequence[int], budget: Budget) -> Prepared:
        """The batches of a step: those that are there, if they are of these examples and this budget, else made now."""
        ready, self.ready = self.ready, None
        return ready if ready is not None and ready.is_for(step, indices, budget) else self.prepare(step, indices, budget)

    def begin(self, step: int, upcoming: Upcoming, budget: Budget) -> None:
        """Lets a thread prepare `step`, unless one is at it."""
        if self.thread is None:
            self.thread = Thread(target=self.work, args=(step, upcoming, budget), name="burnish-ahead", daemon=True)
            self.thread.start()

    def work(self, step: int, upcoming: Upcoming, budget: Budget) -> None:
        with suppress(Exception):  # it is met again, and told, when the step is taken
            self.ready = self.prepare(step, upcoming(step), budget)

    def rest(self) -> None:
        """Waits until the thread has ended."""
        thread, self.thread = self.thread, None
        if thread is not None:
            thread.join()
