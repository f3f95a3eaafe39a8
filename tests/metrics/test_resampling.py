"""Metrics as sums over rows: the same numbers as the metrics themselves, on the rows as they are and drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from burnish.metrics import answers, classification, spans, text
from burnish.metrics.resampling import draws, right, sums

Record = dict[str, Any]
Scores = Callable[[Sequence[Record]], dict[str, float]]
NAMES = ["a", "b", "c"]
RNG = np.random.default_rng(0)


def classes() -> list[Record]:
    pairs = [
        (NAMES[true], NAMES[true] if sure < 0.7 else NAMES[other])
        for true, other, sure in zip(*RNG.integers(3, size=(2, 40)), RNG.random(40))
    ]
    return [{"truth": true, "label": guess, "loss": float(RNG.random())} for true, guess in pairs]


def class_scores(records: Sequence[Record]) -> dict[str, float]:
    guess, true = (np.array([NAMES.index(one[key]) for one in records]) for key in ("label", "truth"))
    return {**classification.single_label(guess, true, NAMES)[0], "loss": float(np.mean([one["loss"] for one in records]))}


def several() -> list[Record]:
    names = [*NAMES, "never"]
    marks = RNG.random((40, 2, 4)) < 0.4
    marks[..., 3] = False
    chosen = [[[name for name, mark in zip(names, row) if mark] for row in pair] for pair in marks]
    return [{"truth": true, "labels": said, "probabilities": dict.fromkeys(names, 0.5), "loss": 1.0} for said, true in chosen]


def several_scores(records: Sequence[Record]) -> dict[str, float]:
    names = list(records[0]["probabilities"])
    guess, true = (np.array([[name in one[key] for name in names] for one in records], dtype=int) for key in ("labels", "truth"))
    return classification.multi_label(guess, true, names)[0]


def numbers() -> list[Record]:
    truth = RNG.normal(50, 3, size=40).round()  # some are equal, for ranks
    return [{"truth": float(y), "value": float(p), "loss": float((y - p) ** 2)} for y, p in zip(truth, truth + RNG.normal(size=40))]


def number_scores(records: Sequence[Record]) -> dict[str, float]:
    found = classification.regression(*(np.array([one[key] for one in records]) for key in ("value", "truth")))[0]
    return {name: found[name] for name in ("rmse", "mae", "r2", "pearson", "spearman")}


def tags() -> list[Record]:
    kinds = ["O", "B-X", "I-X", "B-Y"]
    return [{key: [kinds[place] for place in RNG.integers(4, size=6)] for key in ("predicted", "truth")} | {"loss": 1.0} for _ in range(40)]


def tag_scores(records: Sequence[Record]) -> dict[str, float]:
    pair = [one["predicted"] for one in records], [one["truth"] for one in records]
    plain = spans.plain(*pair, ["O", "B-X", "I-X", "B-Y"])[0]
    return {**spans.score(*pair, "BIO")[0], "macro_f1": plain["macro_f1"]}


def replies() -> list[Record]:
    made = []
    for number in range(40):
        reference = ["the red kettle"] if number % 3 else []
        said = ["red kettle", "kettle", "", "a lamp"][number % 4]
        made.append({"prediction": said, "references": reference, "f1": answers.token_f1(said, reference)})
        made[-1]["exact_match"] = answers.exact_match(said, reference)
    return made


def reply_scores(records: Sequence[Record]) -> dict[str, float]:
    return answers.score([one["prediction"] for one in records], [one["references"] for one in records])[0]


def texts() -> list[Record]:
    said = ["a lamp for the hall", "two lamps", "no lamp at all"]
    made = [
        {"tokens": 5 + number % 3, "loss": 0.1 * number, "written": said[number % 3], "reference": said[number % 2]} for number in range(30)
    ]
    return [*made, *({"tokens": 4, "loss": 2.0} for _ in range(10))]


def text_scores(records: Sequence[Record]) -> dict[str, float]:
    asked = [one for one in records if "written" in one]
    found = text.score([one["written"] for one in asked], [[one["reference"]] for one in asked])
    return {name: found[name] for name in ("exact_match", *text.ROUGE, "bleu", "chrf")}


CASES = {
    "classes": (classes, class_scores),
    "several labels": (several, several_scores),
    "numbers": (numbers, number_scores),
    "tags": (tags, tag_scores),
    "answers": (replies, reply_scores),
    "texts": (texts, text_scores),
}


@pytest.mark.parametrize("case", CASES)
def test_sums_give_the_metric_of_the_rows_and_of_any_draw_of_them(case: str) -> None:
    make, score = CASES[case]
    records = make()
    counts = draws(len(records), 3)
    repeated = [[one for one, times in zip(records, row, strict=True) for _ in range(int(times))] for row in counts]
    for name, value in score(records).items():
        found = sums(name, records)
        assert found is not None, name
        assert found.value == pytest.approx(value, abs=1e-9), name
        assert found.drawn(counts) == pytest.approx([score(rows)[name] for rows in repeated], abs=1e-9), name


def test_what_is_counted_in_tokens_weighs_by_them() -> None:
    records = [{"loss": 2.0, "tokens": 1, "bits_per_byte": 4.0, "bytes": 2}, {"loss": 1.0, "tokens": 3, "bits_per_byte": 1.0, "bytes": 6}]
    expected = {"loss": 1.25, "perplexity": np.exp(1.25), "bits_per_byte": 1.75}
    for name, value in expected.items():
        found = sums(name, records)
        assert found is not None and found.value == pytest.approx(value)
    masked = sums("masked_accuracy", [{"loss": 1.0, "hidden": 4, "right": 1}, {"loss": 1.0, "hidden": 1, "right": 1}])
    assert masked is not None and masked.value == pytest.approx(0.4)


def test_what_rows_do_not_tell_is_none() -> None:
    assert sums("distinct_1", texts()) is None and sums("accuracy", []) is None
    assert sums("accuracy", classes()[:3]) is not None


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (["the red lamp is here", "a lamp"], ["the blue lamp is here", "two of them"]),  # no four words in common
        (["lamp", "x"], ["kettle", "y"]),  # nothing in common
        (["a b c", "d"], ["a b c", "e"]),  # no text of four words
        (
            ["le caf\u00e9 d'en face, o\u00f9 l'on attend", "\u6211\u4eec\u7684\u706f"],
            ["le cafe d'en face o\u00f9 l'on attend", "\u6211\u7684\u706f"],
        ),
    ],
)
def test_bleu_and_chrf_are_those_of_sacrebleu_at_their_edges(said: list[str], wanted: list[str]) -> None:
    expected = text.translation(said, [[one] for one in wanted])
    records = [{"tokens": 1, "loss": 1.0, "written": one, "reference": other} for one, other in zip(said, wanted, strict=True)]
    for name, value in expected.items():
        found = sums(name, records)
        assert found is not None and found.value == pytest.approx(value, abs=1e-9), name


def test_what_is_right_or_wrong_is_counted() -> None:
    sizes = {name: found.size for name in ("accuracy", "macro_f1", "loss") if (found := sums(name, classes()))}
    assert sizes == {"accuracy": 40, "macro_f1": 40, "loss": 0}
    words = sums("accuracy", tags())
    assert words is not None and words.size == 240


def test_rows_that_are_right() -> None:
    assert right([{"truth": "a", "label": "a"}, {"truth": "a", "label": "b"}]).tolist() == [True, False]  # type: ignore[union-attr]
    assert right([{"truth": ["a", "b"], "labels": ["b", "a"]}, {"truth": [], "labels": ["a"]}]).tolist() == [True, False]  # type: ignore[union-attr]
    assert right([{"truth": 1.0, "value": 1.0}]) is None


def test_draws_are_of_as_many_rows_and_the_same_again() -> None:
    counts = draws(50, 200)
    assert (counts.sum(axis=1) == 50).all() and (counts == draws(50, 200)).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.35) and counts.var() == pytest.approx(0.98, abs=0.05)
