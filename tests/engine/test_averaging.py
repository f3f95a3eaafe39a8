"""The running average of weights: its formula, against torch's own; what is measured and kept; resumed exactly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from burnish.engine.averaging import Average


def optimizer_of(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    names, weights = zip(*model.named_parameters(), strict=True)
    return torch.optim.SGD([{"params": list(weights), "names": list(names), "initial_lr": lr}], lr=lr)


def trained(model: nn.Module, average: Average, optimizer: torch.optim.Optimizer, steps: range, peer: Any = None) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(4, 3, generator=generator)).square().sum().backward()
        optimizer.step()
        average.updated(step)
        if peer is not None:
            peer.update_parameters(model)


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_is_that_of_torch(decay: float) -> None:
    model = nn.Linear(3, 2)
    optimizer = optimizer_of(model)

    def warming(average: torch.Tensor, weight: torch.Tensor, seen: Any) -> torch.Tensor:
        now = min(decay, (1 + int(seen) - 1) / (10 + int(seen) - 1))
        return now * average + (1 - now) * weight

    peer = torch.optim.swa_utils.AveragedModel(model, avg_fn=warming)
    peer.update_parameters(model)  # its first call only copies: what is averaged begins with the weights before the first step
    average = Average(optimizer, decay)
    trained(model, average, optimizer, range(20), peer)
    for name, weight in peer.module.named_parameters():
        torch.testing.assert_close(average.average[name], weight.data)
        assert not torch.equal(average.average[name], model.get_parameter(name))


def test_after_its_warm_up_the_average_forgets_at_the_rate_of_its_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    average = Average(optimizer_of(model), 0.9)
    with torch.no_grad():
        model.weight.fill_(1.0)
    gaps = []
    for step in range(1000, 1020):
        average.updated(step)
        gaps.append(1 - float(average.average["weight"]))
    assert gaps == pytest.approx([0.9 ** (n + 1) for n in range(20)], rel=1e-5)


def test_the_average_stands_in_the_model_only_while_it_is_measured() -> None:
    model = nn.Linear(3, 2)
    optimizer = optimizer_of(model)
    average = Average(optimizer, 0.9)
    trained(model, average, optimizer, range(3))
    learning = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyError), average.evaluating():
        assert all(torch.equal(model.state_dict()[name], average.average[name]) for name in learning)
        raise KeyError("an evaluation that fails")
    assert all(torch.equal(model.state_dict()[name], learning[name]) for name in learning)
    trained(model, average, optimizer, range(3, 5))
    assert not torch.equal(model.weight, learning["weight"])


def test_weights_of_16_bits_are_averaged_in_32() -> None:
    model = nn.Linear(3, 2).to(torch.bfloat16)
    average = Average(optimizer_of(model), 0.999)
    with torch.no_grad():
        model.weight.add_(1.0)
    before = average.average["weight"].clone()
    for step in range(10_000, 10_003):
        average.updated(step)
    moved = average.average["weight"] - before
    torch.testing.assert_close(moved, torch.full_like(moved, 1 - 0.999**3), rtol=0.02, atol=0)
    with average.evaluating():
        assert model.weight.dtype == torch.bfloat16


def test_what_is_frozen_keeps_its_very_bits() -> None:
    model = nn.Linear(3, 2)
    average = Average(optimizer_of(model), 0.99)
    for step in range(50):
        average.updated(step)
    assert torch.equal(average.average["weight"], model.weight)


def test_restored_it_goes_on_as_if_unbroken() -> None:
    """A second process: the weights from a checkpoint, and an average that is made anew and then restored."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    start = copy.deepcopy(model)
    optimizer = optimizer_of(model)
    average = Average(optimizer, 0.9)
    trained(model, average, optimizer, range(3))
    tensors, values = copy.deepcopy(average.state())
    weights = copy.deepcopy(model.state_dict())
    trained(model, average, optimizer, range(3, 6))
    other = optimizer_of(start)
    again = Average(other, 0.9)
    start.load_state_dict(weights)
    again.restore(tensors, values)
    trained(start, again, other, range(3, 6))
    for name, tensor in average.average.items():
        assert torch.equal(again.average[name], tensor) and not torch.equal(tensor, tensors[name])
