"""Lengths of training as people write them: `3ep`, `500st`, `20m`, `6%`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

UNITS = {"ep": "epochs", "st": "steps", "s": "seconds", "m": "minutes", "h": "hours", "%": "percent"}
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ep|st|s|m|h|%)\s*")


@dataclass(frozen=True)
class Duration:
    """A positive number and its unit: epochs (`ep`), steps (`st`), time (`s`, `m`, `h`) or a share (`%`).

    >>> Duration.parse("1.5ep").steps(steps_per_epoch=100)
    150
    >>> str(Duration.parse("20m"))
    '20m'
    """

    value: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Reads `3ep`. Raises ValueError where the text is not a number with a known unit."""
        match = PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a length such as 3ep, 500st, 20m or 6%")
        return cls(float(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}" if self.value < 1e6 else f"{self.value:.0f}{self.unit}"

    @property
    def timed(self) -> bool:
        return self.unit in SECONDS

    @property
    def seconds(self) -> float:
        return self.value * SECONDS[self.unit]

    def steps(self, steps_per_epoch: int = 0, total: float = 0.0) -> int:
        """Whole steps, rounded up: epochs of `steps_per_epoch`, or percent of `total` steps."""
        if self.unit == "st":
            return math.ceil(self.value)
        if self.unit == "ep":
            return math.ceil(self.value * steps_per_epoch - 1e-9)
        if self.unit == "%":
            return math.ceil(self.value / 100 * total - 1e-9)
        raise ValueError(f"{self} is a time and has no fixed number of steps")

    def crossed(self, step: int, steps_per_epoch: int) -> bool:
        """Whether a multiple of this length ends at `step` (steps and epochs only)."""
        length = self.value * (steps_per_epoch if self.unit == "ep" else 1)
        return step > 0 and math.floor(step / length + 1e-9) > math.floor((step - 1) / length + 1e-9)


class Length:
    """Field annotation: a duration in one of `units`; a bare whole number takes the unit `bare`, where given."""

    def __init__(self, units: tuple[str, ...], bare: str | None = None, zero: bool = False) -> None:
        self.units, self.bare, self.zero = units, bare, zero

    def validate(self, value: Any) -> Duration:
        """The duration that a value of a recipe stands for. Raises ValueError with examples of what may stand there."""
        examples = " or ".join(f"`{number}{unit}`" for number, unit in zip((3, 500, 20, 1, 1), self.units, strict=False))
        if isinstance(value, Duration):
            duration = value
        elif (isinstance(value, int) and not isinstance(value, bool) and self.bare) or (
            isinstance(value, str) and self.bare and value.strip().isdigit()
        ):
            duration = Duration(float(value), self.bare)
        elif isinstance(value, str) and PATTERN.fullmatch(value):
            duration = Duration.parse(value)
        else:
            raise ValueError(f"write a number with its unit, such as {examples}; got {value!r}")
        if duration.unit not in self.units:
            raise ValueError(f"{UNITS[duration.unit]} do not serve here; write {examples}")
        if duration.value < 0 or (duration.value == 0 and not self.zero):
            raise ValueError("must not be negative" if self.zero else "must be greater than 0")
        if duration.unit == "%" and duration.value > 100:
            raise ValueError(f"{duration} is more than 100%")
        return duration

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        check: Callable[[Any], Duration] = self.validate
        return core_schema.no_info_plain_validator_function(check, serialization=core_schema.plain_serializer_function_ser_schema(str))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        text = {"type": "string", "pattern": rf"^\d+(\.\d+)?({'|'.join(self.units)})$"}
        return {"anyOf": [text, {"type": "integer", "minimum": 0}]} if self.bare else text


TrainingLength = Annotated[Duration, Length(("ep", "st", "m", "h", "s"))]
WarmupLength = Annotated[Duration, Length(("%", "st"), bare="st", zero=True)]
