"""Batches prepared in a thread: the same as in turn, whatever comes between, and no thread left behind."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import ToyExamples, ToyModel, ToyObjective, toy_examples

from burnish import build
from burnish import recipe as recipes
from burnish.core.protocols import Batch, Key
from burnish.engine.batches import Budget, Order
from burnish.engine.signals import StopRequested
from burnish.engine.step import Outcome, Step
from cases import CASES, recipe_of

MakeStep = Callable[..., Step]
ORDER = Order(num_examples=8, batch_size=3, seed=2)
STEPS = 7


class Watched(ToyObjective):
    """Notes, for each micro-batch that is collated, the step, whether the training thread does it, and how many examples it has."""

    def __init__(self, failing: int | None = None) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool, int]] = []
        self.failing = failing

    def collate(self, examples: ToyExamples, indices: Sequence[int], key: Key) -> Batch:
        self.seen.append((key[1], threading.current_thread() is threading.main_thread(), len(indices)))
        if key[1] == self.failing:
            raise KeyError("a row that cannot be read")
        return super().collate(examples, indices, key)

    @property
    def made(self) -> list[tuple[int, bool]]:
        """Steps in the order in which their batches were made, and whether by the training thread."""
        return [made for made, _ in groupby((step, own) for step, own, _ in self.seen)]


def preparing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "burnish-ahead"]


def state(step: Step) -> list[torch.Tensor]:
    moments = [value for own in step.optimizer.state.values() for value in own.values()]
    return [tensor.detach().clone() for tensor in [*step.model.state_dict().values(), *moments]]


def run(step: Step, steps: Sequence[int] = range(STEPS)) -> tuple[list[Outcome], list[torch.Tensor]]:
    outcomes = []
    for number in steps:
        outcomes.append(step(ORDER.batch(number), number, 1.0))
        assert preparing() == [], "between steps nobody else is at work"
    return outcomes, state(step)


def assert_same(one: tuple[list[Outcome], list[torch.Tensor]], other: tuple[list[Outcome], list[torch.Tensor]]) -> None:
    assert one[0] == other[0]
    assert len(one[1]) == len(other[1]) and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


def doubled(indices: Sequence[int], step: int) -> tuple[ToyExamples, Sequence[int]]:
    """Examples made anew for a step, in another order than that of the indices."""
    examples = toy_examples()
    made = ToyExamples([(examples.tokens[index] + step) % 40 for index in reversed(indices)], examples.targets[list(reversed(indices))])
    return made, list(reversed(range(len(indices))))


@pytest.fixture
def both(make_step: MakeStep) -> Callable[..., tuple[Step, Step]]:
    """The same step twice: its batches prepared in turn, and ahead."""

    def make(**parts: Any) -> tuple[Step, Step]:
        made = []
        for upcoming in (None, ORDER.batch):
            torch.manual_seed(8)
            given = {"model": ToyModel(dropout=0.4), "objective": Watched(), "budget": Budget(20), "max_grad_norm": 0.4, **parts}
            made.append(make_step(upcoming=upcoming, **given))
        return made[0], made[1]

    return make


@pytest.mark.parametrize("prepare", [None, doubled], ids=["rows as they are", "rows made anew"])
def test_ahead_or_in_turn_is_the_same_to_the_bit(both: Callable[..., tuple[Step, Step]], prepare: Any) -> None:
    plain, ahead = both(prepare=prepare)
    assert_same(run(ahead), run(plain))
    assert plain.objective.made == [(step, True) for step in range(STEPS)]  # type: ignore[attr-defined]
    assert ahead.objective.made == [(0, True), *((step, False) for step in range(1, STEPS + 1))]  # type: ignore[attr-defined]
    assert len(plain.objective.seen) > STEPS + 4, "several micro-batches a step"  # type: ignore[attr-defined]


def test_what_was_prepared_for_other_examples_is_thrown_away(both: Callable[..., tuple[Step, Step]]) -> None:
    """As where somebody skips a step, goes back, or trains on what the order does not say."""
    plain, ahead = both()
    numbers = [0, 1, 3, 4, 2]
    assert_same(run(ahead, numbers), run(plain, numbers))
    assert ahead.objective.made == [(0, True), (1, False), (2, False), (3, True), (4, False), (5, False), (2, True), (3, False)]  # type: ignore[attr-defined]
    for step in (plain, ahead):
        step([5, 6, 7], 3, 1.0)
    assert ahead.objective.made[-2:] == [(3, True), (4, False)]  # type: ignore[attr-defined]
    assert all(torch.equal(one, other) for one, other in zip(state(ahead), state(plain), strict=True))


class Short(ToyModel):
    """Memory runs out for more than one example, once it has been called twice."""

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if len(input_ids) > 1 and self.calls >= 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(input_ids, mask)


@pytest.mark.parametrize("prepare", [None, doubled], ids=["rows as they are", "rows made anew"])
def test_after_memory_ran_out_the_next_batches_are_small_too(make_step: MakeStep, prepare: Any) -> None:
    found = []
    for upcoming in (None, ORDER.batch):
        torch.manual_seed(8)
        step = make_step(Short(), objective=Watched(), budget=Budget(3, "ex"), upcoming=upcoming, prepare=prepare)
        found.append(run(step))
        later = [size for number, _, size in step.objective.seen if number > 3]  # type: ignore[attr-defined]
        assert str(step.budget) == "1ex" and set(later) == {1}
    assert_same(found[0], found[1])


def test_what_fails_ahead_fails_at_its_own_step_in_the_training_thread(both: Callable[..., tuple[Step, Step]]) -> None:
    objective = Watched(failing=2)
    _, ahead = both(objective=objective)
    run(ahead, range(2))
    assert (2, False) in objective.made, "it failed in the thread, and nobody heard of it"
    before = state(ahead)
    with pytest.raises(KeyError, match="cannot be read"):
        ahead(ORDER.batch(2), 2, 1.0)
    assert objective.made[-1] == (2, True) and preparing() == []
    assert all(torch.equal(now, then) for now, then in zip(state(ahead), before, strict=True))


@pytest.mark.parametrize("end", [KeyboardInterrupt, lambda: StopRequested(15), lambda: RuntimeError("something else")])
def test_no_thread_outlives_a_step_however_it_ends(make_step: MakeStep, end: Callable[[], BaseException]) -> None:
    """The thread is at work, and is waited for, while the step is left."""
    begun, leaving = threading.Event(), threading.Event()

    def prepare(indices: Sequence[int], step: int) -> tuple[ToyExamples, Sequence[int]]:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            leaving.wait(5)
        return toy_examples(), indices

    def stopped(gradient: torch.Tensor) -> None:
        assert begun.wait(5) and len(preparing()) == 1
        leaving.set()
        raise end()

    model = ToyModel()
    model.embedding.weight.register_hook(stopped)
    step = make_step(model, prepare=prepare, upcoming=ORDER.batch)
    with pytest.raises(type(end())):
        step(ORDER.batch(0), 0, 1.0)
    assert preparing() == [] and step.ahead.thread is None


def test_a_step_waits_for_batches_that_take_longer_than_it(make_step: MakeStep) -> None:
    """So that the thread never runs beside an evaluation or a checkpoint, and nothing is prepared twice."""
    calls: list[int] = []
    backward_over = threading.Event()

    def prepare(indices: Sequence[int], step: int) -> tuple[ToyExamples, Sequence[int]]:
        if threading.current_thread() is not threading.main_thread():
            assert backward_over.wait(5)
        calls.append(step)
        return toy_examples(), indices

    step = make_step(prepare=prepare, upcoming=ORDER.batch)
    step.mover.optimizer.register_step_post_hook(lambda *parts: backward_over.set())
    run(step, range(3))
    assert calls == [0, 1, 2, 3]


# What runs beside training must leave alone what training draws from


def generators() -> list[Any]:
    kind, words, *rest = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), kind, np.asarray(words).tolist(), rest]


@pytest.mark.parametrize("task", sorted(CASES))
@pytest.mark.usefixtures("quick")
def test_batches_of_every_task_are_functions_of_key_and_example(task: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """They draw from no generator that is shared, and are the same from whichever thread."""
    checked = recipes.load(recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path))
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    examples = parts.examples["train"]

    def collate(number: int) -> Batch:
        return parts.learner.collate(examples, [number % 8, 3, 5], (7, number))

    before = generators()
    in_turn = [collate(number) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(collate, range(8)))
    assert generators() == before
    for one, other in zip(in_turn, together, strict=True):
        tensors, others = {**one.inputs, **one.targets}, {**other.inputs, **other.targets}
        assert tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)
        assert (one.weight, one.tokens, list(one.examples)) == (other.weight, other.tokens, list(other.examples))
