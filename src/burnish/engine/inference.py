"""Runs the model over a whole part of the data without touching its training: sorted by length, no gradients, order restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from burnish.core.protocols import Learner
from burnish.engine.batches import Budget, micro_batches
from burnish.engine.runtime import Runtime, is_out_of_memory, undisturbed

# Without gradients a position costs a small part of the memory it costs in training.
WIDER = 4


def outputs(
    model: torch.nn.Module,
    learner: Learner,
    examples: Any,
    runtime: Runtime,
    check: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """(N, C) outputs of every example, in the examples' own order; `check` is called with the examples done so far."""
    lengths = [int(length) for length in examples.lengths]
    budget = Budget(runtime.budget.size * WIDER)
    waiting, done = micro_batches(lengths, budget), 0
    found: dict[int, np.ndarray] = {}
    with undisturbed(model):
        while waiting:
            group = waiting.pop(0)
            check(done)
            try:
                values = forward(model, learner, examples, group, runtime)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(group) == 1:
                    raise
                values = None
            if values is None:
                runtime.release()
                waiting[:0] = [group[: len(group) // 2], group[len(group) // 2 :]]
                continue
            found.update(zip(group, values, strict=True))
            done += len(group)
    return np.stack([found[index] for index in range(len(lengths))])


def forward(model: torch.nn.Module, learner: Learner, examples: Any, group: list[int], runtime: Runtime) -> np.ndarray:
    batch = runtime.place(learner.collate(examples, group))
    with runtime.autocast():
        return learner.outputs(model, batch).float().cpu().numpy()  # (B, C)
