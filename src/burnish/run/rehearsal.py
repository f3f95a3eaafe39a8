"""Rehearses a run before it begins: some real batches through the model and back, some rows read, some tokens written, and how long it took.

Nothing of it stays. No weight moves (the update is timed on copies of some of them), gradients are let go, generators, modes and buffers
are put back; so a run that was rehearsed is, bit for bit, the run that was not.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from burnish import build
from burnish.core.generation import Generation
from burnish.core.protocols import Inference, Written
from burnish.engine.ahead import Prepared
from burnish.engine.batches import Order, micro_batches
from burnish.engine.inference import Engine
from burnish.engine.step import Step
from burnish.plan import flops
from burnish.plan.time import Rates
from burnish.run.blueprint import two_sided

SECONDS = 3.0
"""For which steps are rehearsed, at most (but for the first of them): a processor is faster for a moment than it stays."""

STEPS = 8
"""That are rehearsed, after a first one that nobody times."""

LOOKED_AT = 64
"""Steps from which those of ordinary size are chosen."""

SAMPLED = 256
"""Examples whose operations stand for all."""

ROWS = 48
"""That are read, scored, and (some of them) written."""

MOST_COPIED = 2**21
"""Numbers of the weights on copies of which an update is timed."""

FEW, MANY, SHORT, LONG = 2, 16, 1, 12
"""Texts and tokens of the four sizes in which a model is made to write."""

AGAIN = 0.4
"""Seconds within which something is timed a second time, of which the shorter counts: what disturbs a machine only ever adds."""

SQUARE = 384
"""Rows and columns of the matrices by whose product a machine's speed is known."""

BLOB = 2**24
"""Bytes that are written to see how fast the disk is."""

Found = TypeVar("Found")


@dataclass
class Stage:
    """A run that is built, and has not begun: its parts, its step, and what operations it takes."""

    parts: build.Parts
    step: Step
    order: Order
    network: flops.Network
    share: float
    folder: Path

    def operations(self, number: int) -> float:
        """Operations of update `number`."""
        prepared = self.cut(self.order.batch(number))
        return flops.step(self.network, prepared)

    def cut(self, indices: Sequence[int]) -> list[flops.Texts]:
        """The micro-batches of some examples, as operations see them."""
        lengths = [int(self.step.examples.lengths[index]) for index in indices]
        return [self.texts(self.step.examples, [indices[at] for at in group]) for group in micro_batches(lengths, self.step.budget)]

    def texts(self, examples: Any, indices: Sequence[int]) -> flops.Texts:
        """A micro-batch of examples, as operations see it."""
        whole = [int(examples.lengths[index]) for index in indices]
        if not two_sided(self.parts.model):
            return flops.Texts(whole, self.share * sum(whole))
        sources = [int(length) for length in examples.inputs["input_ids"].lengths[list(indices)]]
        own = [both - source for both, source in zip(whole, sources, strict=True)]
        positions = sum(own) if self.network.packed else len(own) * max(own)
        return flops.Texts(own, self.share * positions, sources)

    def reading(self, examples: Any) -> float:
        """Operations of reading all examples once."""
        order = np.argsort(examples.lengths, kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, min(SAMPLED, len(order))).astype(int)]
        return len(order) * float(np.mean([flops.forward(self.network, self.texts(examples, [int(index)])) for index in chosen]))


def rehearse(stage: Stage, rows: Sequence[Any], total_steps: int | None) -> Rates:
    """The rates of a run, measured in a few seconds. `rows` are those that evaluations will read."""
    began = time.monotonic()
    with unchanged(stage.step):
        update, moments = updating(stage)
        operation = stepping(stage, total_steps)
        reading = Reading.of(stage, rows) if rows else Reading()
    return Rates(
        operation=operation,
        update=update,
        reading=reading.operation,
        scoring=reading.scoring,
        first=reading.first,
        **reading.writing(),
        byte=saving(stage.folder),
        moments=moments,
        probe=probe(),
        spent=time.monotonic() - began,
    )


