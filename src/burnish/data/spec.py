"""The recipe's `data` section."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from burnish.core.protocols import Chosen
from burnish.core.spec import Choice, Spec
from burnish.data.augment.spec import Augment
from burnish.data.order import Random

UNBALANCED = {
    "labels": "a row of multi_label may have several",
    "number": "rows with a number have none",
    **dict.fromkeys(("word", "token", "place"), "rows of this task have none"),
}
"""Why rows cannot be balanced, by what the task chooses."""


class Part:
    """Field annotation: a source of rows, or a share (`10%`) or number of rows to cut from training."""

    @staticmethod
    def validate(value: Any) -> str | int | None:
        """A source, a share, a number of rows, or None. Raises ValueError for anything else."""
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise ValueError("a number of rows must be at least 1")
            return value
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"write a file, a share such as 10%, or a number of rows; got {value!r}")
        if value.strip().isdigit():
            return Part.validate(int(value))
        if value.strip().endswith("%"):
            share(value)
        return value.strip()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate, serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "null"}]}


class Sources:
    """Field annotation: one source of rows, or a mapping of several to their weights."""

    @staticmethod
    def validate(value: Any) -> str | dict[str, float]:
        """A source, or sources with weights over 0. Raises ValueError for anything else."""
        if isinstance(value, str) and value.strip():
            return value.strip()
        if not isinstance(value, Mapping) or not value:
            raise ValueError(f"write a file, or several with their weights such as {{a.csv: 2, b.csv: 1}}; got {value!r}")
        for source, weight in value.items():
            if not isinstance(source, str) or not source.strip():
                raise ValueError(f"{source!r} is no source of rows")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
                raise ValueError(f"the weight of {source} has to be a number over 0; got {weight!r}")
        return {source.strip(): float(weight) for source, weight in value.items()}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate, serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        weights = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "number", "exclusiveMinimum": 0}}
        return {"anyOf": [{"type": "string"}, weights]}


def share(text: str) -> float:
    """`10%` -> 0.1. Raises ValueError where it is not a share between 0% and 100%."""
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        raise ValueError(f"{text!r} is not a share such as 10%") from None
    if not 0 < value < 1:
        raise ValueError(f"{text} is not between 0% and 100%")
    return value


def held_out(part: str | int | None, total: int) -> int | None:
    """How many of `total` rows a part cuts from training; None where the part is a source of its own, or absent."""
    if isinstance(part, int):
        return part
    if isinstance(part, str) and part.endswith("%"):
        return max(1, round(share(part) * total))
    return None


class Data(Spec):
    """Where the rows come from, and which of them are used."""

    train: Annotated[str | dict[str, float], Sources()]
    """Training rows: a csv, tsv, json or jsonl file (each also .gz), parquet, bundled:NAME, or hub:DATASET[:CONFIG]:SPLIT; a mixture names several with their weights ({a.csv: 2, b.csv: 1}), by which every epoch draws from them."""

    validation: Annotated[str | int | None, Part()] = None
    """Rows to watch training and choose by: a file, or a share (10%) or number of rows cut from training, by label."""

    test: Annotated[str | int | None, Part()] = None
    """Rows to measure the finished model on: opened once, at the end. A file, a share, or a number of rows."""

    limit: int | None = Field(default=None, ge=1)
    """Train on so many rows only, after a seeded shuffle; all rows by default."""

    balance: Literal["oversample", "undersample", "batches"] | None = None
    """Labels that are to come equally often in an epoch: oversample repeats the rows of rare ones, undersample takes only some rows of frequent ones (others in each epoch), batches also evens out every batch of an epoch as long as ever; null takes rows as they are."""

    epoch_rows: int | None = Field(default=None, ge=1)
    """Rows (or windows of them, where texts are long) that an epoch draws from a mixture of sources; by default as many as there are in all."""

    order: Annotated[Any, Choice("order")] = Random()
    """Order of the rows in an epoch: random, length (batches of like length), or curriculum (from easy to hard at first)."""

    max_length: int | None = Field(default=None, ge=3)
    """Tokens a row may have; longer rows are cut at the end. By default what the model can read."""

    augment: Augment | None = None
    """Training rows in other words, drawn anew at every step: {steps: [synonyms, swap], share: 0.5}; by default rows are as they are."""

    bad_rows: Literal["refuse", "drop"] = "refuse"
    """What to do with rows that cannot be used (empty text, no label, nothing to learn from): refuse the run and name them, or drop and count them."""

    processes: int | None = Field(default=None, ge=1)
    """Processes that tokenize; by default one a core where there is much to do."""

    seed: int = Field(default=0, ge=0)
    """Seed of the split and of the shuffle before `limit`; separate from train.seed, so that seeds share their rows."""

    def faults(self) -> list[str]:
        """Settings of this section that do not go together."""
        problems, mixture = [], not isinstance(self.train, str)
        if self.epoch_rows is not None and not mixture:
            problems.append("`data.epoch_rows` is for a mixture of sources; to train on fewer rows say data.limit")
        if self.balance is not None and mixture:
            problems.append(
                "`data.balance`: the weights of a mixture decide already what an epoch draws; balance the labels of a single source, or weigh "
                "them with loss.class_weights"
            )
        if self.balance == "batches" and self.order.name != "random":
            problems.append(f"`data.balance`: batches and data.order={self.order.name} both decide what a batch holds: take oversample")
        return problems

    def balance_fault(self, chosen: Chosen) -> str | None:
        """Why a task's rows cannot be balanced, or None where they can or need not be."""
        if self.balance is None or chosen == "row":
            return None
        return f"rows are balanced by their label, and {UNBALANCED[chosen]}: leave it out"
