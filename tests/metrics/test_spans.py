"""Spans and tags: by hand, by seqeval's and scikit-learn's own numbers, and what a scheme allows."""

from __future__ import annotations

import random
import warnings
from itertools import chain

import pytest
import seqeval.metrics
from seqeval.scheme import IOB2, IOBES
from sklearn import metrics as sk

from burnish.core.evaluation import Table
from burnish.metrics.spans import PLAIN, SPANS, Scheme, plain, scheme_fault, score, spans

TYPES = ["PER", "LOC", "ORG"]


def valid_row(generator: random.Random, scheme: Scheme) -> list[str]:
    tags: list[str] = []
    for _ in range(generator.randint(0, 5)):
        kind, length = generator.choice(TYPES), generator.randint(0, 3)
        if length == 0:
            tags.append("O")
        elif scheme == "BIO":
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
        elif length == 1:
            tags.append(f"S-{kind}")
        else:
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (length - 2) + [f"E-{kind}"]
    return tags


def random_rows(seed: int, prefixes: str, lengths: list[int]) -> list[list[str]]:
    generator = random.Random(seed)
    tags = ["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in TYPES)]
    return [generator.choices(tags, k=length) for length in lengths]


def test_score_by_hand() -> None:
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-PER"]]
    predicted = [["B-PER", "I-PER", "O", "B-PER"], ["O", "O"]]
    scores, (table,) = score(predicted, truth, "BIO")
    # One of two predicted spans is right, one of three is found, four of six tags.
    assert scores == pytest.approx({"f1": 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3), "precision": 1 / 2, "recall": 1 / 3, "accuracy": 4 / 6})
    assert list(scores) == [name for name in SPANS if name != "loss"]
    assert isinstance(table, Table) and table.title == "Types" and table.note == ""
    assert table.columns == ["type", "precision", "recall", "f1", "spans"]
    assert table.rows == [["LOC", 0.0, 0.0, 0.0, 1], ["PER", 0.5, 0.5, 0.5, 2]]


def test_a_span_with_a_wrong_end_is_wrong() -> None:
    scores, _ = score([["B-PER", "O"]], [["B-PER", "I-PER"]], "BIO")
    assert scores["f1"] == 0.0 and scores["accuracy"] == 0.5


@pytest.mark.parametrize(("scheme", "prefixes"), [("BIO", "BI"), ("BIOES", "BIES")])
def test_score_is_seqevals(scheme: Scheme, prefixes: str) -> None:
    generator = random.Random(0)
    truth = [valid_row(generator, scheme) for _ in range(200)]
    noise = random_rows(1, prefixes, [len(tags) for tags in truth])
    predicted = [
        [tag if generator.random() < 0.8 else other for tag, other in zip(*pair, strict=True)] for pair in zip(truth, noise, strict=True)
    ]
    scores, (table,) = score(predicted, truth, scheme)
    assert 0.2 < scores["f1"] < 0.9
    assert scores["f1"] == pytest.approx(seqeval.metrics.f1_score(truth, predicted))
    assert scores["precision"] == pytest.approx(seqeval.metrics.precision_score(truth, predicted))
    assert scores["recall"] == pytest.approx(seqeval.metrics.recall_score(truth, predicted))
    assert scores["accuracy"] == pytest.approx(seqeval.metrics.accuracy_score(truth, predicted))
    report = seqeval.metrics.classification_report(truth, predicted, output_dict=True)
    for name, precision, recall, f1, support in table.rows:
        found = report[name]
        assert [precision, recall, f1, support] == pytest.approx([found["precision"], found["recall"], found["f1-score"], found["support"]])
    broken = sum(scheme_fault(tags, scheme) is not None for tags in predicted)
    assert broken > 0 and f"break {scheme} in {broken} rows of 200" in getattr(table, "note", "")


