"""Schedules: at every step those of transformers and torch; and what holds for any of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from burnish.core import registry
from burnish.core.duration import Duration
from burnish.core.protocols import Schedule
from burnish.optim.curves import flat, joined, power, rise
from burnish.optim.schedules import Constant, Cosine, CosineRestarts, Exponential, InverseSqrt, Linear, Polynomial, Step, WarmupStableDecay

Peer = Callable[[Any, int, int], Any]
"""The scheduler of another library for an optimizer, a warm-up and a length, in steps."""


def peers() -> dict[str, tuple[Schedule, Peer]]:
    import transformers as hf

    return {
        "constant": (Constant(), lambda o, w, t: hf.get_constant_schedule_with_warmup(o, w)),
        "linear": (Linear(), hf.get_linear_schedule_with_warmup),
        "cosine": (Cosine(), hf.get_cosine_schedule_with_warmup),
        "cosine to a floor": (Cosine(floor=0.1), lambda o, w, t: hf.get_cosine_with_min_lr_schedule_with_warmup(o, w, t, min_lr_rate=0.1)),
        "restarts": (CosineRestarts(restarts=2), lambda o, w, t: hf.get_cosine_with_hard_restarts_schedule_with_warmup(o, w, t, 3)),
        "polynomial": (
            Polynomial(power=2, floor=0.01),
            lambda o, w, t: hf.get_polynomial_decay_schedule_with_warmup(o, w, t, lr_end=0.01, power=2),
        ),
        "inverse root": (InverseSqrt(timescale=Duration(7, "st")), lambda o, w, t: hf.get_inverse_sqrt_schedule(o, w, 7)),
        "wsd": (
            WarmupStableDecay(decay=Duration(5, "st")),
            lambda o, w, t: hf.get_wsd_schedule(o, w, 5, t, decay_type="linear"),
        ),
        "wsd, cosine": (
            WarmupStableDecay(decay=Duration(5, "st"), shape="cosine"),
            lambda o, w, t: hf.get_wsd_schedule(o, w, 5, t, decay_type="cosine"),
        ),
        "wsd, root": (
            WarmupStableDecay(decay=Duration(5, "st"), shape="one_minus_root"),
            lambda o, w, t: hf.get_wsd_schedule(o, w, 5, t, decay_type="1-sqrt"),
        ),
    }


@pytest.mark.parametrize("total", [12, 40, 100])
@pytest.mark.parametrize("warmup", [0, 1, 6])
@pytest.mark.parametrize("name", peers())
def test_schedules_are_those_of_transformers(name: str, warmup: int, total: int) -> None:
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    plain, peer_of = peers()[name]
    spec = plain.model_copy(update={"warmup": Duration(warmup, "st")})  # type: ignore[attr-defined]
    peer = peer_of(optimizer, warmup, total)
    for step in range(total):
        assert spec.factor(step, total) == pytest.approx(peer.get_last_lr()[0], abs=1e-12), step
        optimizer.step()
        peer.step()


@pytest.mark.parametrize("total", [1, 2, 7])
@pytest.mark.parametrize("warmup", [0, 1, 6, 100])
@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
def test_runs_of_a_few_steps_are_those_of_transformers_too(name: str, warmup: int, total: int) -> None:
    """A warm-up as long as the run, or longer."""
    test_schedules_are_those_of_transformers(name, warmup, total)


def test_step_and_exponential_are_those_of_torch() -> None:
    import torch

    def rates(scheduler: Callable[[Any], Any], steps: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        peer, found = scheduler(optimizer), []
        for _ in range(steps):
            found.append(peer.get_last_lr()[0])
            optimizer.step()
            peer.step()
        return found

    by_step = rates(lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.3), 30)
    assert [Step(every=Duration(7, "st"), drop=0.3).factor(n, 30) for n in range(30)] == pytest.approx(by_step)
    steadily = rates(lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.01 ** (1 / 30)), 30)
    assert [Exponential(end=0.01).factor(n, 30) for n in range(30)] == pytest.approx(steadily)


def test_a_stable_phase_falls_to_its_floor() -> None:
    """In transformers a floor lifts the start of the warm-up too; here the warm-up begins at zero, as everywhere."""
    spec = WarmupStableDecay(warmup=Duration(10, "st"), decay=Duration(20, "%"), floor=0.1)
    assert [spec.factor(step, 100) for step in (0, 5, 10, 80, 90, 100)] == pytest.approx([0, 0.5, 1, 1, 0.55, 0.1])


def test_warmup_in_percent_is_that_many_steps() -> None:
    assert Linear.model_validate({"warmup": "6%"}).factor(3, 100) == pytest.approx(3 / 6)
    assert Linear.model_validate({"warmup": "6%"}).factor(6, 100) == 1.0


def test_the_cosine_ends_at_its_floor_and_stays() -> None:
    spec = Cosine(floor=0.1)
    assert spec.factor(0, 10) == 1.0
    assert spec.factor(5, 10) == pytest.approx(0.55)
    assert spec.factor(10, 10) == spec.factor(15, 10) == pytest.approx(0.1)


def test_restarts_begin_at_the_peak_and_the_last_period_ends_low() -> None:
    spec = CosineRestarts(restarts=1, floor=0.2)
    assert [spec.factor(step, 100) for step in (0, 50, 100, 120)] == pytest.approx([1, 1, 0.2, 0.2])
    assert spec.factor(49.999, 100) == pytest.approx(0.2, abs=1e-4)


def test_the_inverse_root_takes_its_warmup_as_timescale_and_a_tenth_without_one() -> None:
    assert InverseSqrt(warmup=Duration(10, "st")).factor(40, 1000) == pytest.approx(0.5)
    assert InverseSqrt().factor(300, 1000) == pytest.approx(0.5)


def test_pieces_are_laid_end_to_end() -> None:
    pieces = [(10.0, rise), (0.0, rise), (80.0, flat), (10.0, power(1, 0.2))]
    assert [joined(pieces, place) for place in (0, 5, 10, 89.9, 95, 100, 500)] == pytest.approx([0, 0.5, 1, 1, 0.6, 0.2, 0.2])


@pytest.mark.parametrize("name", sorted(set(registry.specs("schedule")) - {"plateau"}))
@given(st.floats(0, 1e6), st.floats(1, 1e6), st.integers(0, 100))
def test_a_factor_is_between_zero_and_one(name: str, position: float, total: float, percent: int) -> None:
    """Steps or milliseconds, at the end and beyond it too: a run limited by time ends a little late."""
    spec: Any = registry.specs("schedule")[name].model_validate({"warmup": f"{percent}%"})
    assert 0 <= spec.factor(position, total) <= 1 and math.isfinite(spec.factor(position, total))


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        (Step, {"every": "0%"}),
        (Step, {"drop": 0}),
        (Step, {"every": "2ep"}),
        (WarmupStableDecay, {"decay": "130%"}),
        (WarmupStableDecay, {"shape": "steep"}),
        (CosineRestarts, {"restarts": 0}),
        (Polynomial, {"power": 0}),
        (Exponential, {"end": 0}),
    ],
)
def test_wrong_values_are_refused(spec: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec.model_validate(wrong)
