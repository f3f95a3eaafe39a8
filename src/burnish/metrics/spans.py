"""Scores of taggers: spans (entities) by seqeval, plain tags (parts of speech) by scikit-learn; and whether tags form valid spans.

BIO: B-X begins a span of type X, I-X goes on with it, O is outside; a B or I alone is of a single, nameless type.
BIOES adds E-X for the last word of a span and S-X for a span of one word.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np

from burnish.core.errors import count
from burnish.core.evaluation import Matrix, Table
from burnish.metrics.classification import single_label

SPANS = {"loss": False, "f1": True, "precision": True, "recall": True, "accuracy": True}
PLAIN = {"loss": False, "accuracy": True, "macro_f1": True}

Scheme = Literal["BIO", "BIOES"]
PREFIXES = {"BIO": "BI", "BIOES": "BIES"}
BEGUN = ("B", "I")


def score(
    predicted: Sequence[Sequence[str]], truth: Sequence[Sequence[str]], scheme: Scheme
) -> tuple[dict[str, float], list[Table | Matrix]]:
    """Precision, recall and F1 over the spans of all rows together (micro), share of right tags; a table of the types.

    A span counts as found where its type, first and last word are all right. This is seqeval's default, which agrees with the
    CoNLL script and is what papers report: it is lenient to tags that break the scheme (an I-X after O begins a span, a B-X in BIOES
    need not be ended). Its strict mode drops such spans, so it differs only where a prediction breaks the scheme; the note of the
    table says in how many rows that is. A score that is undefined, as precision where nothing was predicted, is 0.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    predicted, truth = [list(map(str, tags)) for tags in predicted], [list(map(str, tags)) for tags in truth]
    if not truth:
        return dict.fromkeys((name for name in SPANS if name != "loss"), 0.0), []
    words = [guess == tag for row in zip(predicted, truth, strict=True) for guess, tag in zip(*row, strict=True)]
    types = sorted({found[0] for tags in (*predicted, *truth) for found in spans(tags)})
    with silent():
        precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, average="micro", zero_division=0)
        by_type = precision_recall_fscore_support(truth, predicted, average=None, zero_division=0)
    scores = {"f1": float(f1), "precision": float(precision), "recall": float(recall), "accuracy": sum(words) / max(len(words), 1)}
    rows = [[name, float(p), float(r), float(f), int(n)] for name, p, r, f, n in zip(types, *by_type, strict=True)]
    broken = sum(scheme_fault(tags, scheme) is not None for tags in predicted)
    note = f"The predicted tags break {scheme} in {count(broken, 'row')} of {len(predicted):,}; counted leniently." if broken else ""
    return scores, [Table("Types", ["type", "precision", "recall", "f1", "spans"], rows, note)]


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, last word) of each span by seqeval's lenient reading; words count from 0 and the last one belongs to it."""
    from seqeval.metrics.sequence_labeling import get_entities

    with silent():
        return [(str(name), int(first), int(last)) for name, first, last in get_entities(list(tags))]


def scheme_fault(tags: Sequence[str], scheme: Scheme) -> str | None:
    """Which word (counted from 1) carries a tag that cannot stand there, why, and what could; None where all tags are valid."""
    prefixes = PREFIXES[scheme]
    form = re.compile(rf"O|[{prefixes}](-.+)?")
    for number, (before, tag) in enumerate(pairwise(["", *tags]), start=1):
        here = f"word {number} is tagged `{tag}`"
        if not form.fullmatch(tag):
            return f"{here}, but {scheme} knows only O and {', '.join(f'{prefix}-TYPE' for prefix in prefixes)}"
        # All tags before are valid, so the last one alone tells whether a span is under way.
        begun = before[:1] in BEGUN
        goes_on = begun and tag[0] in "IE" and tag[1:] == before[1:]
        if tag[0] in "IE" and not goes_on:
            after = f"after `{before}`" if before else "at the start"
            begin = " or ".join(f"`{prefix}{tag[1:]}`" for prefix in prefixes if prefix in "BS")
            return f"{here} {after}, where no such span has begun: in {scheme} it begins with {begin}"
        if scheme == "BIOES" and begun and not goes_on:
            return f"{here}, but the span before it has no end: {ending(number - 1, before)}"
    if scheme == "BIOES" and tags and tags[-1][0] in BEGUN:
        return f"the last span has no end: {ending(len(tags), tags[-1])}"
    return None


def ending(number: int, tag: str) -> str:
    """How a BIOES span whose last word is tagged B or I should have been written."""
    wanted = f"S{tag[1:]}" if tag[0] == "B" else f"E{tag[1:]}"
    return f"word {number}, tagged `{tag}`, should be `{wanted}` if it is the last of its span"


def plain(
    predicted: Sequence[Sequence[str]], truth: Sequence[Sequence[str]], labels: Sequence[str]
) -> tuple[dict[str, float], list[Table | Matrix]]:
    """Share of right tags and macro F1 (unweighted mean over the tags that occur), for tags that are not spans; a table of the tags.

    `labels` are all tags that may occur, in the order of the table.
    """
    index = {label: position for position, label in enumerate(labels)}
    pairs = [(index[guess], index[tag]) for row in zip(predicted, truth, strict=True) for guess, tag in zip(*row, strict=True)]
    if not pairs:
        return dict.fromkeys((name for name in PLAIN if name != "loss"), 0.0), []
    guesses, tags = np.array(pairs).T  # (words,) each
    with silent():
        scores, (classes, _) = single_label(guesses, tags, labels)
    assert isinstance(classes, Table)
    table = replace(classes, title="Tags", columns=["tag", "precision", "recall", "f1", "words"])
    return {name: scores[name] for name in PLAIN if name != "loss"}, [table]


@contextmanager
def silent() -> Iterator[None]:
    """seqeval warns of tags it cannot read, scikit-learn of a single label: neither says more than the scores do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
