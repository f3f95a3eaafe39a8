"""Intervals hold what they say they hold, and the exact test is exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from burnish.experiment.simulation import KINDS, Setting, coverage, settings
from burnish.experiment.statistics import Estimate, apart, drawn_rows, estimate, mcnemar, resampled, share, verdict
from burnish.metrics.resampling import mean_of, sums

RNG = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("kind", "seeds", "rows"), [("continuous, by both", 3, 100), ("right or wrong, by both", 5, 300), ("right or wrong, by seeds", 3, 300)]
)
def test_95_percent_intervals_hold_the_true_difference_in_93_to_97_percent_of_2000_trials(kind: str, seeds: int, rows: int) -> None:
    assert 0.93 <= coverage(Setting(kind, seeds, rows, *KINDS[kind]), trials=2000, draws=500) <= 0.97


@pytest.mark.parametrize(("seeds", "rows", "ease"), [(2, 50, 3.0), (3, 50, 4.5), (5, 50, 4.5)])
def test_they_do_with_two_seeds_few_rows_and_rare_errors(seeds: int, rows: int, ease: float) -> None:
    """Where both systems are right nearly everywhere, few rows tell them apart, and seeds are alike by chance."""
    setting = Setting("rare", seeds, rows, 0.0, 0.0, judged=True, ease=ease)
    assert 0.93 <= coverage(setting, trials=2000, draws=500) <= 0.97


def test_where_nothing_differs_the_rule_of_three_holds() -> None:
    same = np.zeros((400, 3))
    found = estimate(np.zeros(3), same, 200, apart(1 / 200))
    assert found.high == pytest.approx(-np.log(0.05) / 200) and found.low == -found.high
    assert verdict(found, True) == "no difference shown"
    assert estimate(np.zeros(3), same, 200, apart(1 / 200)).rows_high == found.high


def test_a_difference_by_one_row_of_one_seed_each_is_not_shown() -> None:
    """Two seeds, each right on one row more, another one: they agree by chance, and leave no variance."""
    scores = np.zeros((2, 100))
    scores[0, 3] = scores[1, 7] = 1
    drawn = resampled([mean_of(row) for row in scores])
    found = estimate(scores.mean(axis=1), drawn, 100, apart(1 / 100))
    assert found.low is not None and found.low < 0


def test_one_seed_of_a_share_has_wilsons_interval() -> None:
    right = np.arange(100) < 90
    found = estimate(np.array([0.9]), resampled([mean_of(right)], 8000), 100, share(100))
    expected = stats.binomtest(90, 100).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)
    whole = estimate(np.array([1.0, 1.0]), np.ones((50, 2)), 100, share(100))
    expected = stats.binomtest(100, 100).proportion_ci(method="wilson")
    assert (whole.low, whole.high) == pytest.approx((expected.low, 1.0), abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("setting", settings(), ids=lambda each: f"{each.name}-{each.seeds}-{each.rows}")
def test_they_do_in_every_setting(setting: Setting) -> None:
    assert 0.93 <= coverage(setting) <= (0.97 if setting.seeds > 2 and setting.rows > 50 else 0.98)


def test_other_levels_hold_what_they_say() -> None:
    setting = Setting("x", 5, 300, *KINDS["right or wrong, by both"])
    assert 0.46 < coverage(setting, trials=2000, draws=300, level=0.5) < 0.56
    assert 0.87 < coverage(setting, trials=2000, draws=300, level=0.9) < 0.93


def test_where_only_seeds_vary_it_is_the_t_interval_over_seeds() -> None:
    values = np.array([0.80, 0.83, 0.81])
    scores = np.repeat(values[:, None], 50, axis=1)
    found = estimate(values, drawn_rows(50, 400, 0) @ scores.T / 50, 50)
    low, high = stats.t.interval(0.95, 2, values.mean(), values.std(ddof=1) / np.sqrt(3))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.sd == pytest.approx(values.std(ddof=1))
    assert (found.rows_low, found.rows_high) == pytest.approx((found.mean, found.mean))


def test_where_only_rows_vary_it_is_the_t_interval_over_rows() -> None:
    scores = RNG.normal(size=200)
    values = np.full(3, scores.mean())
    found = estimate(values, resampled([mean_of(scores)] * 3), 200)
    half = stats.t.ppf(0.975, 199) * scores.std(ddof=1) / np.sqrt(200)
    assert found.high is not None and found.high - found.mean == pytest.approx(half, rel=0.05)


def test_one_seed_says_nothing_of_seeds_and_unknown_rows_nothing_of_rows() -> None:
    one = estimate(np.array([0.5]), resampled([mean_of(RNG.random(100))]), 100)
    assert one.sd is None and (one.low, one.high) == (one.rows_low, one.rows_high)
    unknown = estimate(np.array([0.5, 0.6]), None, 100)
    assert unknown.low is not None and unknown.rows_low is None
    assert estimate(np.array([0.5]), None, 100).low is None


def test_many_rows_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"truth": str(number % 2), "label": str(number % 3 % 2), "loss": 1.0} for number in range(60)]
    metric = sums("macro_f1", records)
    assert metric is not None
    whole = resampled([metric], 400)
    monkeypatch.setattr("burnish.experiment.statistics.CHUNK", 60 * 30)
    parts = resampled([metric], 400)
    assert parts.shape == whole.shape == (400, 1)
    assert parts.std() == pytest.approx(whole.std(), rel=0.2)


@pytest.mark.parametrize(
    ("low", "high", "higher", "said"),
    [
        (0.1, 0.3, True, "better"),
        (0.1, 0.3, False, "worse"),
        (-0.3, -0.1, True, "worse"),
        (-0.1, 0.3, True, "no difference shown"),
        (0, 0, True, "no difference shown"),
    ],
)
def test_a_verdict_is_what_the_interval_allows(low: float, high: float, higher: bool, said: str) -> None:
    assert verdict(Estimate((low + high) / 2, 0.1, low, high, low, high), higher) == said


def test_without_an_interval_no_difference_is_shown() -> None:
    assert verdict(Estimate(0.5, None, None, None, None, None), True) == "no difference shown"


def test_mcnemar_of_one_seed_is_the_binomial_test() -> None:
    first, second = np.zeros((1, 40), dtype=bool), np.zeros((1, 40), dtype=bool)
    first[0, :11], second[0, 11:14] = True, True
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(3, 14).pvalue)
    assert mcnemar(first, first) == 1


def test_mcnemar_of_several_seeds_is_the_share_of_all_swaps() -> None:
    first, second = RNG.random((3, 9)) < 0.8, RNG.random((3, 9)) < 0.4
    difference = first.astype(int) - second
    found = [abs((difference * swap).sum()) for swap in itertools.product((1, -1), repeat=9)]
    assert mcnemar(first, second) == pytest.approx(np.mean(np.array(found) >= abs(difference.sum())))


def test_mcnemar_counts_rows_and_not_answers() -> None:
    """Five copies of one answer are no more evidence than one."""
    first, second = RNG.random((1, 100)) < 0.8, RNG.random((1, 100)) < 0.65
    assert mcnemar(np.repeat(first, 5, axis=0), np.repeat(second, 5, axis=0)) == pytest.approx(mcnemar(first, second))


def test_seeds_that_are_right_where_others_are_wrong_leave_a_width() -> None:
    """Two seeds of which one is right where the other is not: every draw of the rows has the same mean."""
    right = np.arange(40) < 20
    drawn = resampled([mean_of(right), mean_of(~right)])
    found = estimate(np.array([0.5, 0.5]), drawn, 40, share(40))
    assert found.low is not None and found.high is not None and 0 < found.low < 0.5 < found.high < 1
