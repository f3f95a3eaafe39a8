"""The three things that a row's label can be: one label, several labels, a number.

Legend: N rows, B rows of a batch, C labels (1 for a number).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from burnish.core.evaluation import Matrix, Table
from burnish.core.protocols import Choices
from burnish.metrics import classification

if TYPE_CHECKING:
    import torch

THRESHOLD = 0.5


class Problem(Protocol):
    """What differs between the kinds of label; everything else of the task is the same."""

    @property
    def metrics(self) -> Mapping[str, bool]: ...

    @property
    def hf_name(self) -> str: ...

    def read(self, value: Any) -> Any:
        """The label in a cell: a name, a tuple of names, or a number. Raises ValueError with what is wrong."""
        ...

    def target(self, label: Any, index: Mapping[str, int]) -> Any:
        """What the loss compares with. Raises KeyError where a label is unknown."""
        ...

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor: ...

    def choices(self, outputs: torch.Tensor, targets: torch.Tensor) -> list[Choices]: ...

    def decode(self, outputs: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]: ...

    def score(self, outputs: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> tuple[dict[str, float], list[Table | Matrix]]: ...


def name_of(value: Any) -> str:
    """A label as text: `1`, `1.0` and `"1"` are the same label. Raises ValueError where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise ValueError("is missing")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (list, tuple, dict)):
        raise ValueError(f"holds several values ({value!r}); for rows with several labels say task.problem=multi_label")
    text = str(value).strip()
    if not text:
        raise ValueError("is empty")
    return text


@dataclass(frozen=True)
class SingleLabel:
    """Exactly one label a row: softmax and cross-entropy."""

    metrics = classification.SINGLE_LABEL
    hf_name = "single_label_classification"

    def read(self, value: Any) -> str:
        return name_of(value)

    def target(self, label: str, index: Mapping[str, int]) -> np.int64:
        return np.int64(index[label])

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        from burnish.losses.likelihood import cross_entropy

        return cross_entropy(outputs, targets)

    def choices(self, outputs: torch.Tensor, targets: torch.Tensor) -> list[Choices]:
        from burnish.losses.likelihood import one_each

        return [one_each(outputs, targets)]

    def decode(self, outputs: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
        shifted = outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True)
        probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)  # (N, C)
        return [
            {"label": labels[best], "score": float(row[best]), "probabilities": dict(zip(labels, row.tolist(), strict=True))}
            for row, best in zip(probabilities, probabilities.argmax(axis=1), strict=True)
        ]

    def score(self, outputs: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> tuple[dict[str, float], list[Table | Matrix]]:
        return classification.single_label(outputs.argmax(axis=1), targets, labels)


@dataclass(frozen=True)
class MultiLabel:
    """Any number of labels a row, none too: a sigmoid and binary cross-entropy for each label."""

    separator: str
    metrics = classification.MULTI_LABEL
    hf_name = "multi_label_classification"

    def read(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [part for part in value.split(self.separator) if part.strip()]
        elif value is None:
            raise ValueError("is missing (a row without labels has an empty list or text)")
        elif not isinstance(value, (list, tuple)):
            value = [value]
        return tuple(name_of(part) for part in value)

    def target(self, label: tuple[str, ...], index: Mapping[str, int]) -> np.ndarray:
        hot = np.zeros(len(index), dtype=np.float32)
        hot[[index[name] for name in label]] = 1
        return hot

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        from burnish.losses.likelihood import binary_cross_entropy

        return binary_cross_entropy(outputs, targets)

    def choices(self, outputs: torch.Tensor, targets: torch.Tensor) -> list[Choices]:
        from burnish.losses.likelihood import of_labels

        return [of_labels(outputs, targets)]

    def decode(self, outputs: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
        probabilities = 1 / (1 + np.exp(-outputs.astype(np.float64)))  # (N, C)
        return [
            {
                "labels": [label for label, p in zip(labels, row, strict=True) if p >= THRESHOLD],
                "probabilities": dict(zip(labels, row.tolist(), strict=True)),
            }
            for row in probabilities
        ]

    def score(self, outputs: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> tuple[dict[str, float], list[Table | Matrix]]:
        return classification.multi_label((outputs >= 0).astype(int), targets.astype(int), labels)


@dataclass(frozen=True)
class Regression:
    """A number a row: squared error."""

    metrics = classification.REGRESSION
    hf_name = "regression"

    def read(self, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError("is missing" if value in (None, "") else f"{value!r} is not a number") from None
        if not math.isfinite(number):
            raise ValueError(f"{value!r} is not a finite number")
        return number

    def target(self, label: float, index: Mapping[str, int]) -> np.ndarray:
        return np.array([label], dtype=np.float32)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        from burnish.losses.likelihood import squared_error

        return squared_error(outputs, targets)

    def choices(self, outputs: torch.Tensor, targets: torch.Tensor) -> list[Choices]:
        return []

    def decode(self, outputs: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
        return [{"value": float(value)} for value in outputs[:, 0]]

    def score(self, outputs: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> tuple[dict[str, float], list[Table | Matrix]]:
        return classification.regression(outputs[:, 0].astype(np.float64), targets[:, 0].astype(np.float64))
