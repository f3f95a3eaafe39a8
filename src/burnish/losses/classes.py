"""How much each class counts in a loss. Imports no torch.

Weights are scaled so that their mean over the units of training (rows, or supervised words) is 1. The loss of a batch is divided by
its number of units, however much those weigh, so that its expectation stays that of the whole weighted loss: with any other mean the
weights would be a second learning rate. (torch's own `weight=` divides by the weights in the batch instead, which makes a rare row
count less where another stands beside it.)

Legend: C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from burnish.core.errors import DataError, nearest

BETA = 0.999

Weighing = Literal["balanced", "effective"] | dict[str, float]
"""How classes are weighed, or the weight of each label."""


class ClassWeights:
    """Field annotation: `balanced`, `effective`, or a number over 0 for each label."""

    @staticmethod
    def validate(value: Any) -> str | dict[str, float] | None:
        """Labels become text as they do in rows (`1` and `"1"` are one label). Raises ValueError for what is no weighing."""
        if value is None or value in ("balanced", "effective"):
            return value
        if not isinstance(value, Mapping) or not value:
            raise ValueError(f"write balanced, effective, or a number for each label such as {{spam: 5, ham: 1}}; got {value!r}")
        for label, weight in value.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
                raise ValueError(f"the weight of {label} has to be a number over 0; got {weight!r}")
        return {written(label): float(weight) for label, weight in value.items()}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate, serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        each = {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}}
        return {"anyOf": [{"type": "string", "enum": ["balanced", "effective"]}, each, {"type": "null"}]}


def written(label: Any) -> str:
    """A label as YAML may have read it, as text: `1.0` is "1", `true` is "true"."""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label).lower() if isinstance(label, bool) else str(label)


def balanced(counts: np.ndarray) -> np.ndarray:
    """w_c = N / (C n_c): every class counts as much as every other in all. `counts` (C,) over 0 -> (C,)."""
    return counts.sum() / (len(counts) * counts)


def effective(counts: np.ndarray, beta: float = BETA) -> np.ndarray:
    """w_c = (1 - beta) / (1 - beta^n_c): by the effective number of rows, for many rows of a class tell less than as many times one.

    Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", arXiv:1901.05555, eq. 2. beta = 0 weighs all alike,
    beta towards 1 inversely to the counts; usual are 0.9 to 0.9999. `counts` (C,) over 0 -> (C,).
    """
    return (1 - beta) / -np.expm1(counts * np.log(beta)) if beta else np.ones(len(counts))


def weights(weighing: Weighing, beta: float | None, labels: Sequence[str], counts: np.ndarray) -> np.ndarray:
    """(C,) the weight of each label, with mean 1 over training; `counts` (C,) units of each label in an epoch.

    A label that a mapping does not name weighs 1 before the scaling, one that no unit has weighs 1 after it (it is never asked for).
    Raises DataError for labels that there are not.
    """
    there = counts > 0
    found = np.ones(len(labels))
    if isinstance(weighing, Mapping):
        unknown = [label for label in weighing if label not in labels]
        if unknown:
            known = ", ".join(labels[:20])
            raise DataError(f"`loss.class_weights`: there is no label `{unknown[0]}`{nearest(unknown[0], labels)} (known: {known}).")
        found = np.array([weighing.get(label, 1.0) for label in labels])
    elif weighing == "balanced":
        found[there] = balanced(counts[there])
    else:
        found[there] = effective(counts[there], BETA if beta is None else beta)
    scaled = found * counts.sum() / (found * counts).sum()
    return np.where(there, scaled, 1.0)
