"""Metrics as functions of sums over rows, so that thousands of other draws of the same rows are one product of matrices.

Nearly every metric of a test set is g(sum of t_i over rows i) for a short vector t_i that each row gives by itself: accuracy of (right,
1), macro F1 of (found, said, true) for each class, perplexity of (nats, tokens). If row i is drawn w_i times, the metric is
g(sum of w_i t_i). A rank correlation alone is none (`Ranks`). What a row gives is read off its record in the predictions of a run.

Legend: N rows, S sums, R draws, C labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from burnish.metrics import text
from burnish.metrics.spans import spans

Record = Mapping[str, Any]
Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sums:
    """A metric of N rows: `terms` (N, S) is what each row gives, `score` makes (..., S) sums of it into (...) values of the metric.

    `size` is how many rows, words or spans are right or wrong; 0 where the metric is no share of such.
    """

    terms: np.ndarray
    score: Score
    size: float = 0.0

    @property
    def rows(self) -> int:
        return len(self.terms)

    @property
    def value(self) -> float:
        """The metric of the rows as they are."""
        return float(self.score(self.terms.sum(axis=0)))

    def drawn(self, counts: np.ndarray) -> np.ndarray:
        """(R,) the metric of R draws, of which `counts` (R, N) says how often each row is in it."""
        return self.score(counts @ self.terms)


@dataclass(frozen=True)
class Ranks:
    """Spearman's correlation of two numbers of each row, `pairs` (N, 2), which is no function of sums: a draw changes all ranks."""

    pairs: np.ndarray
    size: float = 0.0

    @property
    def rows(self) -> int:
        return len(self.pairs)

    @property
    def value(self) -> float:
        return float(self.drawn(np.ones((1, self.rows)))[0])

    def drawn(self, counts: np.ndarray) -> np.ndarray:
        """(R,) Pearson's correlation of the ranks that the rows have in each draw, a row as often as it is drawn."""
        first, second = (centered(ranks(numbers, counts), counts) for numbers in self.pairs.T)
        spread = (counts * first**2).sum(axis=1) * (counts * second**2).sum(axis=1)
        return divided((counts * first * second).sum(axis=1), np.sqrt(spread))


Resampled = Sums | Ranks


