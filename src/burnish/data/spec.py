"""The recipe's `data` section."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from burnish.core.spec import Spec


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

    train: Annotated[str, Field(min_length=1)]
    """Training rows: a csv, tsv, json or jsonl file (each also .gz), parquet, bundled:NAME, or hub:DATASET[:CONFIG]:SPLIT."""

    validation: Annotated[str | int | None, Part()] = None
    """Rows to watch training and choose by: a file, or a share (10%) or number of rows cut from training, by label."""

    test: Annotated[str | int | None, Part()] = None
    """Rows to measure the finished model on: opened once, at the end. A file, a share, or a number of rows."""

    limit: int | None = Field(default=None, ge=1)
    """Train on so many rows only, after a seeded shuffle; all rows by default."""

    max_length: int | None = Field(default=None, ge=3)
    """Tokens a row may have; longer rows are cut at the end. By default what the model can read."""

    bad_rows: Literal["refuse", "drop"] = "refuse"
    """What to do with rows that cannot be used (empty text, no label, nothing to learn from): refuse the run and name them, or drop and count them."""

    processes: int | None = Field(default=None, ge=1)
    """Processes that tokenize; by default one a core where there is much to do."""

    seed: int = Field(default=0, ge=0)
    """Seed of the split and of the shuffle before `limit`; separate from train.seed, so that seeds share their rows."""
