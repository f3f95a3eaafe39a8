"""The range test of the learning rate: its rates, when it stops, and what it suggests for curves whose best rate is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.core.errors import NonFiniteError
from burnish.core.rates import RangeTest
from burnish.engine.finder import WIDTH, range_test, rising, smoothed, steepest


def test_rates_rise_by_the_same_factor() -> None:
    rates = rising(1e-6, 1.0, 7)
    assert rates == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    np.testing.assert_allclose(np.diff(np.log(rising(3e-7, 0.2, 50))), math.log(0.2 / 3e-7) / 49)


def falling(rate: float, middle: float = -3.0) -> float:
    """A loss that falls from 2 to 1 around 10^middle, and climbs from 10^-1 on."""
    place = math.log10(rate)
    return 1 + 1 / (1 + math.exp(6 * (place - middle))) + 50 * max(0.0, place + 1) ** 2


@pytest.mark.parametrize("middle", [-4.0, -3.0, -2.2])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_steepest_descent_is_found_through_noise(middle: float, noise: float) -> None:
    draw = np.random.default_rng(3)
    found = range_test(lambda step, rate: falling(rate, middle) + noise * draw.normal(), rising(1e-7, 1.0, 140))
    assert found.suggestion is not None
    assert math.log10(found.suggestion) == pytest.approx(middle, abs=0.05 if not noise else 0.25)
    assert found.suggestion < found.lowest < 0.3


def test_smoothing_does_not_lag_and_keeps_a_straight_line_inside() -> None:
    rates = rising(1e-6, 1.0, 121)
    line = [math.log10(rate) for rate in rates]
    inside = slice(20, -20)
    np.testing.assert_allclose(smoothed(rates, line)[inside], line[inside], atol=1e-3)
    peak = [float(rate == rates[60]) for rate in rates]
    assert int(np.argmax(smoothed(rates, peak))) == 60
    apart = round(WIDTH / (line[1] - line[0]))
    curve = smoothed(rates, peak)
    assert curve[60 + apart] / curve[60] == pytest.approx(math.exp(-0.5), rel=1e-2)


def test_it_stops_when_the_loss_diverges() -> None:
    asked: list[float] = []

    def loss_at(step: int, rate: float) -> float:
        asked.append(rate)
        return 1.0 if rate < 0.99e-2 else 1e4 * rate

    found = range_test(loss_at, rising(1e-6, 1.0, 61))
    assert found.ended == "the loss diverged at 1.00e-02" and len(asked) == len(found.losses) == len(found.rates) == 41
    assert found.rates[-1] == pytest.approx(1e-2)


def test_a_wild_first_loss_alone_is_no_divergence() -> None:
    losses = [0.1, 3.0, 0.1, *[0.1] * 27]
    assert range_test(lambda step, rate: losses[step], rising(1e-6, 1.0, 30)).ended == "every learning rate tried"


def test_what_became_infinite_ends_the_test_and_takes_no_part() -> None:
    def loss_at(step: int, rate: float) -> float:
        if step == 20:
            raise NonFiniteError("inf")
        return falling(rate)

    found = range_test(loss_at, rising(1e-6, 1e-1, 40))
    assert len(found.losses) == 20 and found.ended.startswith("the loss or the gradient became infinite at")
    assert all(math.isfinite(loss) for loss in found.smooth)


@pytest.mark.parametrize("losses", [[1.0] * 30, [1.0 + number / 30 for number in range(30)], [1.0, 0.9]])
def test_a_loss_that_never_falls_suggests_nothing(losses: list[float]) -> None:
    found = range_test(lambda step, rate: losses[step], rising(1e-6, 1.0, len(losses)))
    assert found.suggestion is None
    assert found.sentences() == [
        "every learning rate tried: the loss never fell, so that nothing can be suggested. Try other bounds, or more steps."
    ]


def test_what_fails_at_once_is_told_and_not_a_crash() -> None:
    def loss_at(step: int, rate: float) -> float:
        raise NonFiniteError("nan")

    found = range_test(loss_at, rising(1e-6, 1.0, 10))
    assert found.suggestion is None and not found.losses and "never fell" in found.sentences()[0]


def test_a_descent_after_the_lowest_point_does_not_count() -> None:
    rates = rising(1e-5, 1.0, 6)
    assert steepest(rates, [3.0, 2.9, 2.0, 9.0, 2.5, 2.4]) == pytest.approx(1e-4)


def test_only_what_tells_something_is_shown() -> None:
    found = RangeTest([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [2, 1, 2, 4, 9], [2, 1, 2, 4, 9], 1e-4, "ended")
    assert found.telling == 4
    rises = RangeTest([1e-4, 1e-3, 1e-2], [1, 2, 3], [1, 2, 3], None, "ended")
    assert rises.telling == 3
