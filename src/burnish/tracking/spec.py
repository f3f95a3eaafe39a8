"""What a recipe says of a tracker, and what a tracker is given and has to do."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from burnish.core.spec import Spec

Ending = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True)
class Start:
    """What a tracker begins with.

    `settings` is the resolved recipe, flat; `resumed` says whether the run goes on after it was stopped; `memory` is what the tracker
    itself noted at its first start, and may add to.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    resumed: bool = False
    memory: dict[str, Any] = field(default_factory=dict)


class Sink(Protocol):
    """An open tracker. `known` are the last step and the last evaluation that it has already (-1 for none): those up to them are not told
    again, and those after them that the run has recorded are told at once, so that nothing is there twice and nothing is missing."""

    @property
    def known(self) -> tuple[int, int]: ...

    def log(self, values: Mapping[str, float], step: int, seconds: float) -> None:
        """Values of a step (from 1) or of an evaluation after it, `seconds` after the run began."""
        ...

    def conclude(self, values: Mapping[str, float], step: int) -> None:
        """What the finished run came to."""
        ...

    def close(self, ending: Ending) -> None: ...


class Tracker(Spec):
    """A place where runs are followed. Its package is imported when it is opened; its keys come from the environment alone."""

    package: ClassVar[str]
    """The module that it needs."""

    def fault(self) -> str | None:
        """Why it cannot be used here, or None."""
        if importlib.util.find_spec(self.package) is None:
            return f"{self.name} needs the package {self.package}: pip install 'burnish[track]'"  # type: ignore[attr-defined]
        return None

    @abstractmethod
    def open(self, start: Start) -> Sink:
        """Begins a series, or goes on with it where `start` remembers one. Raises whatever the package does."""