@pytest.mark.parametrize(("scheme", "strict"), [("BIO", IOB2), ("BIOES", IOBES)])
def test_lenient_is_strict_where_the_tags_are_valid(scheme: Scheme, strict: type) -> None:
    generator = random.Random(3)
    rows = [valid_row(generator, scheme) for _ in range(400)]
    by_length: dict[int, list[list[str]]] = {}
    for tags in rows:
        by_length.setdefault(len(tags), []).append(tags)
    pairs = [pair for same in by_length.values() for pair in zip(same[::2], same[1::2], strict=False)]
    predicted, truth = [list(one) for one, _ in pairs], [list(other) for _, other in pairs]
    scores, (table,) = score(predicted, truth, scheme)
    assert scores["f1"] == pytest.approx(seqeval.metrics.f1_score(truth, predicted, mode="strict", scheme=strict)) and scores["f1"] > 0
    assert isinstance(table, Table) and table.note == ""


def test_lenient_takes_what_strict_drops() -> None:
    truth, predicted = [["B-PER", "I-PER"]], [["I-PER", "I-PER"]]
    scores, (table,) = score(predicted, truth, "BIO")
    assert scores["f1"] == 1.0 and scores["accuracy"] == 0.5
    assert seqeval.metrics.f1_score(truth, predicted, mode="strict", scheme=IOB2, zero_division=0) == 0.0
    assert isinstance(table, Table) and table.note == "The predicted tags break BIO in 1 row of 1; counted leniently."


@pytest.mark.parametrize(("rows", "accuracy"), [([], 0.0), ([[]], 0.0), ([["O", "O"]], 1.0)], ids=["no rows", "no words", "no spans"])
def test_undefined_scores_are_zero_and_silent(rows: list[list[str]], accuracy: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, _ = score(rows, rows, "BIO")
    assert scores == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": accuracy}


def test_tuples_are_rows_too() -> None:
    tags = (("B-PER", "O"), ("O",))
    assert score(tags, tags, "BIO")[0]["f1"] == 1.0


def test_rows_of_other_length_are_refused() -> None:
    with pytest.raises(ValueError):
        score([["O"]], [["O", "O"]], "BIO")


def test_spans() -> None:
    assert spans(["B-PER", "I-PER", "O", "B-LOC"]) == [("PER", 0, 1), ("LOC", 3, 3)]
    assert spans(["B-PER", "B-PER", "I-LOC"]) == [("PER", 0, 0), ("PER", 1, 1), ("LOC", 2, 2)]
    assert spans(["S-PER", "B-LOC", "I-LOC", "E-LOC"]) == [("PER", 0, 0), ("LOC", 1, 3)]
    assert spans(("B-lieu-dit", "O")) == [("lieu-dit", 0, 0)]
    assert spans(["O"]) == spans([]) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spans(["NOUN", "B-PER"])


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_valid_tags_have_no_fault(scheme: Scheme) -> None:
    generator = random.Random(5)
    assert [scheme_fault(valid_row(generator, scheme), scheme) for _ in range(200)] == [None] * 200


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ([], "BIO"),
        ([], "BIOES"),
        (["B", "I", "O", "B"], "BIO"),
        (["B", "E", "S"], "BIOES"),
        (["B-PER", "B-PER", "B-LOC"], "BIO"),
        (["B-a-b", "I-a-b"], "BIO"),
        (["B-événement", "E-événement", "S-événement"], "BIOES"),
    ],
)
def test_less_usual_valid_tags(tags: list[str], scheme: Scheme) -> None:
    assert scheme_fault(tags, scheme) is None


