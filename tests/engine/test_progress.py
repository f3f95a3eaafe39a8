"""What is due when, by steps and by a fake clock; the loop's order of things; which weights are the best."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from burnish.core.duration import Duration
from burnish.engine.batches import Order
from burnish.engine.events import Evaluated, Event, Saved, Stepped
from burnish.engine.loop import Loop
from burnish.engine.progress import Plan, Progress, Selection
from burnish.engine.signals import StopRequested
from burnish.engine.step import Outcome
from burnish.optim.schedules import Linear


def plan(duration: str = "2ep", evaluate: str = "1ep", save: str = "1ep", **others: Any) -> Plan:
    given = {"steps_per_epoch": 5, "schedule": Linear(), "watched": True, **others}
    return Plan(Duration.parse(duration), Duration.parse(evaluate), Duration.parse(save), **given)


@dataclass
class Clock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class World:
    """A loop around steps that take `pace` seconds on a fake clock; `scores` are what evaluations find, in order of steps."""

    plan: Plan
    monkeypatch: pytest.MonkeyPatch
    scores: Callable[[int], float] = lambda step: 0.5
    selection: Selection | None = None
    pace: float = 1.0
    stop_after: int | None = None
    events: list[Event] = field(default_factory=list)
    saved: list[Progress] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def run(self, progress: Progress | None = None) -> str:
        progress = progress or Progress()
        self.monkeypatch.setattr("burnish.engine.loop.time", SimpleNamespace(monotonic=self.clock.monotonic))

        def step(indices: Sequence[int], number: int, factor: float) -> Outcome:
            assert number == progress.step
            self.clock.now += self.pace
            self.factors.append(factor)
            return Outcome(loss=1.0 / (number + 1), grad_norm=1.0, lr=factor, examples=len(indices), tokens=10, slots=12)

        def save(now: Progress) -> int:
            self.saved.append(copy.deepcopy(now))
            return 7

        def interrupted() -> None:
            if progress.step == self.stop_after:
                raise StopRequested(15)

        loop = Loop(
            self.plan,
            Order(self.plan.steps_per_epoch * 4 - 1, 4, seed=0),
            step,
            lambda: {"score": self.scores(progress.step)},
            save,
            self.events.append,
            interrupted,
            lambda: 0,
            self.selection,
        )
        return loop.run(progress)

    def of(self, kind: type) -> list[int]:
        return [event.step for event in self.events if isinstance(event, kind)]  # type: ignore[attr-defined]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    return lambda plan, **others: World(plan, monkeypatch, **others)


@pytest.mark.parametrize(
    ("duration", "steps"), [("2ep", 10), ("1.5ep", 8), ("0.2ep", 1), ("7st", 7), ("0.1ep", 1), ("3s", 3), ("0.05m", 3), ("0.001h", 4)]
)
def test_a_run_lasts_as_long_as_it_says(world: Callable[..., World], duration: str, steps: int) -> None:
    ran = world(plan(duration))
    assert ran.run() == "duration reached"
    assert ran.of(Stepped) == list(range(1, steps + 1))
    assert ran.events[-1].step == steps and ran.of(Saved)[-1] == steps and ran.of(Evaluated)[-1] == steps


@pytest.mark.parametrize(
    ("every", "due"),
    [
        ("1ep", [5, 10]),
        ("2ep", [10]),
        ("9ep", [10]),
        ("3st", [3, 6, 9, 10]),
        ("1st", list(range(1, 11))),
        ("0.5ep", [3, 5, 8, 10]),
        ("0.1ep", list(range(1, 11))),
        ("4s", [4, 8, 10]),
        ("1h", [10]),
    ],
)
def test_evaluations_and_saves_come_when_due_and_at_the_end(world: Callable[..., World], every: str, due: list[int]) -> None:
    ran = world(plan("10st", evaluate=every, save="99ep"))
    ran.run()
    assert ran.of(Evaluated) == due and ran.of(Saved) == [10]
    ran = world(plan("10st", evaluate="99ep", save=every))
    ran.run()
    assert ran.of(Saved) == due and ran.of(Evaluated) == [10]


def test_fractions_and_factors_follow_steps_or_the_clock(world: Callable[..., World]) -> None:
    ran = world(plan("4st", schedule=Linear(warmup=Duration(2, "st"))))
    ran.run()
    assert [event.fraction for event in ran.events if isinstance(event, Stepped)] == [0.25, 0.5, 0.75, 1.0]
    assert ran.factors == [0.0, 0.5, 1.0, 0.5]
    ran = world(plan("10s"), pace=4.0)
    ran.run()
    assert [event.fraction for event in ran.events if isinstance(event, Stepped)] == [0.4, 0.8, 1.0]
    assert ran.factors == pytest.approx([1.0, 0.6, 0.2])


def test_without_validation_rows_nothing_is_evaluated(world: Callable[..., World]) -> None:
    ran = world(plan(evaluate="1st", watched=False))
    ran.run()
    assert ran.of(Evaluated) == [] and ran.of(Saved) == [5, 10]


def test_order_of_things_within_a_step(world: Callable[..., World]) -> None:
    """The step is told first, then evaluated, then saved: a checkpoint knows what its weights scored."""
    ran = world(plan("2st", evaluate="1st", save="1st"), selection=Selection("score", higher=True))
    ran.run()
    assert [type(event).__name__ for event in ran.events] == ["Stepped", "Evaluated", "Saved"] * 2
    assert [(kept.evaluated, kept.saved, kept.best_step, kept.waited) for kept in ran.saved] == [(1, 1, 1, 0), (2, 2, 1, 1)]
    last = ran.saved[-1]
    assert (last.step, last.examples, last.tokens, last.slots, last.loss_sum) == (2, 8, 20, 24, 1.5)


def test_time_spent_in_an_earlier_process_counts(world: Callable[..., World]) -> None:
    ran = world(plan("10s"))
    ran.run(Progress(step=6, seconds=6.0, saved=6))
    assert ran.of(Stepped) == [7, 8, 9, 10]


@pytest.mark.parametrize("higher", [True, False])
def test_early_stopping_after_patience(world: Callable[..., World], higher: bool) -> None:
    scores = [0, 0.1, 0.5, 0.4, 0.6, 0.6, 0.2, 0.3, 0.9, 0.9, 0.9]
    sign = 1 if higher else -1
    ran = world(
        plan(evaluate="1st", save="99ep", patience=3), scores=lambda step: sign * scores[step], selection=Selection("score", higher)
    )
    assert ran.run() == "early stopping: no better in 3 evaluations"
    assert ran.of(Evaluated) == [1, 2, 3, 4, 5, 6, 7]
    assert [event.best for event in ran.events if isinstance(event, Evaluated)] == [True, True, False, True, False, False, False]
    assert ran.of(Saved) == [1, 2, 4, 7], "each best, and the end"
    assert (ran.saved[-1].best_step, ran.saved[-1].best_value, ran.saved[-1].waited) == (4, sign * 0.6, 3)


def test_selection_knows_higher_lower_ties_and_nan() -> None:
    progress = Progress(step=1)
    lowest = Selection("loss", higher=False)
    values = [math.nan, 2.0, 2.0, math.nan, 1.0, math.inf, -math.inf]
    judged = []
    for progress.step, value in enumerate(values, start=1):
        judged.append(lowest.judge(progress, {"loss": value, "other": 0.0}))
    assert judged == [False, True, False, False, True, False, True]
    assert (progress.best_step, progress.best_value, progress.waited) == (7, -math.inf, 0)


def test_a_metric_that_is_always_nan_still_stops_and_saves(world: Callable[..., World]) -> None:
    ran = world(plan(evaluate="1st", patience=2), scores=lambda step: math.nan, selection=Selection("score", True))
    assert ran.run().startswith("early stopping")
    assert ran.of(Saved) == [2] and ran.saved[-1].best_step == -1


def test_a_stop_is_saved_once_and_not_before_the_first_step(world: Callable[..., World]) -> None:
    ran = world(plan(), stop_after=3)
    with pytest.raises(StopRequested):
        ran.run()
    assert [kept.step for kept in ran.saved] == [3] and ran.of(Saved) == [3]


def essence(events: Sequence[Event]) -> list[Event]:
    return [replace(event, seconds=0.0) for event in events if not isinstance(event, Saved)]


@pytest.mark.parametrize("evaluate", ["2st", "1ep"])
@pytest.mark.parametrize("patience", [None, 2])
def test_resumed_anywhere_the_loop_tells_what_an_unbroken_one_tells(
    world: Callable[..., World], evaluate: str, patience: int | None
) -> None:
    made = plan("3ep", evaluate, "3st", patience=patience)
    scores = [0.0, 0.3, 0.1, 0.2, 0.4, 0.5, 0.2, 0.3, 0.6, 0.1, 0.2, 0.3, 0.7, 0.8, 0.0, 0.9]
    options = {"scores": lambda step: scores[step], "selection": Selection("score", True)}
    whole = world(made, **options)
    ended = whole.run()
    told = essence(whole.events)
    for snapshot in whole.saved:  # killed after a save
        again = world(made, **options)
        assert again.run(copy.deepcopy(snapshot)) == ended
        assert essence(again.events) == [event for event in told if event.step > snapshot.step]
        assert again.saved[-1:] in ([], [replace(whole.saved[-1], seconds=again.saved[-1].seconds if again.saved else 0)])
    for stop in range(1, whole.saved[-1].step):  # stopped by a signal, which saves at once
        first = world(made, stop_after=stop, **options)
        with pytest.raises(StopRequested):
            first.run()
        again = world(made, **options)
        again.run(copy.deepcopy(first.saved[-1]))
        assert essence(first.events) + essence(again.events) == told
        assert (again.saved or first.saved)[-1].best_step == whole.saved[-1].best_step
