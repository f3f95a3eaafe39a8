"""What schedules are joined from: short pure pieces of curve, each over its own length.

A curve gives the factor on the learning rate for a *share*, from 0, where its piece begins, to 1, where it ends. `joined` lays pieces
end to end (the idea of optax's `join_schedules`), so that a warm-up and a decay each know nothing of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Curve = Callable[[float], float]


def joined(pieces: Sequence[tuple[float, Curve]], position: float) -> float:
    """The value at `position` of pieces (length, curve) laid end to end, those without length left out; the last end value holds ever after.

    >>> joined([(10, rise), (90, flat)], 5)
    0.5
    """
    *former, (length, curve) = pieces
    for early, own in former:
        if position < early:
            return own(position / early)
        position -= max(0.0, early)
    return curve(min(1.0, position / length) if length > 0 else 1.0)


def rise(share: float) -> float:
    """A straight line from 0 to 1."""
    return share


def flat(share: float) -> float:
    """1 all along."""
    return 1.0


def power(exponent: float, floor: float = 0.0) -> Curve:
    """floor + (1 - floor) (1 - s)^exponent: from 1 to `floor`, a straight line for exponent 1."""
    return lambda share: floor + (1 - floor) * (1 - share) ** exponent


def half_cosine(floor: float = 0.0) -> Curve:
    """floor + (1 - floor) (1 + cos(pi s)) / 2: from 1 to `floor`, slow at both ends. Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5."""
    return lambda share: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))


def repeated(curve: Curve, times: int) -> Curve:
    """`curve` that many times over, each in an equal part of the length; at the very end the end of the last."""
    return lambda share: curve(1.0 if share >= 1 else (share * times) % 1.0)


def exponential(end: float) -> Curve:
    """end^s: from 1 to `end`, the same ratio for every step."""
    return lambda share: end**share


def stairs(length: float, every: float, factor: float) -> Curve:
    """factor^floor(s length / every): falls by `factor` each time that `every` has passed."""
    return lambda share: factor ** math.floor(share * length / every + 1e-9)


def inverse_root(length: float, timescale: float) -> Curve:
    """1 / sqrt(1 + s length / timescale): halved after three timescales, never zero."""
    return lambda share: 1 / math.sqrt(1 + share * length / timescale)


def one_minus_root(floor: float = 0.0) -> Curve:
    """floor + (1 - floor) (1 - sqrt(s)): from 1 to `floor`, steep at first. Hägele et al. 2024, arXiv:2405.18392, eq. 2."""
    return lambda share: floor + (1 - floor) * (1 - math.sqrt(share))
