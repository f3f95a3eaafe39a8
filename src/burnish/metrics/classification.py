"""Scores of classifiers and regressors, computed by scikit-learn and scipy.

Legend: N rows, C classes or labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from burnish.core.evaluation import Matrix, Table

SINGLE_LABEL = {"loss": False, "accuracy": True, "macro_f1": True, "mcc": True}
MULTI_LABEL = {"loss": False, "micro_f1": True, "macro_f1": True, "exact_match": True}
REGRESSION = {"loss": False, "rmse": False, "mae": False, "r2": True, "pearson": True, "spearman": True}


def single_label(predicted: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> tuple[dict[str, float], list[Table | Matrix]]:
    """Accuracy, macro F1 (unweighted mean over the classes that occur), Matthews correlation; class table, confusion.

    `predicted`, `truth`: (N,) class ids.
    """
    from sklearn import metrics

    present = np.union1d(truth, predicted)
    scores = {
        "accuracy": float(np.mean(predicted == truth)),
        "macro_f1": float(metrics.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)),
        "mcc": float(metrics.matthews_corrcoef(truth, predicted)) if len(present) > 1 else 0.0,
    }
    ids = list(range(len(labels)))
    rows = zip(*metrics.precision_recall_fscore_support(truth, predicted, labels=ids, zero_division=0), strict=True)
    counts = metrics.confusion_matrix(truth, predicted, labels=ids)
    return scores, [class_table(labels, rows), Matrix("Confusion", list(labels), counts.tolist())]


def multi_label(predicted: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> tuple[dict[str, float], list[Table | Matrix]]:
    """Micro and macro F1, share of rows with exactly the right labels. `predicted`, `truth`: (N, C) of 0 and 1."""
    from sklearn import metrics

    scores = {
        "micro_f1": float(metrics.f1_score(truth, predicted, average="micro", zero_division=0)),
        "macro_f1": float(metrics.f1_score(truth, predicted, average="macro", zero_division=0)),
        "exact_match": float(np.mean((predicted == truth).all(axis=1))),
    }
    rows = zip(*metrics.precision_recall_fscore_support(truth, predicted, zero_division=0), strict=True)
    return scores, [class_table(labels, rows)]


def regression(predicted: np.ndarray, truth: np.ndarray) -> tuple[dict[str, float], list[Table | Matrix]]:
    """Root mean squared and mean absolute error in the target's unit, R^2, Pearson and Spearman correlation. Both (N,).

    A correlation with a constant is undefined and given as NaN.
    """
    from scipy import stats

    error = predicted - truth
    spread = float(np.sum((truth - truth.mean()) ** 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        several = len(truth) > 1
        pearson = float(stats.pearsonr(predicted, truth).statistic) if several else float("nan")
        spearman = float(stats.spearmanr(predicted, truth).statistic) if several else float("nan")
    scores = {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "r2": 1 - float(np.sum(error**2)) / spread if spread > 0 else float("nan"),
        "pearson": pearson,
        "spearman": spearman,
    }
    quantiles = [0, 5, 25, 50, 75, 95, 100]
    rows = [[f"{q}%", *(float(np.percentile(values, q)) for values in (truth, predicted, error))] for q in quantiles]
    return scores, [Table("Distribution", ["percentile", "truth", "predicted", "error"], rows)]


def class_table(labels: Sequence[str], rows: zip[tuple[float, float, float, int]]) -> Table:
    return Table(
        "Classes",
        ["label", "precision", "recall", "f1", "rows"],
        [[label, float(p), float(r), float(f1), int(n)] for label, (p, r, f1, n) in zip(labels, rows, strict=True)],
    )
