"""What scores over a few seeds and some test rows allow to say: intervals, paired differences, exact tests. See docs/statistics.md.

A score of seed k on row i is taken as x_ki = m + u_k + v_i + e_ki: seeds and rows were drawn at random and are crossed, every seed meets
every row. The mean over K seeds and N rows then varies by

    V = s_u^2 / K + s_v^2 / N + s_e^2 / (K N).

Legend: K seeds, N rows, R draws of the rows; arrays may have further axes in front (simulations).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from burnish.metrics.resampling import Resampled, draws

LEVEL = 0.95
DRAWS = 2000
CHUNK = 4_000_000
"""Counts of rows that are held at once."""

LUCKY = 0.25
"""A few seeds may lie close by luck. The degrees of freedom are those for a variance of the seeds that would look as small as this, or
smaller, in one experiment of four; see `Doubt`."""

Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Estimate:
    """A mean, and what it may be: `low` to `high` for other seeds and other rows, `rows_low` to `rows_high` for these very models on
    other rows. None where that is unknown (`sd` and more of one seed; rows where the metric does not come from single rows)."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    rows_low: float | None
    rows_high: float | None


@dataclass(frozen=True)
class Spread:
    """By how much a mean varies, split by what varies it: mean squares over K and N. Each of the first two holds `single` too.

    `seeds` = s_u^2/K + s_e^2/(KN), `rows` = s_v^2/N + s_e^2/(KN), `single` = s_e^2/(KN), each estimated.
    """

    seeds: np.ndarray
    rows: np.ndarray
    single: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, drawn: np.ndarray, rows: int) -> Spread:
        """From the metric of each seed, `values` (..., K), and on R draws of its rows, `drawn` (R, ..., K).

        The variance over draws of the mean over seeds estimates `rows`; that of each seed by itself, (s_v^2 + s_e^2)/N. A bootstrap
        takes the mean of the squares of N deviations: N/(N - 1) makes that unbiased.
        """
        num_seeds, unbiased = values.shape[-1], rows / max(rows - 1, 1)
        together = drawn.mean(axis=-1).var(axis=0, ddof=1) * unbiased
        if num_seeds == 1:
            return cls(np.zeros_like(together), together, np.zeros_like(together))
        alone = drawn.var(axis=0, ddof=1).mean(axis=-1) * unbiased
        return cls(values.var(axis=-1, ddof=1) / num_seeds, together, (alone - together) / (num_seeds - 1))


@dataclass(frozen=True)
class Doubt:
    """How far a mean over seeds and rows may be off: `quantile` of t times the root of `variance`. `repeated` is the share of what rows
    vary by that all seeds vary by alike: 1 where each row counts once, however many seeds, 1/K where each answer counts by itself."""

    quantile: np.ndarray
    variance: np.ndarray
    repeated: np.ndarray
    level: float = LEVEL

    @property
    def half(self) -> np.ndarray:
        return self.quantile * np.sqrt(self.variance)

    @classmethod
    def of(cls, spread: Spread, seeds: int, rows: int, level: float = LEVEL) -> Doubt:
        """V = seeds + rows - single (what both hold is counted once), at least a quarter of the first term, with nu degrees of freedom.

        nu is Satterthwaite's (1946) for that sum of mean squares with K-1, N-1 and (K-1)(N-1) degrees of freedom, where the seeds' term is
        raised to what it may well be (its upper limit at `LUCKY`): with three seeds it is often far too small by chance, nu then far too
        large, and the interval too short. With seeds alone this is the t interval over seeds, with rows alone that over rows.
        """
        from scipy import stats

        if seeds == 1:
            return cls.of_rows(spread, rows, level)
        free = seeds - 1, max(rows - 1, 1), (seeds - 1) * max(rows - 1, 1)
        by_rows = np.maximum(spread.rows - spread.single, 0)
        variance = np.maximum(spread.seeds + spread.rows - spread.single, spread.seeds / 4)
        raised = spread.seeds * free[0] / stats.chi2.ppf(LUCKY, free[0])
        squares = raised**2 / free[0] + spread.rows**2 / free[1] + spread.single**2 / free[2]
        known = (squares > 0) & (variance > 0)
        freedom = np.divide((raised + by_rows) ** 2, squares, out=np.full(np.shape(squares), np.inf), where=known)
        alone = spread.rows + (seeds - 1) * spread.single
        repeated = np.divide(spread.rows, alone, out=np.ones(np.shape(alone)), where=alone > 0)
        return cls(stats.t.ppf(0.5 + level / 2, np.maximum(freedom, 1)), variance, repeated, level)

    @classmethod
    def of_rows(cls, spread: Spread, rows: int, level: float = LEVEL) -> Doubt:
        """For these very models, on other rows."""
        from scipy import stats

        return cls(stats.t.ppf(0.5 + level / 2, max(rows - 1, 1)), spread.rows, np.ones(np.shape(spread.rows)), level)


Interval = Callable[[float, Doubt], tuple[float, float]]


def symmetric(mean: float, doubt: Doubt) -> tuple[float, float]:
    """mean -+ t sqrt(V)."""
    return mean - float(doubt.half), mean + float(doubt.half)


