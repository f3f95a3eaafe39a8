"""A model in training or in evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class Training:
    """Training mode for the modules of a model, as far as they let themselves be put there, at each of many steps.

    It is set once, and after that only where a module is found in another: setting it everywhere takes a millisecond under
    adapters. The modules are those that the model has at the first step.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modes: list[tuple[nn.Module, bool]] = []

    def set(self) -> None:
        if not self.modes or any(module.training is not mode for module, mode in self.modes):
            self.model.train()
            self.modes = [(module, module.training) for module in self.model.modules()]


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Within, all modules are in that mode, as far as they let themselves be put there; afterwards each is in its own again."""
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
