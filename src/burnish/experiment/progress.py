"""What is told while a recipe is tried in many ways: which try is made, and each sentence once, though every try has it anew."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.engine.events import Event, Listener, Noted, Working


class Progress:
    """Tells listeners which check is made; `total` is how often one is announced."""

    def __init__(self, listeners: Sequence[Listener], total: int) -> None:
        self.listeners, self.total, self.begun, self.told = listeners, total, 0, set[str]()

    def emit(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def note(self, message: str) -> None:
        if message not in self.told:
            self.told.add(message)
            self.emit(Noted(message))

    def tell(self, what: str, done: int, total: int) -> None:
        self.emit(Working(what, done, total))

    def begin(self, name: str) -> None:
        self.emit(Working(f"checks, now {name}", self.begun, self.total))
        self.begun += 1
