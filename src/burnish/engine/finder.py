"""Which learning rate suits: the range test. Pure functions of a rate's and a loss's course.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3: train while the learning rate rises
exponentially from far too small to far too large, and look where the loss falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from burnish.core.errors import NonFiniteError
from burnish.core.rates import RangeTest

DIVERGED = 4.0
"""Times the smallest running loss at which it has diverged, as in fastai."""
MEMORY = 0.9
"""Of the running loss by which divergence is seen."""
WIDTH = 0.2
"""Standard deviation of the kernel that smooths the curve, in decades of the learning rate."""
ROUNDING = 1e-6
"""Of the loss: a fall that is no fall."""
FEWEST = 5
"""Steps without which a curve says nothing."""


def rising(lr_min: float, lr_max: float, steps: int) -> list[float]:
    """`steps` rates from `lr_min` to `lr_max`, each the same factor above the one before."""
    return [lr_min * (lr_max / lr_min) ** (step / (steps - 1)) for step in range(steps)]


def range_test(loss_at: Callable[[int, float], float], rates: Sequence[float]) -> RangeTest:
    """Asks `loss_at(step, rate)`, which also learns, at each rate until the loss diverges or is no number any more."""
    losses: list[float] = []
    running, best, ended = 0.0, math.inf, "every learning rate tried"
    for step, rate in enumerate(rates):
        try:
            loss = loss_at(step, rate)
        except NonFiniteError:
            ended = f"the loss or the gradient became infinite at {rate:.2e}"
            break
        losses.append(loss)
        running = MEMORY * running + (1 - MEMORY) * loss
        seen = running / (1 - MEMORY ** (step + 1))
        if step < FEWEST:  # too few to tell what the loss is
            continue
        best = min(best, seen)
        if seen > DIVERGED * best:
            ended = f"the loss diverged at {rate:.2e}"
            break
    tried = list(rates[: len(losses)])
    smooth = smoothed(tried, losses)
    return RangeTest(tried, losses, smooth, steepest(tried, smooth), ended)


def smoothed(rates: Sequence[float], losses: Sequence[float]) -> list[float]:
    """The losses averaged around each rate by a Gaussian of WIDTH decades: a curve that, unlike a running mean, does not lag behind."""
    place = np.log10(rates)
    weights = np.exp(-0.5 * ((place[:, None] - place[None, :]) / WIDTH) ** 2)  # (N, N)
    return list((weights @ np.asarray(losses) / weights.sum(axis=1)).tolist())


def steepest(rates: Sequence[float], smooth: Sequence[float]) -> float | None:
    """The rate at which the smoothed loss falls fastest a decade, below the rate where it is lowest; None where it never falls.

    A rule of thumb of fastai's, on the safe side of the lowest point: there the loss is about to turn.
    """
    if len(rates) < FEWEST or smooth[0] - min(smooth) <= ROUNDING * abs(smooth[0]):
        return None
    end = int(np.argmin(smooth)) + 1
    slopes = np.gradient(np.asarray(smooth), np.log10(rates))[:end]
    return float(rates[int(np.argmin(slopes))])
