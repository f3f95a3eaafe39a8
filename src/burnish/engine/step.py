"""One optimizer update over a global batch, however it is cut.

loss = sum over all examples of the batch of their losses / weight of the batch, where the weight counts supervised units.
Each micro-batch contributes its own sum divided by the *global* weight, so that 8x1 = 4x2 = 2x4 = 1x8.

Nothing here waits for a GPU but what has to be known before weights move: losses and gradient norm, read once, when all is under way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from burnish.core.errors import NonFiniteError, listing
from burnish.core.modes import Training
from burnish.core.protocols import Batch, Key, Objective, Technique
from burnish.engine.ahead import Ahead, Preparation, Prepared, Rewrite, Upcoming
from burnish.engine.batches import Budget
from burnish.engine.memory import caching, uncached_by
from burnish.engine.runtime import Runtime, is_out_of_memory
from burnish.engine.update import Update

SHOWN = 8

Passing = Callable[[Batch, Sequence[int], Key], AbstractContextManager[object]]
"""Entered around forward and backward of a micro-batch, with the positions of its examples in the global batch, and (seed, step)."""


def unseen(batch: Batch, slots: Sequence[int], key: Key) -> AbstractContextManager[object]:
    """Nobody asks what goes through the model."""
    return nullcontext()


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
    block_norms: Sequence[float] = ()
    """The gradient norm by place in the model, from embeddings up to the head, where it was asked for."""


@dataclass
class Accumulated:
    """What went through the model while the gradient of a batch was added up. `losses` stay where they were computed until they are read.

    `indices` are what the examples are called, `order` their positions in the batch as they went through, `weight` their supervised units.
    """

    indices: Sequence[int]
    weight: float
    order: list[int] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    tokens: int = 0
    slots: int = 0

    @property
    def examples(self) -> int:
        return len(self.indices)

    @property
    def values(self) -> list[float]:
        """The loss of each example, in nats, as they went through: reading them waits for a GPU."""
        return torch.cat(self.losses).tolist()

    @property
    def loss(self) -> float:
        """The loss of the batch, in nats per unit."""
        return sum(self.values) / self.weight


@dataclass
class Step:
    """Forward, backward, clip, update.

    `techniques` take part in every step; `prepare` makes the examples of a step where they are not those that were encoded (rows
    augmented anew), one for each of its indices. Where `upcoming` says which examples come next, their batches are made meanwhile, in
    a thread. `update` is how gradients move weights; within `keeping`, a forward pass keeps what backward needs; `passing` is told what
    goes through the model. `place` names an example for messages; `note` takes a sentence for the user.
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
    prepare: Rewrite | None = None
    upcoming: Upcoming | None = None
    update: Update | None = None
    keeping: Callable[[], AbstractContextManager[object]] = nullcontext
    passing: Passing = unseen
    place: Callable[[int], str] = str
    note: Callable[[str], None] = lambda message: None
    mover: Update = field(init=False)
    preparation: Preparation = field(init=False)
    ahead: Ahead = field(init=False)
    mode: Training = field(init=False)
    configs: Sequence[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.mover = self.update or Update(self.optimizer)
        self.preparation = Preparation(self.objective, self.examples, self.seed, self.runtime.pin, self.prepare)
        self.ahead = Ahead(self.preparation)
        self.mode, self.configs = Training(self.model), caching(self.model)

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
        try:
            return self.moved(self.accumulated(indices, step), step)
        finally:
            self.ahead.rest()

    def moved(self, passed: Accumulated, step: int) -> Outcome:
        """The update, now that the gradient of the batch is there."""
        overflow = self.mover.overflowed()
        penalty = 0.0 if overflow else sum(technique.differentiated() for technique in self.techniques)
        norm = math.inf if overflow else self.clip()
        loss = self.finite_loss(passed, step)  # read after the norm: whoever waits for a GPU, waits once
        lr = self.optimizer.param_groups[0]["lr"]
        blocks = () if overflow else tuple(self.mover.by_place)
        outcome = Outcome(loss, norm, lr, passed.examples, passed.tokens, passed.slots, penalty, blocks)
        if overflow:
            self.note(f"step {step + 1}: {overflow}")
            return outcome
        if not math.isfinite(norm):
            self.refuse("gradient", norm, step, passed.indices)
        self.mover.move()
        for technique in self.techniques:
            technique.updated(step)
        self.optimizer.zero_grad(set_to_none=True)
        return outcome

    def accumulated(self, indices: Sequence[int], step: int) -> Accumulated:
        """The gradient of the whole batch; where memory runs out, the same again in smaller micro-batches."""
        prepared = self.ahead.take(step, indices, self.budget)
        while True:
            try:
                return self.attempt(prepared)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self.mover.again()
            self.runtime.release()
            smaller = self.budget.halved(prepared.lengths)
            if smaller is None:
                raise MemoryError(
                    f"Out of memory at step {step + 1} with a single example in the model. "
                    "Set a smaller data.max_length, a smaller model, or method=lora."
                )
            self.budget = smaller
            self.note(f"out of memory at step {step + 1}: going on with micro-batches of {smaller}; the mathematics is the same")
            prepared = self.preparation.again(prepared, smaller)

    def attempt(self, prepared: Prepared) -> Accumulated:
        """One pass over the batch."""
        step, key = prepared.step, (self.seed, prepared.step)
        passed = Accumulated(prepared.indices, sum(batch.weight for batch in prepared.batches))
        if passed.weight == 0:
            self.refuse("number of supervised units", 0, step, prepared.indices)
        self.runtime.seed(*key)
        self.mode.set()
        with uncached_by(self.configs):
            for batch, group in zip(prepared.batches, prepared.groups, strict=True):
                with self.passing(batch, group, key):
                    batch = self.runtime.place(batch)
                    with self.runtime.autocast(), self.keeping():
                        losses = self.objective.losses(self.model, batch)  # (B,)
                    passed.order += group
                    passed.losses.append(losses.detach())
                    passed.tokens += batch.tokens
                    passed.slots += batch.slots
                    if self.mover.moves_within:
                        self.finite_loss(passed, step)
                    if self.upcoming:
                        self.ahead.begin(step + 1, self.upcoming, self.budget)
                    self.mover.backward(losses.sum() / passed.weight)
        return passed

    def clip(self) -> float:
        """The norm of the gradient, which is then scaled down to `max_grad_norm` where it is longer."""
        return self.mover.clip(self.max_grad_norm)

    def finite_loss(self, passed: Accumulated, step: int) -> float:
        """The loss of the batch. Raises NonFiniteError, with the examples that made it so, where it is NaN or infinite."""
        values = passed.values
        bad = [passed.indices[position] for position, value in zip(passed.order, values, strict=True) if not math.isfinite(value)]
        if bad:
            self.refuse("loss", sum(values), step, bad)
        return sum(values) / passed.weight

    def refuse(self, what: str, value: float, step: int, indices: Sequence[int]) -> None:
        """Raises NonFiniteError; the gradient is let go."""
        self.optimizer.zero_grad(set_to_none=True)
        title = f"The {what} became {value} at step {step + 1}; the weights were not touched. Examples in it:"
        advice = "Look at these rows; try a lower optimizer.lr, a longer schedule.warmup, or precision fp32."
        raise NonFiniteError(listing(title, [self.place(index) for index in indices], SHOWN) + "\n" + advice)
