"""Norms of the gradient by place: of the very values that the total norm is made of, and without a trace in what is learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from burnish.engine.norms import Places, is_recorded, parameter_norms
from burnish.engine.step import Step
from burnish.engine.update import InBackward, Update


def placed(step: Step) -> Places:
    return Places(step.optimizer.param_groups, lambda name: name.partition(".")[0], ["embedding", "norm", "head"])


def learned(step: Step, places: bool) -> tuple[dict[str, torch.Tensor], list[Any]]:
    step.mover.places = placed(step) if places else None
    outcomes = [step(range(8), number, 1.0) for number in range(3)]
    return {name: p.detach().clone() for name, p in step.model.named_parameters()}, outcomes


@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.bfloat16)])
def test_the_total_is_torchs_own_to_the_last_bit(dtypes: tuple[torch.dtype, ...]) -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(3 + number, 5, dtype=dtypes[number % len(dtypes)])) for number in range(9)]
    for parameter in parameters[:-1]:
        parameter.grad = torch.randn_like(parameter)
    learning, each = parameter_norms(parameters)
    assert len(learning) == 8 and not any(one is parameters[-1] for one in learning)
    expected = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    assert torch.equal(torch.linalg.vector_norm(each), expected)
    for parameter, norm in zip(learning, each, strict=True):
        assert norm == torch.linalg.vector_norm(parameter.grad)


def test_norms_by_place_square_up_to_the_total_and_change_no_bit(make_step: Callable[..., Step]) -> None:
    plain, before = learned(make_step(max_grad_norm=0.1), places=False)
    weights, outcomes = learned(make_step(max_grad_norm=0.1), places=True)
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    for one, other in zip(outcomes, before, strict=True):
        assert one.grad_norm == other.grad_norm and other.block_norms == ()
        assert len(one.block_norms) == 3 and min(one.block_norms) > 0
        assert sum(norm**2 for norm in one.block_norms) ** 0.5 == pytest.approx(one.grad_norm, rel=1e-6)


def test_within_backward_the_same_norms_are_seen(make_step: Callable[..., Step]) -> None:
    _, plain = learned(make_step(), places=True)
    step = make_step()
    step.update = step.mover = InBackward(step.optimizer)
    _, within = learned(step, places=True)
    for one, other in zip(plain, within, strict=True):
        assert one.block_norms == pytest.approx(other.block_norms, rel=1e-6)


def test_a_place_whose_parameters_are_yet_to_be_unfrozen_has_no_gradient(make_step: Callable[..., Step]) -> None:
    step = make_step()
    update = Update(step.optimizer)
    update.places = placed(step)
    for expected_zero in (True, False):
        step.model.head.requires_grad_(not expected_zero)
        step.optimizer.zero_grad()
        step.accumulated(range(8), 0)
        update.clip(None)
        assert (update.by_place[2] == 0) == expected_zero and min(update.by_place[:2]) > 0


def test_places_are_those_in_which_something_learns_in_the_order_of_the_model() -> None:
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    groups = [{"params": [first], "names": ["head.w"]}, {"params": [second], "names": ["body.w"]}]
    assert Places(groups, lambda name: name.partition(".")[0], ["embeddings", "body", "head"]).names == ["body", "head"]


def test_of_a_long_run_fewer_and_fewer_steps_are_recorded() -> None:
    assert all(is_recorded(step) for step in range(1, 1001))
    assert [step for step in range(1001, 1031) if is_recorded(step)] == [1010, 1020, 1030]
    assert [step for step in range(10_001, 10_301) if is_recorded(step)] == [10_100, 10_200, 10_300]
    assert sum(map(is_recorded, range(1, 100_001))) == 2800