def apart(grain: float) -> Interval:
    """The interval of a difference of shares, of which a row more or less changes `grain`, usually 1/N: that of `reach`."""

    def interval(mean: float, doubt: Doubt) -> tuple[float, float]:
        half = float(reach(doubt, grain))
        return mean - half, mean + half

    return interval


def reach(doubt: Doubt, grain: float = 0.0) -> np.ndarray:
    """Half the width of the interval of a difference: t sqrt(V), for shares 3/N at least.

    That is the rule of three (Hanley and Lippman-Hand 1983): what was not seen on N rows may still befall -ln(0.05) = 3 of them. Where two
    systems differ on hardly a row, V is estimated from next to nothing. Seeds whose answers have nothing to do with each other are as good
    as more rows.
    """
    return np.maximum(doubt.half, -np.log(1 - doubt.level) * grain * doubt.repeated)


def share(rows: int) -> Interval:
    """The interval of a metric from 0 to 1 by itself: Wilson's (1927), for as many rows as would make it vary as much.

    With n = p (1 - p) / V effective rows (Korn and Graubard 1998): (p + t^2/2n -+ t sqrt(p (1 - p)/n + t^2/4n^2)) / (1 + t^2/n). It stays
    between 0 and 1 and has a width at both, where t sqrt(V) has none; in the middle, and with many rows, the two are the same.
    """

    def interval(mean: float, doubt: Doubt) -> tuple[float, float]:
        p = min(max(mean, 0.0), 1.0)
        spread, variance = p * (1 - p), float(doubt.variance)
        worth = spread / variance if spread > 0 and variance > 0 else rows
        by = float(doubt.quantile) ** 2 / worth
        half = math.sqrt(by * spread + by**2 / 4)
        return max((p + by / 2 - half) / (1 + by), 0.0), min((p + by / 2 + half) / (1 + by), 1.0)

    return interval


def estimate(values: np.ndarray, drawn: np.ndarray | None, rows: int, interval: Interval = symmetric, level: float = LEVEL) -> Estimate:
    """The mean of `values` (K,), a metric by seed (or its difference between two systems, seed by seed), with its intervals.

    `drawn` (R, K) is the same on R draws of the `rows`, the same draws for all seeds; None where the metric is not known row by row:
    then the interval is that over seeds, on these rows.
    """
    from scipy import stats

    mean, seeds = float(values.mean()), len(values)
    sd = float(values.std(ddof=1)) if seeds > 1 else None
    if drawn is None:
        half = stats.t.ppf(0.5 + level / 2, seeds - 1) * sd / np.sqrt(seeds) if sd is not None else None
        low, high = (mean - half, mean + half) if half is not None else (None, None)
        return Estimate(mean, sd, low, high, None, None)
    spread = Spread.of(values, drawn, rows)
    return Estimate(mean, sd, *interval(mean, Doubt.of(spread, seeds, rows, level)), *interval(mean, Doubt.of_rows(spread, rows, level)))


def resampled(metrics: Sequence[Resampled], number: int = DRAWS) -> np.ndarray:
    """(R, K) the metric of each seed on R draws of the rows with replacement, each draw the same for all seeds and all systems."""
    rows = metrics[0].rows
    size = max(1, min(number, CHUNK // rows))
    parts = [drawn_rows(rows, min(size, number - start), start) for start in range(0, number, size)]
    return np.concatenate([np.stack([metric.drawn(part) for metric in metrics], axis=-1) for part in parts])


@lru_cache(maxsize=2)
def drawn_rows(rows: int, number: int, first: int) -> np.ndarray:
    """(R, N) how often each row is in each draw. Kept, for systems and metrics are all measured on the same draws."""
    return draws(rows, number, first)


def verdict(difference: Estimate, higher_is_better: bool) -> Verdict:
    """What the interval allows to say. It says nothing where it holds 0, or where there is none."""
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return "no difference shown"
    return "better" if (difference.low > 0) == higher_is_better else "worse"


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The exact two-sided p of McNemar's test for which rows two classifiers get right: `first` and `second` (K, N) of 0 and 1.

    With one seed: of the rows that one of the two alone gets right, how unlikely is so uneven a split as this, were either as likely.
    With several seeds the answers of one row are not independent, so that neither their tables nor their p values may be added up: here
    the two systems are swapped row by row, all seeds of a row together, and the p is the share of the 2^N swaps whose sum of differences
    is as large as the one found. That is exact for any dependence between seeds, and the usual test for K = 1. It asks whether these
    trained models differ on rows like these, not whether models of other seeds would.
    """
    from scipy.signal import convolve
    from scipy.stats import binom

    by_row = (first.astype(int) - second.astype(int)).sum(axis=0)  # (N,)
    total = np.ones(1)
    for size in range(1, len(first) + 1):
        number = int((np.abs(by_row) == size).sum())
        steps = np.zeros(2 * size * number + 1)
        steps[:: 2 * size] = binom.pmf(np.arange(number + 1), number, 0.5)
        total = convolve(total, steps)
    sums = np.arange(len(total)) - (len(total) - 1) // 2
    return float(min(1.0, max(0.0, total[np.abs(sums) >= abs(by_row.sum())].sum())))
