"""What a range test of the learning rate found: the losses at rising rates, and what they suggest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RULE = "where the smoothed loss falls fastest a decade, which lies safely below where it is lowest"


@dataclass(frozen=True)
class RangeTest:
    """The losses at rising rates, the same smoothed, the rate they suggest (None where the loss never fell), and why it ended."""

    rates: Sequence[float]
    losses: Sequence[float]
    smooth: Sequence[float]
    suggestion: float | None
    ended: str

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest."""
        return self.rates[min(range(len(self.smooth)), key=self.smooth.__getitem__)]

    @property
    def telling(self) -> int:
        """How many points tell something: up to where the loss has climbed as far above its start as its lowest lies below."""
        top = 2 * self.smooth[0] - min(self.smooth)
        over = [place for place, loss in enumerate(self.smooth) if loss > top > self.smooth[0]]
        return over[0] + 1 if over else len(self.smooth)

    def sentences(self) -> list[str]:
        """What it comes to, in words."""
        if self.suggestion is None:
            return [f"{self.ended}: the loss never fell, so that nothing can be suggested. Try other bounds, or more steps."]
        return [
            f"{self.ended}; the smoothed loss is lowest at {self.lowest:.1e}",
            f"suggested: optimizer.lr={self.suggestion:.1e}, {RULE}",
        ]
