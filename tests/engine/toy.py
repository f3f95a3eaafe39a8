"""A toy task for the engine: rows of tokens, a model of one embedding and one layer, everything in microseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from burnish.core.protocols import Batch, Key

LENGTHS = (3, 9, 1, 4, 30, 7, 2, 12)


@dataclass
class ToyExamples:
    tokens: list[np.ndarray]
    targets: np.ndarray
    cut: dict[str, int] = field(default_factory=dict)
    weights: np.ndarray = field(init=False)
    lengths: np.ndarray = field(init=False)
    rows: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rows = np.arange(len(self.tokens))
        self.weights = np.ones(len(self.tokens))
        self.lengths = np.array([len(tokens) for tokens in self.tokens])

    def __len__(self) -> int:
        return len(self.tokens)


class ToyModel(nn.Module):
    """Scores the mean of the embedded tokens; counts its calls in a buffer that is saved, and may drop out."""

    def __init__(self, width: int = 6, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, 1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        weights = mask / mask.sum(dim=1, keepdim=True)  # (B, T)
        mean = (self.embedding(input_ids) * weights[..., None]).sum(dim=1)  # (B, D)
        return self.head(self.dropout(torch.tanh(self.norm(mean))))  # (B, 1)


class ToyObjective:
    """Squared error; `squared` may be replaced to break it."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.error: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = lambda outputs, targets: (outputs[:, 0] - targets) ** 2

    def collate(self, examples: ToyExamples, indices: Sequence[int], key: Key) -> Batch:
        self.groups.append(list(indices))
        longest = max(len(examples.tokens[index]) for index in indices)
        ids = np.zeros((len(indices), longest), dtype=np.int64)
        mask = np.zeros((len(indices), longest), dtype=np.float32)
        for row, index in enumerate(indices):
            ids[row, : len(examples.tokens[index])] = examples.tokens[index]
            mask[row, : len(examples.tokens[index])] = 1
        inputs = {"input_ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}
        targets = {"labels": torch.from_numpy(examples.targets[list(indices)])}
        return Batch(inputs, targets, list(indices), float(len(indices)), int(mask.sum()))

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return self.error(self.outputs(model, batch), batch.targets["labels"])

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return model(**batch.inputs)


def toy_examples(lengths: Sequence[int] = LENGTHS) -> ToyExamples:
    draw = np.random.default_rng(4)
    return ToyExamples([draw.integers(1, 40, size=length) for length in lengths], draw.normal(size=len(lengths)).astype(np.float32))
