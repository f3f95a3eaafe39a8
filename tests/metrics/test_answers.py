"""Answers: by hand, and by the arithmetic of the official SQuAD v2.0 script."""

from __future__ import annotations

import collections
import random
import re
import string

import pytest

from burnish.core.evaluation import Table
from burnish.metrics.answers import ANSWERS, exact_match, normalize, score, token_f1


def official_normal(text: str) -> str:
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text).split())


def official_f1(truth: str, prediction: str) -> float:
    gold, found = official_normal(truth).split(), official_normal(prediction).split()
    same = sum((collections.Counter(gold) & collections.Counter(found)).values())
    if len(gold) == 0 or len(found) == 0:
        return int(gold == found)
    if same == 0:
        return 0
    precision, recall = same / len(found), same / len(gold)
    return (2 * precision * recall) / (precision + recall)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("The  Cat,\tsat!", "cat sat"),
        ("an apple a day", "apple day"),
        ("theatre", "theatre"),
        ("U.S.", "us"),
        # Punctuation goes before articles do, so what was hidden by it is no article any more.
        ("the-end", "theend"),
        ("L'été", "lété"),
        ("« La  Paix »", "« la paix »"),
        ("the", ""),
        ("", ""),
    ],
)
def test_normalize(written: str, normal: str) -> None:
    assert normalize(written) == normal == official_normal(written)


def test_exact_match_takes_any_reference() -> None:
    assert exact_match("The Eiffel Tower.", ["Paris", "eiffel tower"]) == 1.0
    assert exact_match("Eiffel", ["eiffel tower"]) == 0.0
    assert exact_match("été", ["Été"]) == 1.0
    assert exact_match("ete", ["été"]) == 0.0


def test_token_f1_by_hand() -> None:
    # Common: "cat", "sat"; P = 2/3, R = 2/4.
    assert token_f1("the cat sat down", ["cat sat on mats"]) == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    # A word counts as often as both have it.
    assert token_f1("no no no", ["no"]) == pytest.approx(2 * (1 / 3) * 1 / (1 / 3 + 1))
    assert token_f1("no no no", ["no", "never", "no no no"]) == 1.0
    assert token_f1("dog", ["cat"]) == 0.0


@pytest.mark.parametrize("references", [[], [""], ["  "], ["", ""]])
def test_without_an_answer_only_silence_is_right(references: list[str]) -> None:
    assert exact_match("", references) == token_f1("", references) == 1.0
    assert exact_match("something", references) == token_f1("something", references) == 0.0


def test_an_empty_reference_beside_a_real_one_accepts_no_silence() -> None:
    assert exact_match("", ["", "cat"]) == token_f1("", ["", "cat"]) == 0.0


def test_official_numbers() -> None:
    generator = random.Random(0)
    vocabulary = ["the", "a", "cat", "Cat.", "dog", "été", "-", "1,000", "an", "l'eau"]

    def phrase(least: int) -> str:
        return " ".join(generator.choices(vocabulary, k=generator.randint(least, 6)))

    rows = [(phrase(0), [phrase(1) for _ in range(generator.randint(0, 3))]) for _ in range(300)]
    f1, exact = [], []
    for prediction, references in rows:
        golds = [text for text in references if official_normal(text)] or [""]
        f1.append(max(official_f1(gold, prediction) for gold in golds))
        exact.append(max(int(official_normal(gold) == official_normal(prediction)) for gold in golds))
    scores, _ = score([prediction for prediction, _ in rows], [references for _, references in rows])
    assert scores["f1"] == pytest.approx(sum(f1) / len(f1)) and 0.1 < scores["f1"] < 0.9
    assert scores["exact_match"] == pytest.approx(sum(exact) / len(exact))


def test_both_kinds_of_question_are_told_apart() -> None:
    scores, (table,) = score(["cat", "big cat", "", "dog"], [["cat"], ["cat"], [], []])
    assert scores["exact_match"] == 0.5
    assert scores["f1"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
    assert scores["has_answer_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["no_answer_accuracy"] == 0.5
    assert isinstance(table, Table)
    assert [[row[0], row[3]] for row in table.rows] == [["has an answer", 2], ["no answer", 2]]
    assert table.rows[0][1:3] == [pytest.approx(5 / 6), 0.5] and table.rows[1][1:3] == [0.5, 0.5]


@pytest.mark.parametrize("references", [[["cat"], ["dog"]], [[], []]], ids=["all have", "none has"])
def test_one_kind_of_question_needs_no_table(references: list[list[str]]) -> None:
    scores, sections = score(["cat", ""], references)
    assert scores == {"f1": 0.5, "exact_match": 0.5} and sections == []
    assert list(scores) == [name for name in ANSWERS if name != "loss"]


def test_no_rows_and_rows_that_do_not_match() -> None:
    assert score([], []) == ({"f1": 0.0, "exact_match": 0.0}, [])
    with pytest.raises(ValueError):
        score(["cat"], [["cat"], ["dog"]])
