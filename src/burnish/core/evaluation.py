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
class Sample:
    """What a model wrote for one row: its prompt, its answer, the answer hoped for, and whether it ended by itself."""

    row: int
    prompt: str
    answer: str
    reference: str = ""
    ended: bool | None = None


@dataclass(frozen=True)
class Samples:
    """Texts that the model wrote. Taken before and after training on the same rows, they can be laid side by side."""

    title: str
    samples: Sequence[Sample]
    note: str = ""
    kind: str = "samples"


Section = Table | Matrix | Samples


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one part of the data, what is worth showing beside them, and a record for each row."""

    metrics: Mapping[str, float]
    sections: Sequence[Section] = ()
    predictions: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    def to_json(self, **facts: Any) -> dict[str, Any]:
        """Everything but the records of single rows, which have a file of their own."""
        return {**facts, "metrics": dict(self.metrics), "sections": [asdict(section) for section in self.sections]}
