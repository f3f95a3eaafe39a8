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
    from burnish.core.generation import Generation
    from burnish.core.view import View

IGNORED = -100
"""The label of a token that is not supervised, as everywhere in transformers."""

Key = tuple[int, ...]
"""What a random draw depends on: (seed, step) in training, one and the same in every evaluation."""


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
    """A micro-batch: the model's inputs, what the loss compares with, which examples these are, and their supervised units."""

    inputs: dict[str, torch.Tensor]
    targets: dict[str, torch.Tensor]
    examples: Sequence[int]
    weight: float
    tokens: int

    @property
    def slots(self) -> int:
        """Token positions that the model computes, padding included."""
        return sum(int(tensor.numel()) for name, tensor in self.inputs.items() if name.endswith("input_ids"))


class Examples(Protocol):
    """What rows became: units of learning. A row may give several (windows of a long text).

    For each example its length in tokens, its supervised units (1, or tokens; where they are drawn anew at each step, whether
    there can be any), and the index of its row; and how many rows were cut, by how they were.
    """

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def weights(self) -> np.ndarray: ...

    @property
    def rows(self) -> np.ndarray: ...

    @property
    def cut(self) -> Mapping[str, int]: ...

    def __len__(self) -> int: ...


class Objective(Protocol):
    """What the engine needs to know of a task: batches, a loss for each example that sums over its supervised units, and outputs."""

    def collate(self, examples: Any, indices: Sequence[int], key: Key) -> Batch:
        """Whatever is drawn at random for an example (masks) is drawn from (key, index), so that the split draws the same."""
        ...

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B,) summed over an example's units, so that the sum over the global batch divided by its weight is the loss."""
        ...

    def outputs(self, model: nn.Module, batch: Batch) -> Sequence[torch.Tensor]:
        """One tensor an example: what is collected over a part of the data to evaluate or predict."""
        ...


@dataclass(frozen=True)
class Written:
    """Token ids that a model wrote, without the token that ended them, and whether it ended by itself."""

    ids: Sequence[int]
    ended: bool


class Inference(Protocol):
    """A model as a task may use it: the engine batches, places, seeds and shows progress."""

    def outputs(self, examples: Any) -> list[np.ndarray]:
        """The learner's outputs of every example, in order."""
        ...

    def generate(self, prompts: Sequence[Sequence[int]], generation: Generation) -> list[Written]:
        """What the model writes after each prompt (or, encoder-decoder, for each source), in order."""
        ...


class Learner(Objective, Protocol):
    """A task that has met its data and its tokenizer: encodes rows, scores a model, predicts.

    `task` is its spec completed by what the data taught (such as the labels), enough to make the learner again without data;
    `auto_class` and `config` say which head transformers puts on the model, `generation` what of its generation settings is to
    be saved with it; `foretold` says whether the task can be tried before training, so that before and after can be compared.
    The tokenizer's `model_max_length` is the number of tokens that an example may have.
    """

    task: Any
    tokenizer: Any
    auto_class: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    foretold: bool

    def encode(self, rows: Sequence[Row], labelled: bool = True) -> Examples: ...

    def evaluate(self, inference: Inference, examples: Any, rows: Sequence[Row]) -> Evaluation: ...

    def predict(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]: ...

    def view(self, examples: Any, index: int) -> View:
        """An example as the model gets it, for people to look at."""
        ...


class Task(Protocol):
    """The recipe's side of a task: which columns it reads, which rows it cannot use, and how it becomes a Learner."""

    @property
    def metrics(self) -> Mapping[str, bool]:
        """Name of each metric -> whether more is better."""
        ...

    def columns(self, labelled: bool) -> list[str]:
        """The columns that every row must have; none where the task finds out for itself."""
        ...

    def fault(self, row: Row, labelled: bool) -> str | None:
        """Why a row cannot be used, or None."""
        ...

    def stratum(self, row: Row) -> Hashable:
        """What a split keeps the shares of: the label, or one and the same where there is none."""
        ...

    def bind(self, train: Sequence[Row], watched: Sequence[Row], tokenizer: Any) -> Learner:
        """Learns labels and the like from the training rows, and teaches the tokenizer what the task needs (tokens, a template).

        Raises DataError where the watched rows do not fit.
        """
        ...


@dataclass(frozen=True)
class Anatomy:
    """Where a model keeps its embeddings, blocks and head: names of parameters and modules, lowest block first.

    `fresh` are parameters that no pretrained weights filled, `new_tokens` ids that the task added to the vocabulary: those have to
    learn, whatever else does.
    """

    embeddings: Sequence[str]
    blocks: Sequence[Sequence[str]]
    head: Sequence[str]
    block_modules: Sequence[str] = ()
    linears: Sequence[str] = ()
    head_modules: Sequence[str] = ()
    fresh: Sequence[str] = ()
    new_tokens: Sequence[int] = ()

    def role(self, name: str) -> str:
        """`embeddings`, `block 1` or `head`, for a parameter of the model or for one that a method hung into it."""
        for number, (module, own) in enumerate(zip(self.block_modules, self.blocks, strict=True), start=1):
            if name.startswith(module + ".") or name in own:
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
