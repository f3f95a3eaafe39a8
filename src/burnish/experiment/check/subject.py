"""What checks look at: the rows of a recipe, then the same as tokens, then a model that has made a step or two."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from burnish import build
from burnish.core.errors import NonFiniteError
from burnish.core.protocols import Learner, Row
from burnish.engine.progress import Plan
from burnish.engine.step import Step
from burnish.recipe import Recipe
from burnish.report.tokens import Summary
from burnish.run.showing import Part, source_of, summary

SHOWN = 3
"""Rows that are named for a fault."""


@dataclass(frozen=True)
class Read:
    """A recipe and its usable rows; `hoped` is the difference in scores, in points, that is hoped for."""

    recipe: Recipe
    gathered: build.Gathered
    hoped: float

    @property
    def train(self) -> list[Row]:
        return self.gathered.rows["train"]

    @property
    def held(self) -> dict[str, list[Row]]:
        """The rows that are not trained on, by part: of a test only a share that is cut from training, for a file stays closed."""
        return {name: rows for name, rows in self.gathered.rows.items() if name != "train"}

    def text(self, row: Row) -> tuple[str, ...]:
        """What a row gives the model to read, a text for each column."""
        return tuple(written(row.values.get(column)) for column in self.recipe.task.columns(False) or row.values)

    def truth(self, row: Row) -> tuple[str, ...]:
        """What is to be learned of a row, where that stands in columns of its own."""
        task = self.recipe.task
        return tuple(written(row.values.get(column)) for column in task.columns(True) if column not in task.columns(False))


@dataclass(frozen=True)
class Bound(Read):
    """The same, the task completed by what rows and tokenizer taught; `known` is how many tokens the tokenizer had before the task added
    its own."""

    learner: Learner
    known: int


@dataclass(frozen=True)
class Tokens(Bound):
    """The rows as training encodes them, by part. `limit` is what the model could read at once, `bones` the model without its numbers."""

    parts: Mapping[str, Part]
    limit: int
    bones: Any = field(repr=False)

    @property
    def tokenizer(self) -> Any:
        return self.learner.tokenizer

    @property
    def max_length(self) -> int:
        return int(self.tokenizer.model_max_length)

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """What each part comes to, counted once for all checks."""
        return {name: summary(part, source_of(self.recipe, name)) for name, part in self.parts.items()}

    def plan(self) -> Plan:
        """When the run ends, evaluates and saves. Raises DataError where the rows do not give what the recipe wants to draw."""
        settings, part = self.recipe.train, self.parts["train"]
        taught = build.Taught(self.recipe, self.learner, self.gathered, {"train": part.examples})
        return Plan(
            duration=settings.duration,
            evaluate_every=settings.evaluate_every,
            save_every=settings.save_every,
            steps_per_epoch=build.order(taught).steps_per_epoch,
            schedule=self.recipe.schedule,
            watched="validation" in self.parts,
            patience=settings.patience,
        )


@dataclass(frozen=True)
class Tried:
    """A model that has made a step or two as training makes them.

    `losses` are those of the first batch's examples before the first step, in nats a supervised unit; `asked` the parameters that were to
    get a gradient, `reached` those that got one, `leaked` frozen ones that got one, `moved` frozen ones that changed; `fault` is why a
    step was not made. Names are those of parameters.
    """

    tokens: Tokens
    parts: build.Parts
    step: Step
    batch: Sequence[int]
    losses: np.ndarray
    loss: float
    asked: set[str]
    reached: set[str]
    leaked: set[str]
    moved: set[str]
    fault: NonFiniteError | None = None


def written(value: Any) -> str:
    """A cell as text: of messages and lists what stands in them."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    if isinstance(value, Mapping):
        inner = value.get("content", value.get("value"))
        return written(inner) if inner is not None else " ".join(written(each) for each in value.values())
    if isinstance(value, (list, tuple)):
        return " ".join(written(each) for each in value)
    return "" if value is None else str(value)


def places(rows: Iterable[Row]) -> str:
    """The first of some rows, by file and number."""
    found = list(rows)
    return ", ".join(row.place for row in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
