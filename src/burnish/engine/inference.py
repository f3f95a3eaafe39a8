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
from burnish.engine import generation as writing
from burnish.engine.batches import Budget, micro_batches
from burnish.engine.runtime import Runtime, is_out_of_memory, undisturbed

# Without gradients a position costs a small part of the memory it costs in training.
WIDER = 4
EVALUATION: Key = (0,)

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
        """What the model writes after each prompt, in the prompts' own order."""
        if not prompts:
            return []
        lengths = [len(prompt) + generation.max_new_tokens for prompt in prompts]
        groups = micro_batches(lengths, Budget(self.budget.size * WIDER // generation.beams or 1))

        def write(group: list[int]) -> list[Written]:
            self.runtime.seed(generation.seed, group[0])
            with self.runtime.autocast():
                return writing.write(self.model, [prompts[index] for index in group], generation, self.runtime.device, self.check)

        with undisturbed(self.model):
            return in_order(self.through(groups, write, "texts written"), len(prompts))

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
