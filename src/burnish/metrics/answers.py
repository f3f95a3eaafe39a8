"""Scores of answers to questions: exact match and F1 as the official SQuAD scripts define them.

Rajpurkar et al. 2016 (v1.1) and 2018 (v2.0, with questions that have no answer), but as shares from 0 to 1 instead of percent.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from burnish.core.evaluation import Matrix, Table
from burnish.metrics.text import mean

ANSWERS = {"loss": False, "f1": True, "exact_match": True}

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single blanks, in the official order.

    Nothing is adapted to other languages, since numbers that are to be compared with published ones must count as those do:
    French articles and quotation marks such as « stay, and an accent written as a letter and a mark is not its single character.
    """
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(NO_PUNCTUATION)).split())


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 where the prediction equals a reference after `normalize`, else 0. Without references it has to be empty."""
    return float(normalize(prediction) in accepted(references))


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """The best F1 over references of the bags of words: 2PR / (P + R), where P and R are the common share of either bag.

    Where one side is empty it is 1 if both are, else 0. Without references the prediction has to be empty.
    """
    return max(bag_f1(normalize(prediction).split(), reference.split()) for reference in accepted(references))


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[dict[str, float], list[Table | Matrix]]:
    """Mean F1 and exact match over rows; `references` are the right answers of each row, none for a question without an answer.

    Where rows with and without an answer both occur, `has_answer_f1` and `no_answer_accuracy` tell them apart, since a model that
    never answers is right in all of the latter.
    """
    f1 = [token_f1(prediction, right) for prediction, right in zip(predictions, references, strict=True)]
    exact = [exact_match(prediction, right) for prediction, right in zip(predictions, references, strict=True)]
    scores = {"f1": mean(f1), "exact_match": mean(exact)}
    answerable = [any(answer.strip() for answer in right) for right in references]
    if len(set(answerable)) < 2:
        return scores, []
    rows: list[list[str | float | int]] = []
    for title, wanted in (("has an answer", True), ("no answer", False)):
        chosen = [index for index, has in enumerate(answerable) if has is wanted]
        rows.append([title, mean(f1[index] for index in chosen), mean(exact[index] for index in chosen), len(chosen)])
    scores |= {"has_answer_f1": float(rows[0][1]), "no_answer_accuracy": float(rows[1][2])}
    return scores, [Table("Questions", ["question", "f1", "exact match", "rows"], rows)]


def accepted(references: Sequence[str]) -> list[str]:
    """The normalized references that say something; the empty answer where there are none."""
    return [text for text in map(normalize, references) if text] or [""]


def bag_f1(predicted: Sequence[str], truth: Sequence[str]) -> float:
    if not predicted or not truth:
        return float(predicted == truth)
    common = (Counter(predicted) & Counter(truth)).total()
    return 2 * common / (len(predicted) + len(truth))
