"""Schedules: the factor on the learning rate as a function of the position in the run.

`position` and `total` are steps, or milliseconds where the run's duration is a time. Each schedule is a warm-up and what follows it,
joined from the pieces in `curves`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from burnish.core.duration import Duration, Length, WarmupLength
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.optim.curves import (
    Curve,
    exponential,
    flat,
    half_cosine,
    inverse_root,
    joined,
    one_minus_root,
    power,
    repeated,
    rise,
    stairs,
)

PieceLength = Annotated[Duration, Length(("%", "st"), bare="st")]


class Warmed(Spec):
    """A schedule that begins with a linear warm-up."""

    warmup: WarmupLength = Duration(0, "st")
    """Rise of the learning rate from 0 at the start: a share of the run (6%) or a number of steps (100)."""

    def after_warmup(self, position: float, total: float, curve: Curve) -> float:
        """The warm-up, then `curve` until `total`."""
        warmup = self.warmup.steps(total=total)
        return joined([(warmup, rise), (total - warmup, curve)], position)


@register("schedule")
class Constant(Warmed):
    """Warm-up, then the peak until the end."""

    name: Literal["constant"] = "constant"

    def factor(self, position: float, total: float) -> float:
        return self.after_warmup(position, total, flat)


@register("schedule")
class Linear(Warmed):
    """Warm-up, then a straight line down to 0: the usual choice for fine-tuning."""

    name: Literal["linear"] = "linear"

    def factor(self, position: float, total: float) -> float:
        return self.after_warmup(position, total, power(1))


@register("schedule")
class Polynomial(Warmed):
    """Warm-up, then floor + (1 - floor) (1 - s)^power over the share s of what is left: a line that sags.

    As in transformers' `get_polynomial_decay_schedule_with_warmup`; BERT's own pretraining used power 1.
    """

    name: Literal["polynomial"] = "polynomial"

    power: float = Field(default=2.0, gt=0)
    """Exponent of the fall; 1 is a straight line, 2 to 3 fall early, less than 1 late."""

    floor: float = Field(default=0.0, ge=0, le=1)
    """Where the factor ends, as a share of the peak; 0 to 0.1."""

    def factor(self, position: float, total: float) -> float:
        return self.after_warmup(position, total, power(self.power, self.floor))


@register("schedule")
class Cosine(Warmed):
    """Warm-up, then half a cosine down to `floor`: stays high for longer than a line and lands softly.

    floor + (1 - floor) (1 + cos(pi s)) / 2. Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, one period.
    """

    name: Literal["cosine"] = "cosine"

    floor: float = Field(default=0.0, ge=0, le=1)
    """Where the factor ends, as a share of the peak; 0 to 0.1."""

    def factor(self, position: float, total: float) -> float:
        return self.after_warmup(position, total, half_cosine(self.floor))


@register("schedule")
class CosineRestarts(Warmed):
    """Warm-up, then several half cosines, each from the peak: every restart may leave a poor minimum, every end is a usable model.

    SGDR, Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, with periods of equal length.
    """

    name: Literal["cosine_restarts"] = "cosine_restarts"

    restarts: int = Field(default=2, ge=1)
    """How often it jumps back to the peak: one period more than this; 1 to 4."""

    floor: float = Field(default=0.0, ge=0, le=1)
    """Where each period ends, as a share of the peak; 0 to 0.1."""

    def factor(self, position: float, total: float) -> float:
        return self.after_warmup(position, total, repeated(half_cosine(self.floor), self.restarts + 1))


@register("schedule")
class Step(Warmed):
    """Warm-up, then the peak, multiplied by `drop` each time that `every` has passed: drop^floor(n / every). torch's StepLR."""

    name: Literal["step"] = "step"

    every: PieceLength = Duration(30, "%")
    """Time between two falls: a share of the run (30%) or a number of steps (500)."""

    drop: float = Field(default=0.1, gt=0, le=1)
    """What the factor is multiplied by; 0.1 to 0.5."""

    def factor(self, position: float, total: float) -> float:
        length = max(0.0, total - self.warmup.steps(total=total))
        return self.after_warmup(position, total, stairs(length, max(1, self.every.steps(total=total)), self.drop))


@register("schedule")
class Exponential(Warmed):
    """Warm-up, then the same ratio for every step, down to `end`: end^s. torch's ExponentialLR with gamma = end^(1 / steps)."""

    name: Literal["exponential"] = "exponential"

    end: float = Field(default=0.01, gt=0, le=1)
    """Where the factor ends, as a share of the peak; 0.001 to 0.1."""

    def factor(self, position: float, total: float) -> float:
        return self.after_warmup(position, total, exponential(self.end))


@register("schedule")
class InverseSqrt(Warmed):
    """Warm-up, then 1 / sqrt(1 + n / timescale), n updates after it: knows no end, and so serves runs whose length is open.

    Vaswani et al. 2017, arXiv:1706.03762, eq. 3, where the timescale is the warm-up; T5 was pretrained with it.
    """

    name: Literal["inverse_sqrt"] = "inverse_sqrt"

    timescale: PieceLength | None = None
    """After three of these the rate is halved: a share of the run or steps; by default the warm-up, or 10% where there is none."""

    def factor(self, position: float, total: float) -> float:
        timescale = self.timescale or (self.warmup if self.warmup.value else Duration(10, "%"))
        length = max(0.0, total - self.warmup.steps(total=total))
        return self.after_warmup(position, total, inverse_root(length, max(1, timescale.steps(total=total))))


FALLS: dict[str, Callable[[float], Curve]] = {"linear": partial(power, 1), "cosine": half_cosine, "one_minus_root": one_minus_root}


@register("schedule")
class WarmupStableDecay(Warmed):
    """Warm-up, the peak for most of the run, then a short fall: any point before the fall can be trained on from.

    Hu et al. 2024, "MiniCPM", arXiv:2404.06395, section 4; Hägele et al. 2024, arXiv:2405.18392, compares the shapes.
    """

    name: Literal["wsd"] = "wsd"

    decay: PieceLength = Duration(20, "%")
    """Length of the fall at the end: a share of the run (20%) or a number of steps; 10% to 20%."""

    shape: Literal["linear", "cosine", "one_minus_root"] = "linear"
    """How it falls; one_minus_root drops fast at first and did best in the comparison of 2024."""

    floor: float = Field(default=0.0, ge=0, le=1)
    """Where the factor ends, as a share of the peak; 0 to 0.1."""

    def factor(self, position: float, total: float) -> float:
        warmup = self.warmup.steps(total=total)
        decay = min(self.decay.steps(total=total), max(0.0, total - warmup))
        return joined([(warmup, rise), (total - warmup - decay, flat), (decay, FALLS[self.shape](self.floor))], position)