@contextmanager
def unchanged(step: Step) -> Iterator[None]:
    """Afterwards gradients are gone, and generators and buffers as they were."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    python, legacy = random.getstate(), np.random.get_state()
    buffers = {name: buffer.clone() for name, buffer in step.model.named_buffers()}
    modes = {module: module.training for module in step.model.modules()}
    with torch.random.fork_rng(devices=devices), step.mover.resting():
        try:
            yield
        finally:
            step.ahead.rest()
            step.ahead.ready = None
            step.optimizer.zero_grad(set_to_none=True)
            random.setstate(python)
            np.random.set_state(legacy)
            with torch.no_grad():
                for name, buffer in step.model.named_buffers():
                    buffer.copy_(buffers[name])
            for module, mode in modes.items():
                module.training = mode


def stepping(stage: Stage, total_steps: int | None) -> float:
    """Seconds an operation of forward and backward, by batches of ordinary size; a first micro-batch warms up and is not counted.

    Steps are tried whole, for what comes but once in each (new gradients) counts too; where one takes too long, some of its micro-batches.
    """
    step = stage.step
    numbers = ordinary(stage, 1 + (STEPS if total_steps is None else min(STEPS, max(1, total_steps // 8))))
    prepared = step.preparation(numbers[0], stage.order.batch(numbers[0]), step.budget)
    timed(stage, first_of(prepared, 1))
    expected = timed(stage, first_of(prepared, 1)) * stage.operations(numbers[0])
    if expected > 2 * SECONDS:
        return timed(stage, first_of(prepared, max(2, int(len(prepared.groups) * SECONDS / expected))))
    whole, began = list[float](), time.monotonic()
    for number in numbers[1:] or numbers:
        if whole and time.monotonic() - began > SECONDS:
            break
        whole.append(timed(stage, step.preparation(number, stage.order.batch(number), step.budget)))
    return float(np.mean(whole))


def first_of(prepared: Prepared, number: int) -> Prepared:
    """A batch of so many of its micro-batches."""
    return replace(prepared, groups=prepared.groups[:number], batches=prepared.batches[:number])


def timed(stage: Stage, prepared: Prepared) -> float:
    """Seconds an operation that forward and backward of a batch take, the next one being prepared meanwhile where that is so in training."""
    step = stage.step
    started = time.monotonic()
    step.attempt(prepared)
    step.ahead.rest()
    stage.parts.runtime.wait()
    passed = time.monotonic() - started
    step.optimizer.zero_grad(set_to_none=True)
    examples, chosen = prepared.chosen
    return passed / flops.step(stage.network, [stage.texts(examples, [chosen[at] for at in group]) for group in prepared.groups])


def ordinary(stage: Stage, number: int) -> list[int]:
    """The steps, of the first ones of an epoch, whose operations are nearest to the mean of these."""
    looked_at = range(min(stage.order.steps_per_epoch, LOOKED_AT))
    sizes = np.array([stage.operations(step) for step in looked_at])
    return [int(step) for step in np.argsort(np.abs(sizes - sizes.mean()), kind="stable")[:number]]


def mean_operations(stage: Stage) -> float:
    """Operations of an update, on average over the first steps of an epoch."""
    return float(np.mean([stage.operations(step) for step in range(min(stage.order.steps_per_epoch, LOOKED_AT))]))


def updating(stage: Stage) -> tuple[float, float]:
    """Seconds of clipping and moving all weights, and bytes of the optimizer's state for each of theirs: measured on copies of some."""
    step, recipe = stage.step, stage.parts.recipe
    groups = [{**group, "params": [], "names": []} for group in step.optimizer.param_groups]
    pairs = [
        (number, parameter)
        for number, group in enumerate(step.optimizer.param_groups)
        for parameter in group["params"]
        if parameter.requires_grad
    ]
    total = sum(parameter.numel() for _, parameter in pairs)
    if not total:
        return 0.0, 0.0
    every, taken = max(1, round(total / MOST_COPIED)), 0
    for place, (number, parameter) in enumerate(sorted(pairs, key=lambda pair: -pair[1].numel())):
        if place % every == every // 2 or len(pairs) < every:
            copy = torch.nn.Parameter(few(parameter.detach()).clone())
            copy.grad = torch.full_like(copy, 1e-4)
            groups[number]["params"].append(copy)
            groups[number]["names"].append(str(place))
            taken += copy.numel()
    optimizer: Any = recipe.optimizer.build([group for group in groups if group["params"]])
    copies = [copy for group in groups for copy in group["params"]]
    passed = []
    for _ in range(4):
        started = time.monotonic()
        if recipe.train.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(copies, recipe.train.max_grad_norm)
        optimizer.step()
        stage.step.runtime.wait()
        passed.append(time.monotonic() - started)
    state = sum(bytes_of(value) for entries in optimizer.state.values() for value in entries.values())
    return float(np.median(passed[1:])) * total / taken, state / sum(copy.numel() * copy.element_size() for copy in copies)


