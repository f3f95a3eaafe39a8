"""What checks look at: the rows of a recipe, then the same as tokens, then a model that has made a step or two."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np

from burnish import build
from burnish.core.errors import NonFiniteError
from burnish.core.protocols import Learner, Row
from burnish.data import duplicates
from burnish.engine.progress import Plan
from burnish.engine.step import Step
from burnish.recipe import Recipe
from burnish.report.tokens import Summary
from burnish.run.showing import Part, source_of, summary

SHOWN = 3
"""Rows that are named for a fault."""

COMPARED = 40_000_000
"""Characters of a part that are compared with those of others; beyond it each text's beginning alone is, which takes seconds, not minutes."""


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

    @cached_property
    def said(self) -> dict[str, list[duplicates.Text]]:
        """What the rows of each part say, a text for each column."""
        return {name: [self.text(row) for row in rows] for name, rows in self.gathered.rows.items()}

    @cached_property
    def plain(self) -> dict[str, list[tuple[str, ...]]]:
        """The same without what a careless copy changes."""
        return {name: [tuple(map(duplicates.normal, text)) for text in texts] for name, texts in self.said.items()}

    @cached_property
    def beginning(self) -> int | None:
        """How many characters of a text are looked at for texts that are nearly the same; None for all of them."""
        lengths = np.array([len(text) for texts in self.said.values() for row in texts for text in row])
        return None if lengths.sum() <= COMPARED else level(lengths, COMPARED)

    def begun(self, part: str) -> list[duplicates.Text]:
        """What the rows of a part say, as far as it is compared. The digest of the rest is a word of its own: what begins alike is no copy."""
        most = self.beginning
        if most is None:
            return self.said[part]
        return [tuple(t if len(t) <= most else f"{t[:most]} {crc32(t[most:].encode()):x}" for t in row) for row in self.said[part]]

    @cached_property
    def again(self) -> list[tuple[int, int]]:
        """Training rows that say what an earlier one says: (the earlier row's index, its own)."""
        same = duplicates.repeated(self.plain["train"])
        return [(indices[0], index) for indices in same.values() for index in indices[1:]]

    @cached_property
    def nearly_again(self) -> list[duplicates.Twins]:
        """Training rows that say nearly what another one says."""
        return duplicates.near(self.begun("train"))

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
    """The rows as training encodes them, by part, or a sample of them: `whole` holds all rows, `shares` which share of their text is here.
    `limit` is what the model could read at once, `bones` the model without its numbers."""

    parts: Mapping[str, Part]
    whole: build.Gathered
    shares: Mapping[str, float]
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

    @property
    def sampled(self) -> bool:
        """Whether an epoch holds more than what is here."""
        return self.shares["train"] < 1 and self.recipe.data.epoch_rows is None

    def plan(self) -> Plan:
        """When the run ends, evaluates and saves. Raises DataError where the rows do not give what the recipe wants to draw."""
        settings, part = self.recipe.train, self.parts["train"]
        share = self.shares["train"] if self.sampled else 1.0
        taught = build.Taught(self.recipe, self.learner, self.gathered, {"train": part.examples})
        return Plan(
            duration=settings.duration,
            evaluate_every=settings.evaluate_every,
            save_every=settings.save_every,
            steps_per_epoch=math.ceil(build.order(taught).num_examples / share / settings.batch_size),
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


def level(lengths: np.ndarray, budget: int) -> int:
    """The length to which longer texts are cut for all together to have `budget` characters."""
    ordered = np.sort(lengths)
    kept = np.concatenate([[0], np.cumsum(ordered)[:-1]])
    whole = kept + ordered * np.arange(len(ordered), 0, -1)  # what all come to where they are cut to the length of this one
    first = int(np.searchsorted(whole, budget, "right"))
    return int((budget - kept[first]) // (len(ordered) - first)) if first < len(ordered) else int(ordered[-1])


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
