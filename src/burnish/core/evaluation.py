"""What an evaluation tells: numbers, tables and matrices, in a form that any shell or report can show without knowing the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows under column names. Numbers stay numbers; whoever shows them formats them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Matrix:
    """Counts of (row label, column label), such as truth against prediction."""

    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    row_name: str = "truth"
    column_name: str = "predicted"
    kind: str = "matrix"


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one part of the data, what is worth showing beside them, and a record for each row."""

    metrics: Mapping[str, float]
    sections: Sequence[Table | Matrix] = ()
    predictions: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    def to_json(self, **facts: Any) -> dict[str, Any]:
        """Everything but the records of single rows, which have a file of their own."""
        return {**facts, "metrics": dict(self.metrics), "sections": [asdict(section) for section in self.sections]}
