"""Smoothed, focal and weighted losses against torch and against their formulas by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from burnish.core.protocols import Choices
from burnish.losses.likelihood import by_example, of_labels
from burnish.losses.spec import CrossEntropy, Focal
from burnish.losses.weighted import cross_entropy, focal, focused_cross_entropy, smoothed_cross_entropy


def choices(rows: int = 6, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return 3 * torch.randn(rows, classes), torch.randint(classes, (rows,))


def probabilities(logits: torch.Tensor) -> np.ndarray:
    values = np.exp(logits.double().numpy())
    return values / values.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothing_is_that_of_torch(smoothing: float) -> None:
    logits, targets = choices()
    expected = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(smoothed_cross_entropy(logits, targets, smoothing), expected)


def test_smoothing_leaves_out_what_cannot_be_chosen() -> None:
    logits, targets = choices()
    barred = torch.cat([logits, torch.full((6, 2), float("-inf"))], dim=1).requires_grad_()
    found = smoothed_cross_entropy(barred, targets, 0.2)
    torch.testing.assert_close(found, smoothed_cross_entropy(logits, targets, 0.2))
    found.sum().backward()
    assert barred.grad is not None and torch.isfinite(barred.grad).all() and (barred.grad[:, 4:] == 0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_is_the_formula_of_the_paper(gamma: float) -> None:
    logits, targets = choices()
    p = probabilities(logits)[np.arange(6), targets.numpy()]
    np.testing.assert_allclose(focused_cross_entropy(logits, targets, gamma).numpy(), -((1 - p) ** gamma) * np.log(p), rtol=1e-4, atol=1e-7)


def test_focal_of_several_labels_is_the_sigmoid_form() -> None:
    """What torchvision's sigmoid_focal_loss computes (alpha left out), meant over the labels of a row."""
    torch.manual_seed(2)
    logits, targets = torch.randn(5, 3), torch.randint(2, (5, 3)).float()
    found = by_example([of_labels(logits, targets)], 5, focal(2.0, None))
    z, t = logits.double().numpy(), targets.numpy()
    p = 1 / (1 + np.exp(-z))
    right = p * t + (1 - p) * (1 - t)
    np.testing.assert_allclose(found.numpy(), (-((1 - right) ** 2) * np.log(right)).mean(axis=1), rtol=1e-5)


def test_focal_has_a_gradient_where_a_choice_is_certain() -> None:
    for gamma in (0.2, 0.5, 1.0, 2.0):
        logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0], [0.0, float("-inf")]], requires_grad=True)
        focused_cross_entropy(logits, torch.tensor([0, 0, 0]), gamma).sum().backward()
        assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_focal_slopes_are_right_where_choices_are_ordinary() -> None:
    logits = choices()[0].double().requires_grad_()
    targets = choices()[1]

    def exact(values: torch.Tensor) -> torch.Tensor:
        p = torch.softmax(values, dim=1).gather(1, targets[:, None])[:, 0]
        return -((1 - p) ** 2) * p.log()

    (wanted,) = torch.autograd.grad(exact(logits).sum(), logits)
    (found,) = torch.autograd.grad(focused_cross_entropy(logits, targets, 2.0).sum(), logits)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_weights_are_those_of_the_true_class() -> None:
    logits, targets = choices()
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0])
    torch.testing.assert_close(cross_entropy(0.0, weights)(logits, targets), F.cross_entropy(logits, targets, weights, reduction="none"))
    found = focal(2.0, weights)(logits, targets)
    torch.testing.assert_close(found, focused_cross_entropy(logits, targets, 2.0) * weights[targets])


@pytest.mark.parametrize("loss", [CrossEntropy(smoothing=0.1), Focal(gamma=1.5)], ids=["smoothed", "focal"])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0, 3.0])], ids=["plain", "weighted"])
def test_a_split_into_parts_changes_nothing(loss: CrossEntropy | Focal, weights: torch.Tensor | None) -> None:
    logits, targets = choices()
    owners = torch.tensor([0, 0, 1, 2, 2, 2])
    pointwise = loss.build(weights)
    whole = by_example([Choices(logits, targets, owners)], 3, pointwise)
    parts = torch.cat(
        [by_example([Choices(logits[owners == one], targets[owners == one], owners[owners == one] * 0)], 1, pointwise) for one in range(3)]
    )
    torch.testing.assert_close(parts, whole)
