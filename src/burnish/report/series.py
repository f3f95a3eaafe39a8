"""Points of a curve before they are drawn: kept to those that are numbers, thinned, and smoothed. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from burnish.report.collect import finite

Point = tuple[float, float]


def points_of(lines: Iterable[Mapping[str, Any]], key: str) -> list[Point]:
    """(step, value of `key`) of each line in which it is a finite number."""
    values = ((float(line["step"]), finite(line.get(key))) for line in lines)
    return [(step, value) for step, value in values if value is not None]


def thinned(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` of the points, in their order: both ends, and the lowest and highest of equal stretches between them.

    Keeping the extremes rather than every n-th point keeps the spikes, which are what one looks for in a loss.

    >>> thinned([(0, 5), (1, 4), (2, 9), (3, 4), (4, 3), (5, 2)], 4)
    [(0, 5), (2, 9), (4, 3), (5, 2)]
    """
    if len(points) <= limit:
        return list(points)
    inner = points[1:-1]
    stretches = max(1, (limit - 2) // 2)
    kept = [points[0]]
    for index in range(stretches):
        stretch = inner[index * len(inner) // stretches : (index + 1) * len(inner) // stretches]
        low = min(range(len(stretch)), key=lambda place: stretch[place][1])
        high = max(range(len(stretch)), key=lambda place: stretch[place][1])
        kept.extend(stretch[place] for place in sorted({low, high}))
    return [*kept, points[-1]]


def smoothed(points: Sequence[Point], window: int, limit: int | None = None) -> list[Point]:
    """The mean of the `window` (odd) points around each point, fewer at the ends: a curve that does not lag behind.

    With `limit` the mean is taken only around that many evenly spaced points, ends included.

    >>> smoothed([(1, 3.0), (2, 6.0), (3, 0.0)], 3)
    [(1, 4.5), (2, 3.0), (3, 3.0)]
    """
    half = window // 2
    last = len(points) - 1
    places = range(len(points))
    if limit is not None and limit < len(points):
        places_kept = [round(index * last / (limit - 1)) for index in range(limit)]
    else:
        places_kept = list(places)
    means = []
    for place in places_kept:
        around = [value for _, value in points[max(0, place - half) : place + half + 1]]
        means.append((points[place][0], math.fsum(around) / len(around)))
    return means


def window_for(length: int) -> int:
    """An odd window of about a twentieth of the points; 1 (no smoothing) where there are fewer than twelve."""
    return 1 if length < 12 else max(3, length // 20 | 1)


def spans_decades(points: Sequence[Point], ratio: float = 20) -> bool:
    """Whether a logarithmic axis reads better: all values positive, and the largest far above the median."""
    values = sorted(value for _, value in points)
    return len(values) > 2 and values[0] > 0 and values[-1] > ratio * values[len(values) // 2]
