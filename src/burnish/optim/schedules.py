"""Schedules: the factor on the learning rate as a function of the position in the run.

`position` and `total` are steps, or milliseconds where the run's duration is a time.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from burnish.core.duration import Duration, WarmupLength
from burnish.core.registry import register
from burnish.core.spec import Spec


def warmed(position: float, warmup: float, after: float) -> float:
    """Rises from 0 to 1 over `warmup`, then takes the value `after`."""
    return position / max(1.0, warmup) if position < warmup else after


def linear(position: float, total: float, warmup: float) -> float:
    """After the warm-up, falls in a straight line to 0 at `total`."""
    return warmed(position, warmup, max(0.0, (total - position) / max(1.0, total - warmup)))


def cosine(position: float, total: float, warmup: float, floor: float = 0.0) -> float:
    """After the warm-up, half a cosine from 1 to `floor`. Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, one period."""
    progress = min(1.0, (position - warmup) / max(1.0, total - warmup))
    return warmed(position, warmup, floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


class Warmed(Spec):
    """A schedule that begins with a linear warm-up."""

    warmup: WarmupLength = Duration(0, "st")
    """Rise of the learning rate from 0 at the start: a share of the run (6%) or a number of steps (100)."""


@register("schedule")
class Linear(Warmed):
    """Warm-up, then a straight line down to 0: the usual choice for fine-tuning."""

    name: Literal["linear"] = "linear"

    def factor(self, position: float, total: float) -> float:
        return linear(position, total, self.warmup.steps(total=total))


@register("schedule")
class Cosine(Warmed):
    """Warm-up, then half a cosine down to `floor`."""

    name: Literal["cosine"] = "cosine"

    floor: float = Field(default=0.0, ge=0, le=1)
    """Where the factor ends, as a share of the peak; 0 to 0.1."""

    def factor(self, position: float, total: float) -> float:
        return cosine(position, total, self.warmup.steps(total=total), self.floor)


@register("schedule")
class Constant(Warmed):
    """Warm-up, then the peak until the end."""

    name: Literal["constant"] = "constant"

    def factor(self, position: float, total: float) -> float:
        return warmed(position, self.warmup.steps(total=total), 1.0)
