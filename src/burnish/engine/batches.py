"""Which examples make a step, and how a step is cut into micro-batches. Both are pure functions; neither changes the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

Draw = Callable[[int], np.ndarray]
"""Epoch -> the examples that it holds, always as many."""

Arrange = Callable[[np.ndarray, int], np.ndarray]
"""The shuffled examples of an epoch, and its number -> the same examples in the order in which batches are cut from them."""


@dataclass(frozen=True)
class Order:
    """The order of the data: a function of (seed, epoch) alone, the same however many devices or micro-batches there are.

    An epoch holds `num_examples`: what `draw` gives, or without it each example once. They are shuffled, arranged, cut into batches.
    """

    num_examples: int
    batch_size: int
    seed: int
    draw: Draw | None = None
    arrange: Arrange | None = None

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_examples / self.batch_size)

    def batch(self, step: int) -> list[int]:
        """The examples of step `step` (counted from 0). The last batch of an epoch may be smaller."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return sequence(self, epoch)[position * self.batch_size : (position + 1) * self.batch_size].tolist()


@lru_cache(maxsize=2)
def sequence(order: Order, epoch: int) -> np.ndarray:
    """The examples of an epoch, in order."""
    shuffle = np.random.default_rng([order.seed, epoch]).permutation(order.num_examples)
    drawn = shuffle if order.draw is None else order.draw(epoch)[shuffle]
    return drawn if order.arrange is None else order.arrange(drawn, epoch)


@dataclass(frozen=True)
class Budget:
    """How large a micro-batch may be: at most so many examples, or so many token positions (padding included, where it is `padded`)."""

    size: int
    unit: str = "tok"
    padded: bool = True

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads what `str` wrote."""
        unit = "tok" if text.endswith("tok") else "ex"
        return cls(int(text.removesuffix(unit)), unit)

    def fits(self, num_examples: int, longest: int) -> bool:
        return (num_examples if self.unit == "ex" else num_examples * longest) <= self.size

    def taken(self, lengths: Sequence[int]) -> int:
        """What a group of examples of these lengths takes of the budget."""
        if self.unit == "ex":
            return len(lengths)
        return len(lengths) * max(lengths) if self.padded else sum(lengths)

    def halved(self, lengths: Sequence[int]) -> Budget | None:
        """Half of what the largest of these examples' micro-batches took, or None where it was a single example."""
        groups = [[lengths[position] for position in group] for group in micro_batches(lengths, self)]
        largest = max(groups, key=replace(self, unit="tok").taken)
        if len(largest) == 1:
            return None
        return replace(self, size=self.taken(largest[: len(largest) // 2]))

    def __str__(self) -> str:
        return f"{self.size}{self.unit}"


def micro_batches(lengths: Sequence[int], budget: Budget) -> list[list[int]]:
    """Groups of positions in `lengths`, longest first, each within `budget`; a single example always fits.

    Examples of like length stand together, so that little is padded.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        if groups and budget.taken([lengths[other] for other in (*groups[-1], position)]) <= budget.size:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


def positions(lengths: Sequence[int], budget: Budget) -> int:
    """Token positions that a batch takes when it is cut within `budget`, padding included where there is any."""
    whole = replace(budget, unit="tok")
    return sum(whole.taken([lengths[position] for position in group]) for group in micro_batches(lengths, budget))


class MicroBatch:
    """Field annotation: `auto`, a number of examples, or a number of token positions such as `4096tok`."""

    @staticmethod
    def validate(value: Any) -> Budget | None:
        if value is None or value == "auto":
            return None
        text = str(value).strip().replace("_", "")
        digits = text.removesuffix("tok")
        if isinstance(value, bool) or not digits.isdigit() or int(digits) < 1:
            raise ValueError(f"write auto, a number of examples (8) or of token positions (4096tok); got {value!r}")
        return Budget(int(digits), "tok" if text.endswith("tok") else "ex")

    @staticmethod
    def written(budget: Budget | None) -> str | int:
        return "auto" if budget is None else budget.size if budget.unit == "ex" else str(budget)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate, serialization=core_schema.plain_serializer_function_ser_schema(self.written)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\d+tok$"}]}


MicroBatchSize = Annotated[Budget | None, MicroBatch()]
