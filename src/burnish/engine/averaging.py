"""A running average of the weights, which is measured and kept in place of the weights that learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from burnish.core.protocols import Technique


class Average(Technique):
    """Exponential moving average (EMA) of every parameter that learns:

        a = d a + (1 - d) w  after each update,  d = min(decay, (1 + t) / (10 + t)) at update t (from 0).

    An average over about 1 / (1 - decay) steps: it takes the noise of single batches out of the weights, as a falling learning
    rate does, and helps most where batches are small and the rate stays high. The smaller d at first is a warm-up, as TensorFlow
    has it, without which an average of 1,000 steps would hold a short run back at its starting point. It costs another copy of what
    learns. Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; usual decays are 0.99 to 0.9999.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, decay: float) -> None:
        self.decay = decay
        groups = optimizer.param_groups
        self.parameters = {name: weight for group in groups for name, weight in zip(group["names"], group["params"], strict=True)}
        self.average = {name: at_least_single(weight.detach().clone()) for name, weight in self.parameters.items()}

    def share(self, step: int) -> float:
        """1 - d: what the weights after update `step` count in the average."""
        return 1 - min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def updated(self, step: int) -> None:
        share = self.share(step)
        for name, weight in self.parameters.items():
            self.average[name].lerp_(weight.to(self.average[name]), share)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The averages stand in the model for a while; nothing is copied where they have its number format."""
        learning = {name: weight.data for name, weight in self.parameters.items()}
        try:
            for name, weight in self.parameters.items():
                weight.data = self.average[name].to(weight.dtype)
            yield
        finally:
            for name, weight in self.parameters.items():
                weight.data = learning[name]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return dict(self.average), {}

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        for name, tensor in self.average.items():
            tensor.copy_(tensors[name])


def at_least_single(tensor: torch.Tensor) -> torch.Tensor:
    """In float32 or finer: steps of (1 - d) times a difference are lost in 16 bits."""
    return tensor if tensor.dtype.itemsize >= 4 else tensor.float()
