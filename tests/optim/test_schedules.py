"""Schedules: at every step those of transformers; and what holds for any of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.core.duration import Duration
from burnish.core.protocols import Schedule
from burnish.optim.schedules import Constant, Cosine, Linear


@pytest.mark.parametrize("total", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup", [0, 1, 6, 100])
@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
def test_schedules_are_those_of_transformers(name: str, warmup: int, total: int) -> None:
    import torch
    import transformers

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    spec: Schedule
    if name == "linear":
        peer = transformers.get_linear_schedule_with_warmup(optimizer, warmup, total)
        spec = Linear(warmup=Duration(warmup, "st"))
    elif name == "cosine":
        peer = transformers.get_cosine_schedule_with_warmup(optimizer, warmup, total)
        spec = Cosine(warmup=Duration(warmup, "st"))
    else:
        peer = transformers.get_constant_schedule_with_warmup(optimizer, warmup)
        spec = Constant(warmup=Duration(warmup, "st"))
    for step in range(total):
        assert spec.factor(step, total) == pytest.approx(peer.get_last_lr()[0], abs=1e-12), step
        optimizer.step()
        peer.step()


def test_warmup_in_percent_is_that_many_steps() -> None:
    assert Linear.model_validate({"warmup": "6%"}).factor(3, 100) == pytest.approx(3 / 6)
    assert Linear.model_validate({"warmup": "6%"}).factor(6, 100) == 1.0


def test_the_cosine_ends_at_its_floor_and_stays() -> None:
    spec = Cosine(floor=0.1)
    assert spec.factor(0, 10) == 1.0
    assert spec.factor(5, 10) == pytest.approx(0.55)
    assert spec.factor(10, 10) == spec.factor(15, 10) == pytest.approx(0.1)


@given(st.floats(0, 1e5), st.floats(1, 1e5), st.integers(0, 100))
def test_a_factor_is_between_zero_and_one(position: float, total: float, percent: int) -> None:
    """Steps or seconds, at the end and beyond it too: a run limited by time ends a little late."""
    for spec in (Linear(warmup=Duration(percent, "%")), Cosine(warmup=Duration(percent, "%")), Constant(warmup=Duration(percent, "%"))):
        factor = spec.factor(position, total)
        assert 0 <= factor <= 1 and math.isfinite(factor)
