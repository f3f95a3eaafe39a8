"""What a run measured, with the uncertainty of so many rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.core.rundir import RunFolder
from burnish.metrics.resampling import draws, sums

DRAWN = 500
"""Draws of the rows with replacement: the standard error is known to 3% of itself."""
MOST_NUMBERS = 2_000_000
"""Of draws times rows: very many rows are drawn less often, for their standard error is small anyway."""
HUB_METRICS = {
    "accuracy": "accuracy",
    "f1": "f1",
    "macro_f1": "f1",
    "micro_f1": "f1",
    "precision": "precision",
    "recall": "recall",
    "mcc": "matthews_correlation",
    "exact_match": "exact_match",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "r2": "r_squared",
    "mae": "mae",
    "perplexity": "perplexity",
    "bleu": "bleu",
    "chrf": "chrf",
    "rouge1": "rouge",
    "rouge2": "rouge",
    "rougeL": "rouge",
    "rougeLsum": "rouge",
}
"""Metrics by the ids that the hub has for them (https://hf.co/metrics)."""
CLOSE = 1e-4
"""How far what the records tell may be from what the evaluation says, as a share of it."""


@dataclass(frozen=True)
class Result:
    """A metric on a part of the data; `error` is its standard error over rows, None where single rows do not tell."""

    part: str
    rows: int
    metric: str
    value: float
    error: float | None
    before: float | None = None


def results(folder: RunFolder, parts: Sequence[str] = ("test", "validation", "seen")) -> list[Result]:
    """Every metric of the parts that were measured. `before` is what the same rows gave before training, where that was tried."""
    first = folder.read("evaluations/before.json") or {}
    found = []
    for part in parts:
        evaluation = folder.read(f"evaluations/{part}.json")
        if evaluation is None:
            continue
        records = records_of(folder, part)
        earlier = first.get("metrics", {}) if part != "test" and first.get("rows") == evaluation["rows"] else {}
        for metric, value in evaluation["metrics"].items():
            if isinstance(value, int | float):
                found.append(Result(part, evaluation["rows"], metric, value, standard_error(metric, value, records), earlier.get(metric)))
    return found


def errors(found: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Standard errors over rows by part and metric, those that are known."""
    known: dict[str, dict[str, float]] = {}
    for one in found:
        if one.error is not None and math.isfinite(one.error):
            known.setdefault(one.part, {})[one.metric] = one.error
    return known


def records_of(folder: RunFolder, part: str) -> list[dict[str, Any]]:
    path = folder.path / f"evaluations/{part}.predictions.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def standard_error(metric: str, value: float, records: Sequence[Mapping[str, Any]]) -> float | None:
    """The deviation of a metric over other draws of the same rows (the bootstrap; Efron 1979); None where the records do not give it."""
    found = sums(metric, records)
    if found is None or len(records) < 2 or abs(found.value - value) > CLOSE * max(1.0, abs(value)):
        return None
    number = max(50, min(DRAWN, MOST_NUMBERS // len(records)))
    error = float(np.nanstd(found.drawn(draws(len(records), number)), ddof=1))
    return error if error > 0 else None  # rows that are all right or all wrong do not tell how far others would be off
