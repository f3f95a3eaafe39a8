"""Weights laid out for the CPU's products give what they gave."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from burnish.models.fast import prepacked
from burnish.models.fast.prepacked import FEWEST, Prepacked, prepack


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.Tanh(), nn.Linear(40, 7, bias=False), nn.Linear(7, 3)).eval()


@pytest.mark.parametrize("shape", [(1, 24), (FEWEST, 24), (1, 50, 24), (3, 40, 24)])
def test_the_same_products(shape: tuple[int, ...]) -> None:
    model, rows = small(), torch.randn(shape)
    with torch.no_grad():
        plain = model(rows)
        assert prepack(model) == 3
        torch.testing.assert_close(model(rows), plain)


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_go_through_weights_that_do_not_learn(bias: bool) -> None:
    """As in adapters: those beside them, below them and of biases are what they were."""

    def gradients(packed: bool) -> list[torch.Tensor | None]:
        model = small()
        model[0].weight.requires_grad_(False)
        model[0].bias.requires_grad_(bias)
        model[3].weight.requires_grad_(False)
        assert not packed or prepack(model, training=True) == 2
        torch.manual_seed(1)
        rows = torch.randn(3, 40, 24, requires_grad=True)
        model(rows).square().sum().backward()
        return [rows.grad, *(parameter.grad for parameter in model.parameters())]

    for found, wanted in zip(gradients(True), gradients(False), strict=True):
        assert (found is None) == (wanted is None)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_it_gives_may_be_changed_in_place() -> None:
    model = small().requires_grad_(False)
    prepack(model, training=True)
    rows = torch.randn(2, 40, 24, requires_grad=True)
    found = model[0](rows)
    found += 1.0
    found.sum().backward()
    assert rows.grad is not None


def test_gradients_and_other_numbers_go_the_ordinary_way() -> None:
    model, rows = small(), torch.randn(50, 24)
    prepack(model)
    model(rows).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        assert model.double()(rows.double()).dtype == torch.float64
    assert model.state_dict().keys() == small().state_dict().keys()


def test_what_does_not_allow_it_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepack(small().bfloat16()) == 0
    monkeypatch.setattr(prepacked, "MOST_BYTES", 10)
    assert prepack(small()) == 0
    monkeypatch.undo()
    own = Prepacked.__call__
    monkeypatch.setattr(Prepacked, "__call__", lambda self, rows: own(self, rows) * 1.01)
    model = small()
    assert prepack(model) == 0 and not any(isinstance(module.forward, Prepacked) for module in model)
