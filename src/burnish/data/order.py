"""The order in which an epoch's examples come. Without a word they are shuffled anew in each epoch.

Legend: N examples, L examples that an epoch holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from pydantic import Field

from burnish.core.errors import DataError, listing
from burnish.core.protocols import Examples, Row
from burnish.core.registry import register
from burnish.core.spec import Spec

MEGABATCH = 50
"""Batches within which `length` sorts; fewer where an epoch has not four times as many."""

Arrange = Callable[[np.ndarray, int], np.ndarray]
"""The shuffled examples of an epoch, and its number -> the same examples in their order."""


class Ordering(Protocol):
    """The recipe's side of an order; `columns` are those of the training rows that it reads."""

    @property
    def columns(self) -> list[str]: ...

    def arrange(self, examples: Examples, rows: Sequence[Row], batch_size: int) -> Arrange | None:
        """How an epoch's examples are put in order, None where they stay shuffled. `rows` are those that the examples were made of."""
        ...


@register("order")
class Random(Spec):
    """Shuffled anew in each epoch."""

    name: Literal["random"] = "random"

    @property
    def columns(self) -> list[str]:
        return []

    def arrange(self, examples: Examples, rows: Sequence[Row], batch_size: int) -> Arrange | None:
        return None


@register("order")
class Length(Spec):
    """Batches of examples of like length, so that little is padded.

    The shuffled epoch is cut into stretches of 50 batches, and each is sorted from long to short: what `group_by_length` of
    transformers' Trainer does. Unlike micro-batches of like length, which are always cut and change nothing, this changes what a
    batch holds, and with it the result: a batch of short texts is not a fair sample. It pays where texts differ much in length and
    a whole batch goes through the model at once.
    """

    name: Literal["length"] = "length"

    @property
    def columns(self) -> list[str]:
        return []

    def arrange(self, examples: Examples, rows: Sequence[Row], batch_size: int) -> Arrange | None:
        lengths = np.asarray(examples.lengths)  # (N,)

        def arrange(drawn: np.ndarray, epoch: int) -> np.ndarray:
            size = batch_size * max(1, min(MEGABATCH, len(drawn) // (4 * batch_size)))
            stretches = [drawn[start : start + size] for start in range(0, len(drawn), size)]
            return np.concatenate([own[np.argsort(-lengths[own], kind="stable")] for own in stretches])

        return arrange


@register("order")
class Curriculum(Spec):
    """From easy to hard at first, shuffled afterwards.

    Bengio et al. 2009, "Curriculum Learning" (ICML): a learner that begins with easy examples may find a better minimum, and finds it
    sooner. It helps where labels are noisy or examples differ much in difficulty, which a column of the rows knows best (how far
    annotators agreed, the loss of a smaller model); on clean and even data expect nothing. Examples of equal difficulty are shuffled.
    """

    name: Literal["curriculum"] = "curriculum"

    by: str = Field(default="length", min_length=1)
    """What makes an example hard: a column of numbers, larger ones being harder, or length for its tokens."""

    epochs: int = Field(default=1, ge=1)
    """Epochs that go from easy to hard each, before order is random; 1 or 2."""

    @property
    def columns(self) -> list[str]:
        return [] if self.by == "length" else [self.by]

    def arrange(self, examples: Examples, rows: Sequence[Row], batch_size: int) -> Arrange | None:
        difficulty = self.difficulty(examples, rows)  # (N,)

        def arrange(drawn: np.ndarray, epoch: int) -> np.ndarray:
            return drawn if epoch >= self.epochs else drawn[np.argsort(difficulty[drawn], kind="stable")]

        return arrange

    def difficulty(self, examples: Examples, rows: Sequence[Row]) -> np.ndarray:
        """(N,) Raises DataError naming the rows whose column holds no number."""
        if self.by == "length":
            return np.asarray(examples.lengths, dtype=np.float64)
        numbers = [number(row.values.get(self.by)) for row in rows]
        problems = [
            f"{row.place}: `{self.by}` holds {row.values.get(self.by)!r}"
            for row, value in zip(rows, numbers, strict=True)
            if not math.isfinite(value)
        ]
        if problems:
            raise DataError(
                listing(f"`data.order.by`: numbers are expected in `{self.by}`, which say how hard a row is", problems)
                + "\nFill them in, name another column, or say data.order.by=length."
            )
        return np.array(numbers)[np.asarray(examples.rows)]


def number(value: object) -> float:
    """A cell as a number, NaN where it holds none."""
    try:
        return math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        return math.nan
