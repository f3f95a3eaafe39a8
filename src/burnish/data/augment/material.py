"""What a way of putting texts in other words is, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from burnish.core.passage import Passage

if TYPE_CHECKING:
    import numpy as np

Drawn = Callable[[Passage, "np.random.Generator"], Passage]
"""Puts a passage in other words, drawn at random; the same passage comes back where there is nothing to change."""


@dataclass(frozen=True)
class Material:
    """What is known before training: a way to every text that may be changed, words that never are (in small letters), the seed, the
    device that models may use, and whom to tell what is done of how much."""

    texts: Callable[[], Sequence[str]]
    kept: frozenset[str]
    seed: int
    device: str
    tell: Callable[[str, int, int], None]


class Augmentation(Protocol):
    """The recipe's side of a way to put texts in other words."""

    name: str

    @property
    def word_for_word(self) -> bool:
        """Whether each word stays one word in its place, so that a tag of its own still fits it."""
        ...

    @property
    def pure(self) -> bool:
        """Whether new words come of the passage and the generator given alone, so that they may be found in a thread beside training."""
        ...

    def build(self, material: Material) -> Drawn:
        """Raises DataError where something that it needs is missing, and says how to get it."""
        ...