def few(parameter: torch.Tensor) -> torch.Tensor:
    """The first rows of a parameter, so many that they are no more than are to be copied."""
    rows = max(1, MOST_COPIED // max(1, parameter[0].numel())) if parameter.ndim else 1
    return parameter[:rows] if parameter.ndim else parameter


def bytes_of(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) and value.ndim else 0


def shortest(work: Callable[[], Found], wait: Callable[[], None]) -> tuple[Found, float]:
    """What some work gives, and its seconds: the shorter of two times, where that does not take long."""
    passed = list[float]()
    while True:
        started = time.monotonic()
        found = work()
        wait()
        passed.append(time.monotonic() - started)
        if len(passed) > 1 or passed[0] > AGAIN:
            return found, min(passed)


@dataclass
class Watched:
    """An inference that notes how long the model reads and writes, and gives the same again when it is asked again.

    Of what it is asked to write it writes a little, in four sizes: what it wrote of some prompts stands for what it would of the others.
    """

    engine: Inference
    wait: Callable[[], None]
    read: float = 0.0
    written: dict[tuple[int, int], float] = field(default_factory=dict)
    passed: float = 0.0
    given: list[Any] = field(default_factory=list)
    again: Iterator[Any] | None = None

    def outputs(self, examples: Any) -> list[np.ndarray]:
        if self.again is not None:
            return next(self.again)
        began = time.monotonic()
        found, passed = shortest(lambda: self.engine.outputs(examples), self.wait)
        self.read += passed
        return self.noted(found, began)

    def generate(self, prompts: Sequence[Sequence[int]], generation: Generation) -> list[Written]:
        if self.again is not None:
            return next(self.again)
        began, found = time.monotonic(), list[Written]()
        for texts, tokens in [(FEW, SHORT), *product((FEW, MANY), (SHORT, LONG))] if prompts else ():
            chosen = [prompts[at % len(prompts)] for at in range(texts)]
            short = generation.model_copy(update={"max_new_tokens": tokens})
            found, self.written[texts, tokens] = shortest(lambda: self.engine.generate(chosen, short), self.wait)  # noqa: B023
        return self.noted([found[at % len(found)] for at in range(len(prompts))], began)

    def noted(self, found: list[Any], began: float) -> list[Any]:
        self.given.append(found)
        self.passed += time.monotonic() - began
        return found


@dataclass(frozen=True)
class Reading:
    """What reading rows cost: seconds an operation, of scoring a row, and `first` for what is loaded at the first time; and how long it
    took to write (texts, tokens of each)."""

    operation: float = 0.0
    scoring: float = 0.0
    first: float = 0.0
    written: dict[tuple[int, int], float] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: Stage, rows: Sequence[Any]) -> Reading:
        """Measured on some of the rows that evaluations will read."""
        parts = stage.parts
        chosen = [rows[int(at)] for at in np.linspace(0, len(rows) - 1, min(ROWS, len(rows)))]
        examples: Any = parts.learner.encode(chosen)
        engine = Engine(parts.model, parts.learner, parts.runtime, passing=parts.fast.passage.of)
        engine.outputs(examples)
        watched, times = Watched(engine, parts.runtime.wait), []
        for _ in range(2):
            started = time.monotonic()
            parts.learner.evaluate(watched, examples, chosen)
            times.append(time.monotonic() - started)
            watched.again = iter(watched.given)
        first, scoring = times[0] - watched.passed, times[1]
        return cls(watched.read / stage.reading(examples), scoring / len(chosen), max(0.0, first - scoring), watched.written)

    def writing(self) -> dict[str, float]:
        """Seconds of a round, of each token in it, and of reading a prompt."""
        if not self.written:
            return {}
        of_few, of_many = ((self.written[texts, LONG] - self.written[texts, SHORT]) / (LONG - SHORT) for texts in (FEW, MANY))
        token = max(0.0, (of_many - of_few) / (MANY - FEW))
        prompt = max(0.0, (self.written[MANY, SHORT] - self.written[FEW, SHORT]) / (MANY - FEW) - SHORT * token)
        return {"round": max(0.0, of_many - MANY * token), "token": token, "prompt": prompt}


def saving(folder: Path) -> float:
    """Seconds a byte of a checkpoint: written, made durable, read for its digest."""
    blob = os.urandom(1024) * (BLOB // 1024)
    started = time.monotonic()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".speed-") as stream:
        stream.write(blob)
        stream.flush()
        os.fsync(stream.fileno())
        stream.seek(0)
        hashlib.file_digest(stream, "sha256")
    return (time.monotonic() - started) / BLOB


def probe() -> float:
    """Seconds of a product of two matrices on this machine as it is now: the shortest of a few."""
    square = torch.ones(SQUARE, SQUARE)
    passed = [time.monotonic()]
    for _ in range(6):
        square @ square
        passed.append(time.monotonic())
    return min(later - earlier for earlier, later in pairwise(passed))


def room_for(texts: int, budget: float, most: int) -> int:
    """How many texts of `most` tokens are written at once."""
    return max(1, min(texts, math.floor(budget / max(most, 1))))
