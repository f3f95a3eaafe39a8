"""Fixtures of the engine's tests, around the toy task of `toy.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy import ToyModel, ToyObjective, toy_examples

from burnish.core.rundir import RunFolder
from burnish.engine.batches import Budget
from burnish.engine.runtime import Runtime
from burnish.engine.step import Step
from burnish.optim.groups import parameter_groups


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_step() -> Callable[..., Step]:
    """A step over the toy examples; keyword arguments replace its parts."""

    def make(model: nn.Module | None = None, lr: float = 0.01, budget: Budget | None = None, precision: str = "fp32", **parts: Any) -> Step:
        torch.manual_seed(8)
        model = model or ToyModel()
        optimizer = torch.optim.AdamW(parameter_groups(model, lr, 0.1), lr=lr, fused=True)
        given = {"objective": ToyObjective(), "examples": toy_examples(), "runtime": Runtime("cpu", precision), **parts}
        return Step(model=model, optimizer=optimizer, budget=budget or Budget(8, "ex"), **given)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", "model: none\n")
