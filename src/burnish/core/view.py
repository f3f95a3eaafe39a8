"""An example as the model gets it, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Strip:
    """A sequence of tokens, which of them are supervised (their prediction is scored), and a word on some of them (a tag, an answer)."""

    name: str
    ids: Sequence[int]
    supervised: Sequence[bool]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class View:
    """The sequences of one example, and what it is to become where that is no token (a label, a number)."""

    strips: Sequence[Strip]
    target: str = ""
