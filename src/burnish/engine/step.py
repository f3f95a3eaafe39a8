"""One optimizer update over a global batch, however it is cut.

loss = sum over all examples of the batch of their losses / weight of the batch, where the weight counts supervised units.
Each micro-batch contributes its own sum divided by the *global* weight, so that 8x1 = 4x2 = 2x4 = 1x8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from burnish.core.errors import NonFiniteError, listing
from burnish.core.protocols import Batch, Key, Objective, Technique
from burnish.engine.batches import Budget, micro_batches
from burnish.engine.memory import uncaching
from burnish.engine.runtime import Runtime, is_out_of_memory
from burnish.engine.update import Update

SHOWN = 8


@dataclass
class Outcome:
    """What a step did: the loss of the data and what penalties added to it, the gradient norm before clipping, the learning rate,
    and what went through the model."""

    loss: float
    grad_norm: float
    lr: float
    examples: int
    tokens: int
    slots: int
    penalty: float = 0.0


Prepared = tuple[Any, Sequence[int]]
"""Examples, and which of them make the step."""

Passing = Callable[[Batch, Sequence[int], Key], AbstractContextManager[object]]
"""Entered around forward and backward of a micro-batch, with the positions of its examples in the global batch, and (seed, step)."""


def unseen(batch: Batch, slots: Sequence[int], key: Key) -> AbstractContextManager[object]:
    """Nobody asks what goes through the model."""
    return nullcontext()


@dataclass
class Step:
    """Forward, backward, clip, update.

    `techniques` take part in every step; `prepare` makes the examples of a step where they are not those that were encoded (rows
    augmented anew), one for each of its indices. `update` is how gradients move weights; within `keeping`, a forward pass keeps what
    backward needs; `passing` is told what goes through the model. `place` names an example for messages; `note` takes a sentence for the user.
    """

    model: torch.nn.Module
    objective: Objective
    examples: Any
    optimizer: torch.optim.Optimizer
    runtime: Runtime
    budget: Budget
    max_grad_norm: float | None = None
    seed: int = 0
    techniques: Sequence[Technique] = ()
    prepare: Callable[[Sequence[int], int], Prepared] | None = None
    update: Update | None = None
    keeping: Callable[[], AbstractContextManager[object]] = nullcontext
    passing: Passing = unseen
    place: Callable[[int], str] = str
    note: Callable[[str], None] = lambda message: None
    mover: Update = field(init=False)

    def __post_init__(self) -> None:
        self.mover = self.update or Update(self.optimizer)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return self.mover.parameters

    def __call__(self, indices: Sequence[int], step: int, factor: float) -> Outcome:
        """Update number `step` (from 0) over the examples `indices`, at `factor` times the peak learning rate.

        Raises NonFiniteError, before any weight has moved, where loss or gradient is NaN or infinite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        for technique in self.techniques:
            technique.before(step)
        self.mover.begin(step)
        outcome = self.accumulated(indices, step)
        if overflow := self.mover.overflowed():
            self.note(f"step {step + 1}: {overflow}")
            outcome.grad_norm = math.inf
            return outcome
        outcome.penalty = sum(technique.differentiated() for technique in self.techniques)
        outcome.grad_norm = self.clip()
        if not math.isfinite(outcome.grad_norm):
            self.refuse("gradient", outcome.grad_norm, step, indices)
        self.mover.move()
        for technique in self.techniques:
            technique.updated(step)
        self.optimizer.zero_grad(set_to_none=True)
        return outcome

    def accumulated(self, indices: Sequence[int], step: int) -> Outcome:
        """The gradient of the whole batch; where memory runs out, the same again in smaller micro-batches."""
        prepared = self.prepare(indices, step) if self.prepare else (self.examples, indices)
        while True:
            try:
                return self.attempt(indices, prepared, step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self.mover.again()
            self.runtime.release()
            smaller = self.budget.halved(lengths_of(prepared))
            if smaller is None:
                raise MemoryError(
                    f"Out of memory at step {step + 1} with a single example in the model. "
                    "Set a smaller data.max_length, a smaller model, or method=lora."
                )
            self.budget = smaller
            self.note(f"out of memory at step {step + 1}: going on with micro-batches of {smaller}; the mathematics is the same")

    def attempt(self, indices: Sequence[int], prepared: Prepared, step: int) -> Outcome:
        """One pass over the batch; `indices` are what its examples are called."""
        examples, chosen = prepared
        self.runtime.seed(self.seed, step)
        self.model.train()
        outcome = Outcome(0.0, 0.0, self.optimizer.param_groups[0]["lr"], len(indices), 0, 0)
        groups = micro_batches(lengths_of(prepared), self.budget)
        key = (self.seed, step)
        batches = [self.objective.collate(examples, [chosen[position] for position in group], key) for group in groups]
        weight = sum(batch.weight for batch in batches)
        if weight == 0:
            self.refuse("number of supervised units", 0, step, indices)
        for batch, group in zip(batches, groups, strict=True):
            with self.passing(batch, group, key):
                batch = self.runtime.place(batch)
                with self.runtime.autocast(), self.keeping(), uncaching(self.model):
                    losses = self.objective.losses(self.model, batch)  # (B,)
                finite = torch.isfinite(losses)
                if not finite.all():
                    bad = [indices[position] for position, good in zip(group, finite.tolist(), strict=True) if not good]
                    self.refuse("loss", losses.sum().item(), step, bad)
                loss = losses.sum() / weight
                self.mover.backward(loss)
            outcome.loss += loss.item()
            outcome.tokens += batch.tokens
            outcome.slots += batch.slots
        return outcome

    def clip(self) -> float:
        """The norm of the gradient, which is then scaled down to `max_grad_norm` where it is longer."""
        return self.mover.clip(self.max_grad_norm)

    def refuse(self, what: str, value: float, step: int, indices: Sequence[int]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        title = f"The {what} became {value} at step {step + 1}; the weights were not touched. Examples in it:"
        advice = "Look at these rows; try a lower optimizer.lr, a longer schedule.warmup, or precision fp32."
        raise NonFiniteError(listing(title, [self.place(index) for index in indices], SHOWN) + "\n" + advice)


def lengths_of(prepared: Prepared) -> list[int]:
    examples, chosen = prepared
    return [int(examples.lengths[index]) for index in chosen]
