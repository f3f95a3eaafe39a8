"""SIGINT and SIGTERM: a polite stop at the next safe moment, and an immediate one the second time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequested(BaseException):
    """Somebody asked the run to stop; `signal_number` says how. No Exception, so that no library on the way swallows it."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(signal.Signals(signal_number).name)


class Interruption:
    """Remembers a request to stop until the loop reaches a safe moment; outside the loop it acts at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.deferred = False

    def check(self) -> None:
        """Raises StopRequested where a stop has been asked for."""
        if self.signal_number is not None:
            raise StopRequested(self.signal_number)

    def receive(self, signal_number: int, frame: FrameType | None) -> None:
        again = self.signal_number is not None
        self.signal_number = signal_number
        if again or not self.deferred:
            raise StopRequested(signal_number)

    @contextmanager
    def listening(self) -> Iterator[Interruption]:
        """Takes over the signals, if this is the main thread, and gives them back."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self.receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Within, a first signal waits for `check`."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False
