"""Where the time of a run goes, part by part."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Clock:
    """Seconds by part (`plan.time.PARTS`), added up in `spent`, which a checkpoint keeps: a run that was resumed counts what it took in all."""

    def __init__(self, spent: dict[str, float]) -> None:
        self.spent = spent

    @contextmanager
    def spending(self, part: str) -> Iterator[None]:
        """What happens within counts for a part."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(part, time.monotonic() - began)

    def add(self, part: str, seconds: float) -> None:
        self.spent[part] = self.spent.get(part, 0.0) + seconds

    def counting(self, part: str, function: Callable[P, T]) -> Callable[P, T]:
        """The same function, whose calls count for a part."""

        def counted(*args: P.args, **named: P.kwargs) -> T:
            with self.spending(part):
                return function(*args, **named)

        return counted


def since_start() -> float:
    """Seconds since this process began, for the commands that make one run or plan one: what their libraries took. Else 0."""
    if Path(sys.argv[0]).stem not in ("burnish", "__main__") or sys.argv[1:2] not in (["train"], ["plan"]):
        return 0.0
    import psutil  # type: ignore[import-untyped]

    return max(0.0, time.time() - psutil.Process().create_time())
