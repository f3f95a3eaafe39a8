"""Simulated comparisons whose true difference is known: how often do the intervals of `statistics` hold it?

Legend: T trials, K seeds, N rows, R draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.experiment.statistics import LEVEL, Doubt, Spread, drawn_rows, reach

TOGETHER = 100
"""Trials computed at once."""


@dataclass(frozen=True)
class Setting:
    """Two systems compared over `seeds` and `rows`. `by_seed`, `by_row` and `single` are standard deviations: of what a seed does to all rows, a
    row to all seeds, and of what is left. Scores that are right or wrong (`judged`) come of latent ones: a row's difficulty, which both systems
    share (deviation 1.5), what varies by seed and row for each system, and a logistic threshold, which is always there; at an `ease` of 1
    some 70% are right, at 4.5 97%."""

    name: str
    seeds: int
    rows: int
    by_seed: float
    by_row: float
    single: float = 0.0
    judged: bool = False
    ease: float = 1.0


SHIFT, DIFFICULTY = 0.4, 1.5
"""Of latent scores: how much better the first system is, and how rows differ in ease."""

KINDS: dict[str, Any] = {
    "continuous, by seeds": (0.05, 0.0, 1.0, False),
    "continuous, by rows": (0.0, 1.0, 1.0, False),
    "continuous, by both": (0.05, 1.0, 1.0, False),
    "continuous, by neither": (0.0, 0.0, 1.0, False),
    "right or wrong, by seeds": (0.3, 0.0, 0.0, True),
    "right or wrong, by rows": (0.0, 1.0, 0.0, True),
    "right or wrong, by both": (0.3, 1.0, 0.0, True),
    "right or wrong, by neither": (0.0, 0.0, 0.0, True),
    "90% right, by neither": (0.0, 0.0, 0.0, True, 3.0),
    "97% right, by both": (0.3, 0.5, 0.0, True, 4.5),
}


def settings(seeds: tuple[int, ...] = (2, 3, 5, 10), rows: tuple[int, ...] = (50, 100, 300, 1000)) -> Iterator[Setting]:
    """Every kind with every number of seeds and rows."""
    for name, values in KINDS.items():
        for num_seeds in seeds:
            for num_rows in rows:
                yield Setting(name, num_seeds, num_rows, *values)


def coverage(setting: Setting, trials: int = 2000, draws: int = 1000, level: float = LEVEL, seed: int = 0) -> float:
    """The share of simulated comparisons whose interval holds the true difference."""
    rng = np.random.default_rng([seed, setting.seeds, setting.rows])
    counts, truth, held = drawn_rows(setting.rows, draws, 0), difference(setting), 0
    for start in range(0, trials, TOGETHER):
        scores = trial(setting, min(TOGETHER, trials - start), rng)  # (T, K, N)
        drawn = np.moveaxis(scores, -1, 0).reshape(setting.rows, -1)  # (N, TK)
        drawn = (counts @ drawn / setting.rows).reshape(draws, *scores.shape[:2])
        values = scores.mean(axis=-1)
        doubt = Doubt.of(Spread.of(values, drawn, setting.rows), setting.seeds, setting.rows, level)
        half = reach(doubt, 1 / setting.rows if setting.judged else 0.0)
        held += int((np.abs(values.mean(axis=-1) - truth) <= half).sum())
    return held / trials


def trial(setting: Setting, trials: int, rng: np.random.Generator) -> np.ndarray:
    """(T, K, N) differences of two systems' scores, row by row, on the same seeds and rows."""
    if not setting.judged:
        return varied(setting, trials, rng) + setting.single * rng.normal(size=(trials, setting.seeds, setting.rows))
    difficulty = DIFFICULTY * rng.normal(size=(trials, 1, setting.rows))
    first, second = (chance(setting.ease + shift + difficulty + varied(setting, trials, rng)) for shift in (SHIFT, 0.0))
    shape = (trials, setting.seeds, setting.rows)
    return (rng.random(shape) < first).astype(float) - (rng.random(shape) < second)


def varied(setting: Setting, trials: int, rng: np.random.Generator) -> np.ndarray:
    """(T, K, N) what seeds and rows add."""
    by_seed = setting.by_seed * rng.normal(size=(trials, setting.seeds, 1))
    return by_seed + setting.by_row * rng.normal(size=(trials, 1, setting.rows))


def difference(setting: Setting) -> float:
    """The true mean difference: 0 for continuous scores, else the integral of the chance of being right over what varies (Gauss-Hermite)."""
    if not setting.judged:
        return 0.0
    places, weights = np.polynomial.hermite_e.hermegauss(120)
    spread = np.sqrt(DIFFICULTY**2 + setting.by_row**2 + setting.by_seed**2)
    first, second = (chance(setting.ease + shift + spread * places) for shift in (SHIFT, 0.0))
    return float(weights @ (first - second) / weights.sum())


def chance(latent: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-latent))
