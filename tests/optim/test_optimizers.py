"""Optimizers: the updates of torch's plain loops, of transformers, and of formulas by hand; and all of them in runs that are resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from burnish.core import registry
from burnish.optim.lion import Lion
from burnish.optim.optimizers import SGD, Adafactor, Adam, AdamW, RMSprop

SHAPES = [(4, 3), (5,), (2, 3, 4), (1, 1), ()]


def weights(seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def moved(build: Callable[[list[Any]], torch.optim.Optimizer], steps: int = 6) -> list[torch.Tensor]:
    """The weights after some updates whose gradients depend on nothing but their number."""
    parameters = weights()
    optimizer = build([{"params": parameters}])
    for step in range(steps):
        for parameter, gradient in zip(parameters, weights(step + 1), strict=True):
            parameter.grad = gradient.detach().clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def slow(cls: Any, **settings: Any) -> Callable[[list[Any]], torch.optim.Optimizer]:
    """torch's optimizer as a plain loop over the formulas."""
    return lambda groups: cls(groups, foreach=False, **settings)


CASES: dict[str, tuple[Any, Callable[[list[Any]], torch.optim.Optimizer]]] = {
    "adamw": (
        AdamW(lr=0.1, betas=(0.8, 0.9), weight_decay=0.2),
        slow(torch.optim.AdamW, lr=0.1, betas=(0.8, 0.9), weight_decay=0.2, fused=False),
    ),
    "adam": (
        Adam(lr=0.1, eps=1e-6, weight_decay=0.2),
        slow(torch.optim.Adam, lr=0.1, eps=1e-6, weight_decay=0.2, fused=False),
    ),
    "sgd": (
        SGD(lr=0.1, weight_decay=0.2),
        slow(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.2, fused=False),
    ),
    "sgd, plain": (SGD(lr=0.1, momentum=0), slow(torch.optim.SGD, lr=0.1, fused=False)),
    "sgd, nesterov": (
        SGD(lr=0.1, momentum=0.8, nesterov=True),
        slow(torch.optim.SGD, lr=0.1, momentum=0.8, nesterov=True, fused=False),
    ),
    "rmsprop": (
        RMSprop(lr=0.1, alpha=0.9, momentum=0.5, centered=True, weight_decay=0.2),
        slow(torch.optim.RMSprop, lr=0.1, alpha=0.9, momentum=0.5, centered=True, weight_decay=0.2),
    ),
    "adafactor": (
        Adafactor(lr=0.1, decay=0.7, clip=1.2, floor=0.01, weight_decay=0.2),
        slow(torch.optim.Adafactor, lr=0.1, beta2_decay=-0.7, eps=(None, 0.01), d=1.2, weight_decay=0.2),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_updates_are_those_of_torchs_plain_loop(name: str) -> None:
    spec, peer = CASES[name]
    same(moved(spec.build), moved(peer))


def test_adafactor_is_that_of_transformers_while_its_step_is_below_one_over_the_root_of_t() -> None:
    """There the relative step is no smaller than lr either, for 0.1 < 1 / sqrt(6)."""
    from transformers import Adafactor as Peer

    ours = moved(Adafactor(lr=0.1).build)
    theirs = moved(lambda groups: Peer(groups, lr=0.1, relative_step=False, scale_parameter=True, warmup_init=False))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_lion_is_its_papers_algorithm() -> None:
    lr, (first, second), decay = 0.05, (0.8, 0.95), 0.3
    values = [parameter.detach().numpy().astype(np.float64) for parameter in weights()]
    means = [np.zeros_like(value) for value in values]
    for step in range(6):
        for index, gradient in enumerate(weights(step + 1)):
            g = gradient.detach().numpy().astype(np.float64)
            c = first * means[index] + (1 - first) * g
            values[index] = values[index] - lr * (np.sign(c) + decay * values[index])
            means[index] = second * means[index] + (1 - second) * g
    found = moved(Lion(lr=lr, betas=(first, second), weight_decay=decay).build)
    same([tensor.double() for tensor in found], [torch.tensor(value) for value in values])


def test_without_decay_lion_moves_every_weight_by_exactly_lr() -> None:
    before, after = weights(), moved(Lion(lr=0.125, weight_decay=0).build, steps=1)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close((one - other).abs(), torch.full_like(other, 0.125), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(registry.specs("optimizer")) - {"adamw8bit", "lion8bit"}))
def test_a_parameter_without_a_gradient_stays_and_a_single_one_can_have_its_own_optimizer(name: str) -> None:
    spec: Any = registry.specs("optimizer")[name].model_validate({"weight_decay": 0.5, "lr": 0.1})
    frozen, free = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    lone = spec.build([{"params": [free], "names": ["free"], "lr": 0.1, "initial_lr": 0.1, "weight_decay": 0.5}])
    pair = spec.build([{"params": [frozen, free], "names": ["frozen", "free"], "lr": 0.1, "initial_lr": 0.1, "weight_decay": 0.5}])
    free.grad = torch.tensor([1.0, -1.0, 0.5])
    pair.step()
    assert torch.equal(frozen, torch.ones(3)) and not torch.equal(free, torch.ones(3))
    lone.step()
    assert lone.param_groups[0]["names"] == ["free"]


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValidationError, match="nesterov looks ahead along the momentum"):
        SGD(momentum=0, nesterov=True)
    for spec, wrong in [(Adam, {"betas": [0.9, 1.0]}), (RMSprop, {"alpha": 1}), (Adafactor, {"clip": 0.5}), (Lion, {"lr": -1})]:
        with pytest.raises(ValidationError):
            spec.model_validate(wrong)  # type: ignore[attr-defined]
