"""What training makes smaller: the task's own likelihood, or a loss that the recipe names in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from burnish.core.protocols import Batch, Key, Learner
from burnish.losses.likelihood import Pointwise, by_example

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Reshaped:
    """A learner whose choices cost something else than their cross-entropy while it trains. Evaluation knows nothing of it."""

    learner: Learner
    loss: Pointwise

    def collate(self, examples: Any, indices: Sequence[int], key: Key) -> Batch:
        return self.learner.collate(examples, indices, key)

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        choices = self.learner.choices(self.learner.forward(model, batch), batch)
        return by_example(choices, len(batch.examples), self.loss)  # (B,)

    def outputs(self, model: nn.Module, batch: Batch) -> Sequence[torch.Tensor]:
        return self.learner.outputs(model, batch)
