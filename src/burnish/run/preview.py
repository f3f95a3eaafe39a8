"""The time of a recipe's run, foretold without a run: its parts are built as training builds them, rehearsed, and thrown away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from burnish import build
from burnish.core.errors import BurnishError, ModelError
from burnish.core.protocols import Course
from burnish.engine.batches import Order
from burnish.engine.events import Listener, Noted, Working
from burnish.engine.progress import Plan
from burnish.engine.step import Step
from burnish.models.fast.store import free_memory
from burnish.models.frozen import frozen_blocks
from burnish.plan import flops
from burnish.plan.elsewhere import forecast_on
from burnish.plan.machines import Machine
from burnish.plan.time import Forecast
from burnish.plan.work import Work
from burnish.recipe import Recipe
from burnish.run.clock import since_start
from burnish.run.drawing import upcoming
from burnish.run.floor import seconds_beside
from burnish.run.forecasting import foretell, network_of, rates_of
from burnish.run.rehearsal import SQUARE, Stage, probe
from burnish.run.savings import read_share
from burnish.run.stepping import make_step

ENOUGH = 512
"""Examples that go through frozen blocks to see how long all would take."""

SHARE = 0.5
"""Of the free memory that a model may take to be tried."""

REACHED = 0.55
"""Share of the rate of large products that steps reach on a CPU (0.58 for a model of 22M parameters, on one core)."""


def preview(recipe: Recipe, listeners: Sequence[Listener] = (), start: float | None = None) -> Forecast:
    """The time of a whole run on this machine, libraries and loading included. `start` is what the libraries took, where that was measured.

    Raises BurnishError where training would, and where the model does not fit into the memory that is free.
    """
    began = time.monotonic()
    start = since_start() if start is None else start
    built = Built.of(recipe, listeners)
    loading = time.monotonic() - began + built.later
    with tempfile.TemporaryDirectory(prefix="burnish-plan-") as folder:
        parts, order = built.parts, built.order
        stage = Stage(parts, built.step, order, network_of(parts), read_share(parts, order), Path(folder))
        rates, age = rates_of(stage, built.plan)
        cold = seconds_beside(recipe).get("loading", 0.0)  # what planning has loaded by now, a run has yet to load
        return foretell(stage, built.plan, rates, {"start": start, "loading": loading + cold}, age)


@dataclass
class Built:
    """A run that is built; `later` are seconds that building took less than it will, because only some examples went through frozen blocks."""

    parts: build.Parts
    step: Step
    order: Order
    plan: Plan
    later: float

    @classmethod
    def of(cls, recipe: Recipe, listeners: Sequence[Listener]) -> Built:
        def tell(what: str, done: int, total: int) -> None:
            for listener in listeners:
                listener(Working(what, done, total))

        def note(message: str) -> None:
            for listener in listeners:
                listener(Noted(message))

        parts = build.assemble(recipe, build.gather(recipe), note, tell)
        build.call_teacher(parts, note, tell)
        settings, whole = parts.recipe.train, build.order(parts)
        plan = Plan(
            settings.duration,
            settings.evaluate_every,
            settings.save_every,
            whole.steps_per_epoch,
            parts.recipe.schedule,
            "validation" in parts.examples,
            settings.patience,
        )
        order, share = shortened(parts, whole)
        began = time.monotonic()
        step = make_step(parts, Course(whole.steps_per_epoch, plan.total_steps), tell)
        later = (time.monotonic() - began) * (1 / share - 1)
        step.upcoming = upcoming(parts.recipe, order)
        return cls(parts, step, order, plan, later)


def shortened(parts: build.Parts, order: Order) -> tuple[Order, float]:
    """The order of the first examples alone, which are then all that the parts hold, and their share of all tokens: where frozen blocks
    are computed ahead and there are many. Else the order as it is."""
    examples = parts.examples["train"]
    if not parts.recipe.engine.savings.frozen_prefix or not frozen_blocks(parts.model, parts.anatomy) or len(examples) <= ENOUGH:
        return order, 1.0
    steps = range(max(1, ENOUGH // order.batch_size))
    chosen = list(dict.fromkeys(index for step in steps for index in order.batch(step)))
    tokens = int(examples.lengths.sum())
    parts.examples["train"] = some = examples.taken(chosen)
    return Order(len(some), order.batch_size, order.seed, arrange=as_they_stand), int(some.lengths.sum()) / max(tokens, 1)


def as_they_stand(drawn: np.ndarray, epoch: int) -> np.ndarray:
    return np.sort(drawn)


def tried(recipe: Recipe, work: Work, start: float, listeners: Sequence[Listener] = ()) -> Forecast | None:
    """The time of a run on this machine: tried, or, where the model is too large for that or its weights are not here, by its operations
    and how fast this machine multiplies large matrices."""
    needed = work.weights.held + work.weights.gradients
    try:
        if needed > SHARE * free_memory():
            raise ModelError(f"a model of {needed / 1e9:.1f} GB with its gradients is too large to be tried here")
        return preview(recipe, listeners, start)
    except (BurnishError, OSError, ValueError, RuntimeError) as error:
        for listener in listeners:
            listener(Noted(f"time is told by operations alone, for no step could be tried: {error}"))
    return forecast_on(work, Machine("this machine", 1, 0, "cpu", bf16=rate(), fp32=rate()), REACHED)


def rate() -> float:
    """Operations a second of products of matrices, as this machine is now."""
    return flops.PRODUCT * SQUARE**3 / probe()
