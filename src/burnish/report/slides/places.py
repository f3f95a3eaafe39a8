"""Where the names of points find room beside each other."""

from __future__ import annotations

from collections.abc import Sequence

Box = tuple[float, float, float, float]
"""Left, low, right and high, in inches."""
HALF = 0.13
"""Half the height of a name, and of the room that a point takes."""


def label_sides(points: Sequence[tuple[float, float, bool]], lengths: Sequence[float], room: tuple[float, float]) -> list[str]:
    """On which side of its point (`r`, `l`, `t`, `b`) each name finds room beside the other names and points; empty where it finds none.

    `points` are (x, y, whether it chooses first) in inches from the lower left of the plot, which is `room` wide and high; `lengths`
    are those of the names.
    """
    taken = [(x - HALF, y - HALF, x + HALF, y + HALF) for x, y, _ in points]
    sides = [""] * len(points)
    for place in sorted(range(len(points)), key=lambda place: not points[place][2]):
        x, y, _ = points[place]
        for side, spot in around(x, y, lengths[place] + 0.15).items():
            inside = spot[0] >= 0 and spot[2] <= room[0] and spot[3] <= room[1] and spot[1] >= 0
            if inside and not any(overlap(spot, other) for other in taken):
                sides[place] = side
                taken.append(spot)
                break
    return sides


def around(x: float, y: float, long: float) -> dict[str, Box]:
    """The boxes of a name of that length on each side of its point, the best first."""
    return {
        "r": (x + HALF, y - HALF, x + HALF + long, y + HALF),
        "l": (x - HALF - long, y - HALF, x - HALF, y + HALF),
        "t": (x - long / 2, y + HALF, x + long / 2, y + 3 * HALF),
        "b": (x - long / 2, y - 3 * HALF, x + long / 2, y - HALF),
    }


def overlap(first: Box, second: Box) -> bool:
    """Whether two boxes share more than an edge."""
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