def ranks(numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(R, N) the mean rank of each row among all that are drawn: those below it, and half of those that are equal."""
    values, place = np.unique(numbers, return_inverse=True)  # (V,), (N,)
    order = np.argsort(place, kind="stable")
    equal = np.add.reduceat(counts[:, order], np.searchsorted(place[order], np.arange(len(values))), axis=1)  # (R, V) drawn of each value
    return (equal.cumsum(axis=1) - equal / 2)[:, place]


def centered(found: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return found - ((counts * found).sum(axis=1) / counts.sum(axis=1))[:, None]


def sums(metric: str, records: Sequence[Record]) -> Resampled | None:
    """How `metric` comes from the records of single rows; None where these do not tell (a text's variety).

    Whoever uses it compares `value` with what the evaluation itself says, for a record may leave something out.
    """
    if not records:
        return None
    maker = next((known[metric] for keys, known in KINDS if keys <= records[0].keys() and metric in known), None)
    return maker(records) if maker else None


def mean_of(values: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None = None) -> Sums:
    """The mean over rows, or sum of values / sum of weights where a row counts as much as it has tokens."""
    tops = np.asarray(values, dtype=float)
    return Sums(np.stack([tops, np.ones(len(tops)) if weights is None else np.asarray(weights, dtype=float)], axis=1), ratio)


def counted(values: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None = None) -> Sums:
    """The same of what is right or wrong: rows, or as many words as `weights` say."""
    found = mean_of(values, weights)
    return Sums(found.terms, found.score, float(found.terms[:, 1].sum()))


def ratio(found: np.ndarray) -> np.ndarray:
    return divided(found[..., 0], found[..., 1])


def divided(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, 0 where there is nothing to divide by, as scikit-learn has it."""
    return np.divide(top, bottom, out=np.zeros(np.broadcast(top, bottom).shape), where=bottom != 0)


def right(records: Sequence[Record]) -> np.ndarray | None:
    """(N,) whether each row is right as a whole: its label, all of its labels, or its answer; None where rows are neither right nor wrong."""
    first = records[0] if records else {}
    if "exact_match" in first and "references" in first:
        return np.array([bool(one["exact_match"]) for one in records])
    if "truth" not in first or not {"label", "labels"} & first.keys():
        return None
    return np.array([said(one) == wanted(one) for one in records])


def said(record: Record) -> frozenset[str]:
    return frozenset(record["labels"]) if "labels" in record else frozenset([record["label"]])


def wanted(record: Record) -> frozenset[str]:
    truth = record["truth"]
    return frozenset(truth) if isinstance(truth, (list, tuple)) else frozenset([truth])


def by_class(records: Sequence[Record]) -> np.ndarray:
    """(N, 3C) whether each class was said and true, said, true."""
    names = sorted({name for one in records for name in (*said(one), *wanted(one))})
    marks = np.array([[[name in said(one), name in wanted(one)] for name in names] for one in records], dtype=float)  # (N, C, 2)
    return np.concatenate([marks.prod(axis=2), marks[..., 0], marks[..., 1]], axis=1)


def macro_f1(found: np.ndarray) -> np.ndarray:
    """Mean over the classes that occur, in truth or prediction, of 2 both / (said + true)."""
    both, spoken, true = np.split(found, 3, axis=-1)
    present = (spoken + true) > 0
    return divided(divided(2 * both, spoken + true).sum(axis=-1), present.sum(axis=-1))


def macro_f1_of_all(labels: int) -> Score:
    """The same over all labels, those too that do not occur, as is usual where a row may have several."""
    return lambda found: macro_f1(found) * present_classes(found) / labels


def present_classes(found: np.ndarray) -> np.ndarray:
    _, spoken, true = np.split(found, 3, axis=-1)
    return ((spoken + true) > 0).sum(axis=-1)


def micro_f1(found: np.ndarray) -> np.ndarray:
    both, spoken, true = (part.sum(axis=-1) for part in np.split(found, 3, axis=-1))
    return divided(2 * both, spoken + true)


def matthews(found: np.ndarray) -> np.ndarray:
    """Gorodkin's R_K (2004): (n c - sum s_k t_k) / sqrt((n^2 - sum s_k^2) (n^2 - sum t_k^2)), c of n rows right."""
    both, spoken, true = np.split(found, 3, axis=-1)
    rows, correct = true.sum(axis=-1), both.sum(axis=-1)
    spread = (rows**2 - (spoken**2).sum(axis=-1)) * (rows**2 - (true**2).sum(axis=-1))
    return divided(rows * correct - (spoken * true).sum(axis=-1), np.sqrt(np.maximum(spread, 0)))


def moments(records: Sequence[Record]) -> np.ndarray:
    """(N, 6) of each number y and its prediction p: 1, y, p, y^2, p^2, y p, both moved so that the truths have mean 0 (for precision)."""
    pairs = np.array([(one["truth"], one["value"]) for one in records], dtype=float)
    y, p = (pairs - pairs[:, 0].mean()).T
    return np.stack([np.ones(len(y)), y, p, y * y, p * p, y * p], axis=1)


def squared_error(m: np.ndarray) -> np.ndarray:
    return np.maximum(m[..., 3] + m[..., 4] - 2 * m[..., 5], 0)


def r2(m: np.ndarray) -> np.ndarray:
    return 1 - divided(squared_error(m), m[..., 3] - divided(m[..., 1] ** 2, m[..., 0]))


def pearson(m: np.ndarray) -> np.ndarray:
    n, y, p, yy, pp, yp = np.moveaxis(m, -1, 0)
    return divided(n * yp - y * p, np.sqrt(np.maximum((n * yy - y * y) * (n * pp - p * p), 0)))


def by_span(records: Sequence[Record]) -> np.ndarray:
    """(N, 3) spans found, said, true."""
    rows = []
    for one in records:
        guessed, true = Counter(spans(one["predicted"])), Counter(spans(one["truth"]))
        rows.append(((guessed & true).total(), guessed.total(), true.total()))
    return np.array(rows, dtype=float)


def by_tag(records: Sequence[Record]) -> np.ndarray:
    """(N, 3C) of the words of each row: how many of each tag were said and true, said, true."""
    names = sorted({tag for one in records for tag in (*one["predicted"], *one["truth"])})
    place = {name: number for number, name in enumerate(names)}
    terms = np.zeros((len(records), 3, len(names)))
    for row, one in enumerate(records):
        for guess, true in zip(one["predicted"], one["truth"], strict=True):
            terms[row, 1, place[guess]] += 1
            terms[row, 2, place[true]] += 1
            terms[row, 0, place[true]] += guess == true
    return terms.reshape(len(records), -1)


def column(name: str, weight: str | None = None, only: Callable[[Record], bool] = lambda one: True) -> Callable[[Sequence[Record]], Sums]:
    """The mean of a field of the records, each counted `weight` times; rows that are not of the kind count nothing."""

    def make(records: Sequence[Record]) -> Sums:
        weights = np.array([float(only(one)) * (one[weight] if weight else 1) for one in records])
        return mean_of(np.array([float(one[name]) for one in records]) * weights, weights)

    return make


def share_of(name: str, only: Callable[[Record], bool] = lambda one: True) -> Callable[[Sequence[Record]], Sums]:
    """The mean of a field by which rows are right, wrong or somewhere between."""

    def make(records: Sequence[Record]) -> Sums:
        return counted(*column(name, only=only)(records).terms.T)

    return make


def perplexity(weight: str) -> Callable[[Sequence[Record]], Sums]:
    """exp of the mean loss of a token."""
    return lambda records: Sums(column("loss", weight)(records).terms, lambda found: np.exp(np.minimum(ratio(found), 700)))


def bits_per_byte(records: Sequence[Record]) -> Sums:
    bits, size = (np.array([float(one[name]) for one in records]) for name in ("bits_per_byte", "bytes"))
    return mean_of(bits * size, size)


def correct(records: Sequence[Record]) -> Sums:
    found = right(records)
    assert found is not None, "these records say what would have been right"
    return counted(found)


def of_classes(score: Score) -> Callable[[Sequence[Record]], Sums]:
    return lambda records: Sums(by_class(records), score, len(records))


def of_spans(score: Score) -> Callable[[Sequence[Record]], Sums]:
    def make(records: Sequence[Record]) -> Sums:
        terms = by_span(records)
        return Sums(terms, score, float(terms[:, 2].sum()))

    return make


def right_words(records: Sequence[Record]) -> Sums:
    pairs = [[guess == true for guess, true in zip(one["predicted"], one["truth"], strict=True)] for one in records]
    return counted([sum(pair) for pair in pairs], [len(pair) for pair in pairs])


def macro_of_tags(records: Sequence[Record]) -> Sums:
    return Sums(by_tag(records), macro_f1, float(sum(len(one["truth"]) for one in records)))


def loss_of_words(records: Sequence[Record]) -> Sums:
    sizes = np.array([len(one["truth"]) for one in records], dtype=float)
    return mean_of(np.array([one["loss"] for one in records]) * sizes, sizes)


def answerable(record: Record) -> bool:
    return any(answer.strip() for answer in record["references"])


def written(name: str) -> Callable[[Sequence[Record]], Sums]:
    """A ROUGE score of each written text; rows for which nothing was written count nothing."""

    def make(records: Sequence[Record]) -> Sums:
        asked = [one for one in records if "written" in one]
        scores = iter(text.rouge([one["written"]], [[one["reference"]]])[name] for one in asked)
        has = np.array(["written" in one for one in records], dtype=float)
        return mean_of([next(scores) if one else 0.0 for one in has], has)

    return make


def translated(name: Literal["bleu", "chrf"]) -> Callable[[Sequence[Record]], Sums]:
    """BLEU or chrF, which are functions of sums over all texts."""

    def make(records: Sequence[Record]) -> Sums:
        terms = [text.TERMS[name](text.composed(one.get("written", "")), text.composed(one.get("reference", ""))) for one in records]
        return Sums(np.array(terms, dtype=float), text.SCORES[name])

    return make


def written_exactly(records: Sequence[Record]) -> Sums:
    has = np.array(["written" in one for one in records], dtype=float)
    same = [text.composed(str(one.get("written", ""))).split() == text.composed(str(one.get("reference", "-"))).split() for one in records]
    return counted(np.array(same) * has, has)


def rooted(records: Sequence[Record]) -> Sums:
    return Sums(moments(records), lambda m: np.sqrt(divided(squared_error(m), m[..., 0])))


def absolute(records: Sequence[Record]) -> Sums:
    return mean_of([abs(float(one["truth"]) - float(one["value"])) for one in records])


Makers = dict[str, Callable[[Sequence[Record]], Resampled]]
CLASSES: Makers = {"loss": column("loss"), "accuracy": correct, "macro_f1": of_classes(macro_f1), "mcc": of_classes(matthews)}
SEVERAL: Makers = {"loss": column("loss"), "micro_f1": of_classes(micro_f1), "exact_match": correct}
SEVERAL["macro_f1"] = lambda records: Sums(by_class(records), macro_f1_of_all(len(records[0]["probabilities"])), len(records))
NUMBERS: Makers = {"loss": column("loss"), "rmse": rooted, "mae": absolute}
NUMBERS |= {"r2": lambda records: Sums(moments(records), r2), "pearson": lambda records: Sums(moments(records), pearson)}
NUMBERS["spearman"] = lambda records: Ranks(np.array([(one["truth"], one["value"]) for one in records], dtype=float))
TAGS: Makers = {
    "loss": loss_of_words,
    "f1": of_spans(micro_f1),
    "precision": of_spans(lambda found: divided(found[..., 0], found[..., 1])),
    "recall": of_spans(lambda found: divided(found[..., 0], found[..., 2])),
    "accuracy": right_words,
    "macro_f1": macro_of_tags,
}
ANSWERS: Makers = {"f1": share_of("f1"), "exact_match": share_of("exact_match")}
ANSWERS |= {
    "has_answer_f1": share_of("f1", only=answerable),
    "no_answer_accuracy": share_of("exact_match", only=lambda one: not answerable(one)),
}
MASKED: Makers = {"loss": column("loss", "hidden"), "perplexity": perplexity("hidden")}
MASKED["masked_accuracy"] = lambda records: counted([one["right"] for one in records], [one["hidden"] for one in records])
WRITTEN: Makers = {"loss": column("loss", "tokens"), "exact_match": written_exactly, **{name: written(name) for name in text.ROUGE}}
WRITTEN |= {name: translated(name) for name in ("bleu", "chrf")}
TOKENS: Makers = {"loss": column("loss", "tokens"), "perplexity": perplexity("tokens"), "bits_per_byte": bits_per_byte}

KINDS: Sequence[tuple[set[str], Makers]] = (
    ({"truth", "label"}, CLASSES),
    ({"truth", "labels"}, SEVERAL),
    ({"truth", "value"}, NUMBERS),
    ({"truth", "predicted"}, TAGS),
    ({"references", "exact_match"}, ANSWERS),
    ({"hidden", "right"}, MASKED),
    ({"tokens", "written"}, WRITTEN),
    ({"tokens", "loss"}, TOKENS),
)
"""By which fields the records of a task are known, and the metrics that come from them."""


def draws(rows: int, number: int, seed: int = 0) -> np.ndarray:
    """(R, N) how often each of N rows is among N drawn with replacement, R times; the same for the same numbers."""
    rng = np.random.default_rng([seed, rows, number])
    places = rng.integers(rows, size=(number, rows)) + rows * np.arange(number)[:, None]
    return np.bincount(places.ravel(), minlength=number * rows).reshape(number, rows).astype(np.float64)
