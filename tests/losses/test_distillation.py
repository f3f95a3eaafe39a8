"""What a student loses against its teacher: by hand, by torch's own KL, and of examples whatever they are batched with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from burnish.losses.distill import Distill
from burnish.losses.distillation import attention_distance, evenly_matched, fitted, hidden_distance, softened


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_two_classes_by_hand() -> None:
    """Teacher (0.8, 0.2) at T=2 of logits 2 ln 4 apart, student even: KL = 0.8 ln 1.6 + 0.2 ln 0.4, times 4."""
    teacher, student = torch.tensor([[2 * math.log(4.0), 0.0]]), torch.zeros(1, 2)
    expected = 4 * (0.8 * math.log(1.6) + 0.2 * math.log(0.4))
    assert softened(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 8.0])
def test_it_is_torchs_divergence_times_the_square_of_the_temperature(temperature: float) -> None:
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    divergence = F.kl_div(F.log_softmax(student / temperature, -1), F.softmax(teacher / temperature, -1), reduction="none").sum(-1)
    torch.testing.assert_close(softened(student, teacher, temperature), temperature**2 * divergence)
    assert softened(teacher, teacher, temperature).abs().max() < 1e-6


def test_at_high_temperature_its_gradient_is_that_of_the_squared_error_of_centered_logits() -> None:
    """Hinton et al. 2015, eq. 4: the gradient tends to (z - v) / N for logits of mean zero."""
    student, teacher = (one - one.mean() for one in torch.randn(2, 1, 6, dtype=torch.float64))
    student.requires_grad_()
    softened(student.double(), teacher, 200.0).sum().backward()
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), ((student - teacher) / 6).detach().numpy(), atol=3e-3)


def test_classes_that_cannot_be_chosen_count_for_nothing_and_give_no_nan() -> None:
    student, teacher = torch.randn(3, 6, requires_grad=True), torch.randn(3, 6)
    blocked = torch.tensor([False, False, False, False, True, True])
    masked = softened(student.masked_fill(blocked, -math.inf), teacher.masked_fill(blocked, -math.inf), 2.0)
    torch.testing.assert_close(masked, softened(student[:, :4], teacher[:, :4], 2.0))
    masked.sum().backward()
    assert student.grad is not None and torch.isfinite(student.grad).all() and (student.grad[:, 4:] == 0).all()


def test_rows_of_another_width_are_cut_or_filled_with_what_cannot_be_chosen() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0]])
    assert fitted(rows, 2).tolist() == [[1.0, 2.0]]
    assert fitted(rows, 4).tolist() == [[1.0, 2.0, 3.0, -math.inf]]


def test_hidden_states_are_compared_over_real_tokens_only() -> None:
    student, teacher, real = torch.randn(2, 4, 3), torch.randn(2, 4, 3), torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    expected = [((student[0] - teacher[0]) ** 2).mean(), ((student[1, :2] - teacher[1, :2]) ** 2).mean()]
    torch.testing.assert_close(hidden_distance(student, teacher, real), torch.stack(expected))


def test_attention_is_compared_over_heads_and_real_tokens() -> None:
    student, teacher = torch.randn(2, 2, 3, 3).softmax(-1), torch.randn(2, 2, 3, 3).softmax(-1)
    found = attention_distance(student, teacher, torch.tensor([[1.0, 1, 1], [1, 0, 0]])).numpy()
    squares = ((student - teacher) ** 2).numpy()
    assert found[0] == pytest.approx(squares[0].sum() / (2 * 3), rel=1e-5)
    assert found[1] == pytest.approx(squares[1, :, 0].sum() / 2, rel=1e-5)


def test_blocks_are_matched_evenly_and_the_last_with_the_last() -> None:
    assert evenly_matched(4, 12) == {0: 2, 1: 5, 2: 8, 3: 11}  # TinyBERT: m -> 3m, counted from 1
    assert evenly_matched(6, 12) == {0: 1, 1: 3, 2: 5, 3: 7, 4: 9, 5: 11}
    assert evenly_matched(2, 2) == {0: 0, 1: 1}
    assert evenly_matched(4, 2) == {0: 0, 1: 0, 2: 1, 3: 1}


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"layers": {0: 1}}, "neither"), ({"layers": {}, "hidden": 1.0}, "pairs"), ({"layers": {0: -1}, "hidden": 1.0}, "pairs")],
)
def test_settings_that_do_not_go_together_are_told(settings: dict[str, object], word: str) -> None:
    assert word in (Distill.model_validate({"teacher": "x", **settings}).fault() or "")
    assert Distill.model_validate({"teacher": "x", "layers": {0: 1}, "hidden": 0.1}).fault() is None
