"""Scores: by hand where they are small, by scikit-learn's own where they are not, and at the edges where they are undefined."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from burnish.core.evaluation import Matrix, Table
from burnish.metrics import classification
from burnish.metrics.classification import multi_label, regression, single_label

LABELS = ["a", "b", "c"]


def test_single_label_by_hand() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    scores, (classes, confusion) = single_label(predicted, truth, LABELS)
    assert scores["accuracy"] == 0.75
    # F1 of a: P 1, R 1/2 -> 2/3; of b: P 2/3, R 1 -> 4/5; c does not occur and does not count.
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert scores["mcc"] == pytest.approx((2 * 1 - 1 * 0) / math.sqrt(3 * 2 * 2 * 1))
    assert isinstance(classes, Table) and isinstance(confusion, Matrix)
    assert [row[0] for row in classes.rows] == LABELS
    assert classes.rows[0][1:] == pytest.approx([1.0, 0.5, 2 / 3, 2])
    assert classes.rows[2][1:] == [0, 0, 0, 0]
    assert confusion.counts == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert (confusion.row_name, confusion.column_name) == ("truth", "predicted")


def test_single_label_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 3, 200), generator.integers(0, 3, 200)
    scores, _ = single_label(predicted, truth, LABELS)
    assert scores["accuracy"] == sk.accuracy_score(truth, predicted)
    assert scores["macro_f1"] == sk.f1_score(truth, predicted, average="macro")
    assert scores["mcc"] == sk.matthews_corrcoef(truth, predicted)
    assert list(scores) == [name for name in classification.SINGLE_LABEL if name != "loss"]


def test_multi_label() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
    predicted = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, (classes,) = multi_label(predicted, truth, LABELS)
    assert scores["exact_match"] == 0.5
    # 3 of 4 predicted are right, 3 of 4 true are found.
    assert scores["micro_f1"] == pytest.approx(0.75)
    assert scores["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert classes.rows[1][0] == "b" and classes.rows[1][1:] == pytest.approx([1.0, 0.5, 2 / 3, 2])
    assert list(scores) == [name for name in classification.MULTI_LABEL if name != "loss"]


def test_regression() -> None:
    truth, predicted = np.array([1.0, 2.0, 4.0, 8.0]), np.array([1.5, 2.0, 3.0, 9.0])
    scores, (table,) = regression(predicted, truth)
    assert scores["rmse"] == pytest.approx(math.sqrt((0.25 + 0 + 1 + 1) / 4))
    assert scores["mae"] == pytest.approx(2.5 / 4)
    assert scores["r2"] == pytest.approx(sk.r2_score(truth, predicted))
    assert scores["pearson"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1])
    assert scores["spearman"] == pytest.approx(1.0)
    assert table.rows[0][0] == "0%" and table.rows[0][1:3] == [1.0, 1.5]
    assert list(scores) == [name for name in classification.REGRESSION if name != "loss"]


@pytest.mark.parametrize("truth", [[2.0, 2.0, 2.0], [2.0]], ids=["constant", "one row"])
def test_undefined_scores_are_nan_and_silent(truth: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, _ = regression(np.array(truth) + np.arange(len(truth)), np.array(truth))
    assert math.isnan(scores["r2"]) and math.isnan(scores["pearson"]) and math.isnan(scores["spearman"])
    assert math.isfinite(scores["rmse"])


def test_one_class_only_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, _ = single_label(np.array([1, 1]), np.array([1, 1]), LABELS)
    assert scores == {"accuracy": 1.0, "macro_f1": 1.0, "mcc": 0.0}
