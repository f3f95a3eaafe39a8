"""Runs the model over a whole part of the data without touching its training: sorted by length, no gradients, order restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from burnish.core.generation import Generation
from burnish.core.protocols import Batch, Key, Objective, Written
from burnish.engine.batches import Budget, micro_batches
from burnish.engine.generation import Refilled, decoder_of, write
from burnish.engine.runtime import Runtime, is_out_of_memory, undisturbed

# Without gradients a position costs a small part of the memory it costs in training.
WIDER = 4
EVALUATION: Key = (0,)
WRITTEN = "texts written"

Found = TypeVar("Found")


@dataclass
class Engine:
    """A model for a task to use (`core.protocols.Inference`).

    `check` is called often and may raise (a request to stop); `tell` hears what is done, how far it is, and of how much.
    `passing` is entered around a batch that goes through the model, with its examples' places in it and what draws depend on.
    """

    model: torch.nn.Module
    objective: Objective
    runtime: Runtime
    check: Callable[[], None] = lambda: None
    tell: Callable[[str, int, int], None] = lambda what, done, total: None
    passing: Callable[[Batch, Sequence[int], Key], AbstractContextManager[object]] = lambda batch, slots, key: nullcontext()

    @property
    def budget(self) -> Budget:
        return Budget(self.runtime.budget.size * WIDER)

    def outputs(self, examples: Any) -> list[np.ndarray]:
        """The outputs of every example, in the examples' own order."""
        groups = micro_batches([int(length) for length in examples.lengths], self.budget)

        def forward(group: list[int]) -> list[np.ndarray]:
            batch = self.runtime.place(self.objective.collate(examples, group, EVALUATION))
            with self.runtime.autocast(), self.passing(batch, range(len(group)), EVALUATION):
                return on_host(self.objective.outputs(self.model, batch))

        with undisturbed(self.model):
            return in_order(self.through(groups, forward, "examples read"), len(examples))

    def generate(self, prompts: Sequence[Sequence[int]], generation: Generation) -> list[Written]:
        """What the model writes after each prompt, in the prompts' own order.

        Drawn tokens are a function of the seed, the prompt and its number, not of what else is written (but in beam search).
        """
        if not prompts:
            return []
        room = Budget(self.budget.size * WIDER // generation.beams or 1)
        with undisturbed(self.model), self.runtime.autocast():
            decoder = decoder_of(self.model, generation)
            if decoder is not None:
                return self.refill(Refilled(decoder, prompts, generation, self.runtime.device, room, self.budget), len(prompts))
            return self.in_groups(prompts, generation, room)

    def in_groups(self, prompts: Sequence[Sequence[int]], generation: Generation, room: Budget) -> list[Written]:
        """Prompts of like length together, until the longest text of each group ends."""

        def work(group: list[int]) -> list[Written]:
            self.runtime.seed(generation.seed, group[0])
            return write(self.model, [prompts[index] for index in group], generation, self.runtime.device, self.check, group)

        groups = micro_batches([len(prompt) + generation.max_new_tokens for prompt in prompts], room)
        return in_order(self.through(groups, work, WRITTEN), len(prompts))

    def refill(self, texts: Refilled, total: int) -> list[Written]:
        """Every text, each place given on as it ends; where memory runs out, the same with half as many at a time."""
        found: dict[int, Written] = {}
        self.tell(WRITTEN, 0, total)
        while texts.busy:
            self.check()
            try:
                over = texts.step()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or not texts.halve():
                    raise
                over = None
            if over is None:
                self.runtime.release()
            elif over:
                found.update((text.index, text.written) for text in over)
                self.tell(WRITTEN, len(found), total)
        return [found[index] for index in range(total)]

    def through(
        self, groups: list[list[int]], work: Callable[[list[int]], Sequence[Found]], what: str
    ) -> Iterator[tuple[list[int], Sequence[Found]]]:
        """Each group and what `work` found of it; where memory runs out, the same again in halves."""
        waiting, done, total = list(groups), 0, sum(map(len, groups))
        while waiting:
            group = waiting.pop(0)
            self.check()
            self.tell(what, done, total)
            try:
                found = work(group)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(group) == 1:
                    raise
                found = None
            if found is None:
                self.runtime.release()
                waiting[:0] = [group[: len(group) // 2], group[len(group) // 2 :]]
                continue
            done += len(group)
            yield group, found
        self.tell(what, done, total)


def in_order(found: Iterator[tuple[list[int], Sequence[Found]]], total: int) -> list[Found]:
    by_index = {index: value for group, values in found for index, value in zip(group, values, strict=True)}
    return [by_index[index] for index in range(total)]


def on_host(values: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """One array an example; a whole tensor is copied at once."""
    if isinstance(values, torch.Tensor):
        return list(values.float().cpu().numpy())
    return [value.float().cpu().numpy() for value in values]
