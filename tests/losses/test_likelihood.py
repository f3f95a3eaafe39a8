"""Losses: each example's own, as worked out by hand and as torch's modules reduce them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from burnish.losses import likelihood
from burnish.losses.likelihood import binary_cross_entropy, cross_entropy, squared_error


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_by_hand() -> None:
    assert cross_entropy(torch.zeros(1, 4), torch.tensor([2])).item() == pytest.approx(math.log(4))
    assert cross_entropy(torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([0])).item() == pytest.approx(-math.log(3 / 4))
    found = binary_cross_entropy(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[1.0, 0.0]]))
    assert found.item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert squared_error(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 3.0]])).tolist() == [5.0]


def test_their_mean_is_torchs_own_loss() -> None:
    logits, ids = torch.randn(6, 3), torch.randint(0, 3, (6,))
    assert cross_entropy(logits, ids).mean().item() == pytest.approx(nn.CrossEntropyLoss()(logits, ids).item())
    hot = torch.randint(0, 2, (6, 3)).float()
    assert binary_cross_entropy(logits, hot).mean().item() == pytest.approx(nn.BCEWithLogitsLoss()(logits, hot).item())
    assert squared_error(logits, hot).mean().item() == pytest.approx(nn.MSELoss()(logits, hot).item())


def test_each_example_has_a_loss_of_its_own() -> None:
    logits, ids, hot = torch.randn(5, 3), torch.randint(0, 3, (5,)), torch.randint(0, 2, (5, 3)).float()
    for loss, targets in ((cross_entropy, ids), (binary_cross_entropy, hot), (squared_error, hot)):
        together = loss(logits, targets)
        assert together.shape == (5,)
        alone = torch.cat([loss(logits[index : index + 1], targets[index : index + 1]) for index in range(5)])
        assert torch.allclose(together, alone)


def test_half_precision_is_summed_in_full() -> None:
    logits = torch.randn(4, 3).bfloat16()
    ids = torch.tensor([0, 1, 2, 0])
    assert cross_entropy(logits, ids).dtype == torch.float32
    assert torch.allclose(cross_entropy(logits, ids), cross_entropy(logits.float(), ids))
    assert cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([1])).item() == 2e4
    assert binary_cross_entropy(torch.tensor([[1e4]]), torch.tensor([[0.0]])).item() == 1e4


def test_over_a_vocabulary_its_gradient_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(6, 50, generator=draw)).requires_grad_()
    targets, slopes = torch.randint(0, 50, (6,), generator=draw), torch.rand(6, generator=draw)
    monkeypatch.setattr(likelihood, "MANY", 50)
    found = cross_entropy(logits, targets)
    assert "Likelihood" in type(found.grad_fn).__name__
    wanted = nn.functional.cross_entropy(logits, targets, reduction="none")
    assert torch.equal(found, wanted)
    gradients = [torch.autograd.grad((one * slopes).sum(), logits)[0] for one in (found, wanted)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-8)
    half = logits.detach().bfloat16().requires_grad_()
    cross_entropy(half, targets).sum().backward()
    assert half.grad is not None and half.grad.dtype == torch.bfloat16