@pytest.mark.parametrize(
    ("tags", "scheme", "word", "hint"),
    [
        (["O", "I-PER"], "BIO", "word 2 is tagged `I-PER` after `O`", "in BIO it begins with `B-PER`"),
        (["I-PER"], "BIO", "word 1 is tagged `I-PER` at the start", "`B-PER`"),
        (["B-PER", "I-PER", "I-LOC"], "BIO", "word 3 is tagged `I-LOC` after `I-PER`", "`B-LOC`"),
        (["B-PER", "I"], "BIO", "word 2 is tagged `I`", "`B`"),
        (["O", "S-PER"], "BIO", "word 2 is tagged `S-PER`", "BIO knows only O and B-TYPE, I-TYPE"),
        (["b-PER"], "BIO", "word 1 is tagged `b-PER`", "knows only"),
        (["NOUN"], "BIO", "word 1 is tagged `NOUN`", "knows only"),
        (["O-PER"], "BIO", "word 1 is tagged `O-PER`", "knows only"),
        (["B-"], "BIO", "word 1 is tagged `B-`", "knows only"),
        (["O", ""], "BIO", "word 2 is tagged ``", "knows only"),
        (["E-PER"], "BIOES", "word 1 is tagged `E-PER` at the start", "`B-PER` or `S-PER`"),
        (["S-PER", "I-PER"], "BIOES", "word 2 is tagged `I-PER` after `S-PER`", "`B-PER` or `S-PER`"),
        (["B-PER", "E-PER", "E-PER"], "BIOES", "word 3 is tagged `E-PER` after `E-PER`", "`B-PER` or `S-PER`"),
        (["B-PER", "E-LOC"], "BIOES", "word 2 is tagged `E-LOC` after `B-PER`", "`B-LOC` or `S-LOC`"),
        (["B-PER", "O"], "BIOES", "word 2 is tagged `O`", "word 1, tagged `B-PER`, should be `S-PER`"),
        (["B-PER", "I-PER", "B-PER"], "BIOES", "word 3 is tagged `B-PER`", "word 2, tagged `I-PER`, should be `E-PER`"),
        (["B-PER", "S-PER"], "BIOES", "word 2 is tagged `S-PER`", "word 1, tagged `B-PER`, should be `S-PER`"),
        (["O", "B-PER"], "BIOES", "the last span has no end", "word 2, tagged `B-PER`, should be `S-PER`"),
        (["B-PER", "I-PER"], "BIOES", "the last span has no end", "word 2, tagged `I-PER`, should be `E-PER`"),
    ],
)
def test_scheme_fault_names_word_and_remedy(tags: list[str], scheme: Scheme, word: str, hint: str) -> None:
    fault = scheme_fault(tags, scheme)
    assert fault is not None and fault.startswith(word) and hint in fault


@pytest.mark.parametrize(("scheme", "strict", "prefixes"), [("BIO", IOB2, "BI"), ("BIOES", IOBES, "BIES")])
def test_faultless_tags_are_those_that_strict_reads_whole(scheme: Scheme, strict: type, prefixes: str) -> None:
    """seqeval's strict mode finds every tagged word in a span exactly where there is no fault."""
    from seqeval.scheme import Tokens

    seen = set()
    for tags in random_rows(7, prefixes, [length % 5 + 1 for length in range(600)]):
        covered = sum(entity.end - entity.start for entity in Tokens(tags, scheme=strict, sent_id=0).entities)
        whole = covered == sum(tag != "O" for tag in tags)
        assert (scheme_fault(tags, scheme) is None) == whole, tags
        seen.add(whole)
    assert seen == {True, False}


def test_plain_by_hand() -> None:
    truth, predicted = [["N", "N"], ["V", "V"]], [["N", "V"], ["V", "V"]]
    scores, (table,) = plain(predicted, truth, ["V", "N", "X"])
    # F1 of N: 2/3; of V: P 2/3, R 1 -> 4/5; X does not occur and does not count.
    assert scores == pytest.approx({"accuracy": 0.75, "macro_f1": (2 / 3 + 4 / 5) / 2})
    assert list(scores) == [name for name in PLAIN if name != "loss"]
    assert isinstance(table, Table) and table.title == "Tags"
    assert table.columns == ["tag", "precision", "recall", "f1", "words"]
    assert [[row[0], row[4]] for row in table.rows] == [["V", 2], ["N", 2], ["X", 0]]


def test_plain_is_scikit_learns() -> None:
    generator = random.Random(0)
    labels = ["NOUN", "VERB", "ADJ", "PUNCT"]
    truth, predicted = ([generator.choices(labels, k=5) for _ in range(50)] for _ in range(2))
    scores, _ = plain(predicted, truth, labels)
    flat_truth, flat_predicted = [*chain(*truth)], [*chain(*predicted)]
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(flat_truth, flat_predicted))
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(flat_truth, flat_predicted, average="macro"))


def test_plain_edges() -> None:
    assert plain([], [], ["N"]) == plain([[]], [[]], ["N"]) == ({"accuracy": 0.0, "macro_f1": 0.0}, [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, _ = plain([["N"]], [["N"]], ["N"])
    assert scores == {"accuracy": 1.0, "macro_f1": 1.0}
    with pytest.raises(ValueError):
        plain([["N"]], [["N", "N"]], ["N"])
