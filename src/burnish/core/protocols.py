"""The concepts that parts of Burnish share, each small enough to read at a glance.

Legend: B examples in a micro-batch, T tokens, C outputs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from burnish.core.evaluation import Evaluation


@dataclass(slots=True)
class Row:
    """One row of a data file, and where it stands (`number` counts rows from 1, `line` is the line of a text file)."""

    values: dict[str, Any]
    file: str
    number: int
    line: int | None = None

    @property
    def place(self) -> str:
        return f"{self.file} row {self.number}" + (f" (line {self.line})" if self.line else "")


@dataclass
class Batch:
    """A micro-batch: the model's inputs, what the loss compares with, and which examples these are."""

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor
    examples: Sequence[int]
    weight: float
    tokens: int

    @property
    def slots(self) -> int:
        """Token positions that the model computes, padding included."""
        return int(self.inputs["input_ids"].numel())


class Examples(Protocol):
    """Encoded rows: how long each is in tokens, how many supervised units (examples or tokens) it has, how many rows were cut."""

    lengths: np.ndarray
    weights: np.ndarray
    truncated: int

    def __len__(self) -> int: ...


class Objective(Protocol):
    """What the engine needs to know of a task: batches, and a loss for each example that sums over its supervised units."""

    def collate(self, examples: Any, indices: Sequence[int]) -> Batch: ...

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B,) summed over an example's units, so that the sum over the global batch divided by its weight is the loss."""
        ...


class Learner(Objective, Protocol):
    """A task that has met its data: encodes rows, scores outputs, predicts.

    `task` is its spec completed by what the data taught (such as the labels), enough to make the learner again without data;
    `auto_class` and `config` say which head transformers puts on the model.
    """

    task: Any
    auto_class: str
    config: Mapping[str, Any]

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int, labelled: bool = True) -> Examples: ...

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B, C), what is collected over a part of the data to evaluate or predict."""
        ...

    def evaluate(self, outputs: np.ndarray, examples: Any, rows: Sequence[Row]) -> Evaluation: ...

    def predictions(self, outputs: np.ndarray) -> list[dict[str, Any]]: ...


class Task(Protocol):
    """The recipe's side of a task: which columns it reads, which rows it cannot use, and how it becomes a Learner."""

    @property
    def metrics(self) -> Mapping[str, bool]:
        """Name of each metric -> whether more is better."""
        ...

    def columns(self, labelled: bool) -> list[str]: ...

    def fault(self, row: Row, labelled: bool) -> str | None:
        """Why a row cannot be used, or None."""
        ...

    def stratum(self, row: Row) -> Hashable:
        """What a split keeps the shares of: the label, or one and the same where there is none."""
        ...

    def bind(self, train: Sequence[Row], watched: Sequence[Row]) -> Learner:
        """Learns labels and the like from the training rows. Raises DataError where the watched rows do not fit them."""
        ...


@dataclass(frozen=True)
class Anatomy:
    """Where a model keeps its embeddings, blocks and head: names of parameters and modules, lowest block first."""

    embeddings: Sequence[str]
    blocks: Sequence[Sequence[str]]
    head: Sequence[str]
    block_modules: Sequence[str] = ()
    linears: Sequence[str] = ()
    head_modules: Sequence[str] = ()

    def role(self, name: str) -> str:
        """`embeddings`, `block 1` or `head`, for a parameter of the model or for one that a method hung into it."""
        for number, module in enumerate(self.block_modules, start=1):
            if name.startswith(module + "."):
                return f"block {number}"
        return "embeddings" if name in self.embeddings else "head"


class Method(Protocol):
    """Decides which parameters learn, and in which form, and saves what they became as a folder that transformers loads."""

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        """The model to train, in which exactly the chosen parameters require a gradient."""
        ...

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        """`base` are the files of the pretrained weights, None where some fresh weights are in no file."""
        ...


class Optimizer(Protocol):
    """The recipe's side of an optimizer; `groups` are parameter groups as torch takes them."""

    lr: float
    weight_decay: float

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer: ...


class Schedule(Protocol):
    """The factor on every learning rate after `position` of `total` (steps, or milliseconds of a timed run)."""

    def factor(self, position: float, total: float) -> float: ...
