"""One optimizer update over a global batch, however it is cut.

loss = sum over all examples of the batch of their losses / weight of the batch, where the weight counts supervised units.
Each micro-batch contributes its own sum divided by the *global* weight, so that 8x1 = 4x2 = 2x4 = 1x8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from burnish.core.errors import NonFiniteError, listing
from burnish.core.protocols import Objective
from burnish.engine.batches import Budget, micro_batches
from burnish.engine.runtime import Runtime, is_out_of_memory

SHOWN = 8


@dataclass
class Outcome:
    """What a step did: loss and gradient norm before clipping, the learning rate, and what went through the model."""

    loss: float
    grad_norm: float
    lr: float
    examples: int
    tokens: int
    slots: int


@dataclass
class Step:
    """Forward, backward, clip, update. `place` names an example for messages; `note` takes a sentence for the user."""

    model: torch.nn.Module
    objective: Objective
    examples: Any
    optimizer: torch.optim.Optimizer
    runtime: Runtime
    budget: Budget
    max_grad_norm: float | None = None
    seed: int = 0
    place: Callable[[int], str] = str
    note: Callable[[str], None] = lambda message: None
    parameters: list[torch.nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def __call__(self, indices: Sequence[int], step: int, factor: float) -> Outcome:
        """Update number `step` (from 0) over the examples `indices`, at `factor` times the peak learning rate.

        Raises NonFiniteError, before any weight has moved, where loss or gradient is NaN or infinite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        outcome = self.accumulated(indices, step)
        outcome.grad_norm = self.clip()
        if not math.isfinite(outcome.grad_norm):
            self.refuse("gradient", outcome.grad_norm, step, indices)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return outcome

    def accumulated(self, indices: Sequence[int], step: int) -> Outcome:
        """The gradient of the whole batch; where memory runs out, the same again in smaller micro-batches."""
        while True:
            try:
                return self.attempt(indices, step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            self.runtime.release()
            smaller = self.budget.halved([int(self.examples.lengths[index]) for index in indices])
            if smaller is None:
                raise MemoryError(
                    f"Out of memory at step {step + 1} with a single example in the model. "
                    "Set a smaller data.max_length, a smaller model, or method=lora."
                )
            self.budget = smaller
            self.note(f"out of memory at step {step + 1}: going on with micro-batches of {smaller}; the mathematics is the same")

    def attempt(self, indices: Sequence[int], step: int) -> Outcome:
        self.runtime.seed(self.seed, step)
        self.model.train()
        outcome = Outcome(0.0, 0.0, self.optimizer.param_groups[0]["lr"], len(indices), 0, 0)
        groups = micro_batches([int(self.examples.lengths[index]) for index in indices], self.budget)
        key = (self.seed, step)
        batches = [self.objective.collate(self.examples, [indices[position] for position in group], key) for group in groups]
        weight = sum(batch.weight for batch in batches)
        if weight == 0:
            self.refuse("number of supervised units", 0, step, indices)
        for batch in batches:
            batch = self.runtime.place(batch)
            with self.runtime.autocast():
                losses = self.objective.losses(self.model, batch)  # (B,)
            finite = torch.isfinite(losses)
            if not finite.all():
                bad = [index for index, good in zip(batch.examples, finite.tolist(), strict=True) if not good]
                self.refuse("loss", losses.sum().item(), step, bad)
            loss = losses.sum() / weight
            loss.backward()
            outcome.loss += loss.item()
            outcome.tokens += batch.tokens
            outcome.slots += batch.slots
        return outcome

    def clip(self) -> float:
        """The norm of the gradient, which is then scaled down to `max_grad_norm` where it is longer."""
        limit = math.inf if self.max_grad_norm is None else self.max_grad_norm
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if math.isfinite(norm) and norm > limit:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return float(norm)

    def refuse(self, what: str, value: float, step: int, indices: Sequence[int]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        title = f"The {what} became {value} at step {step + 1}; the weights were not touched. Examples in it:"
        advice = "Look at these rows; try a lower optimizer.lr, a longer schedule.warmup, or precision fp32."
        raise NonFiniteError(listing(title, [self.place(index) for index in indices], SHOWN) + "\n" + advice)
