"""Scores of generated texts: against references (ROUGE, BLEU, chrF), against their source, and by themselves (repetition, variety).

A word is a run of letters, digits and underscores of any script, in lower case. Scripts that write no blanks between words (Chinese,
Thai) make one word of a whole clause: judge those by chrF, which counts characters. All scores are shares from 0 to 1.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

TEXT = {
    "loss": False,
    "rouge1": True,
    "rouge2": True,
    "rougeL": True,
    "rougeLsum": True,
    "bleu": True,
    "chrf": True,
    "exact_match": True,
}

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
COPIED_WORDS = 4
CHARACTERS = 6
SENTENCE_END = re.compile(r"(?<=[.!?…])([\"'”’»)\]]*)\s+|(?<=[。！？])")


def score(written: Sequence[str], references: Sequence[Sequence[str]], sources: Sequence[str] | None = None) -> dict[str, float]:
    """Written texts against one or more references a row, and against their sources where these are given.

    - `rouge1`, `rouge2`, `rougeL`, `rougeLsum`: see `rouge`; `bleu` and `chrf`: see `translation`.
    - `exact_match`: share of rows that equal a reference, white space aside.
    - `length_ratio`: words written / words of the first references, over all rows; NaN where these have none.
    - `copied_ngrams`: share of the written 4-grams of words that stand in the source, as a mean over the rows that have such;
      near 1 for a text that extracts, near 0 for one that rephrases (See et al. 2017 report its complement, novel n-grams).

    The last two have no better direction. Texts are compared in Unicode's composed form (NFC), which many tokenizers write.
    """
    written = [composed(text) for text in written]
    rights = [[composed(reference) for reference in row] or [""] for row in references]
    pairs = list(zip(written, rights, strict=True))
    words_wanted = sum(len(words(right[0])) for right in rights)
    scores = {
        **rouge(written, rights),
        **translation(written, rights),
        "exact_match": mean(text.split() in [right.split() for right in row] for text, row in pairs),
        "length_ratio": sum(len(words(text)) for text in written) / words_wanted if words_wanted else math.nan,
    }
    if sources is not None:
        scores["copied_ngrams"] = copied(written, sources)
    return scores


def rouge(written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean F-measure over rows of common words (1), pairs of words (2), and the longest common subsequence (L, Lsum); Lin 2004.

    Lsum takes the subsequences sentence by sentence, L those of the text as a whole. Of several references the one with the best F
    counts. Computed by rouge_score without stemming; its own tokenizer keeps only a to z and digits, so ours replaces it. The
    two agree on English without underscores. The time for a row grows with its words times its reference's.
    """
    from rouge_score.rouge_scorer import RougeScorer

    judge = RougeScorer(list(ROUGE), tokenizer=Tokenizer())
    rows = [
        judge.score_multi([one_sentence_a_line(reference) for reference in right], one_sentence_a_line(text))
        for text, right in zip(written, references, strict=True)
    ]
    return {name: mean(row[name].fmeasure for row in rows) for name in ROUGE}


def translation(written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU (Papineni et al. 2002) and chrF (Popovic 2015) over all rows together, by sacrebleu's defaults (Post 2018), divided by 100.

    BLEU is the geometric mean of the precisions of 1- to 4-grams times a penalty for brevity; it is 0 where no text has four words.
    chrF is the F2 of character n-grams up to 6. Every row needs a reference; rows may have different numbers of them.
    """
    from sacrebleu import corpus_bleu, corpus_chrf

    if not written:
        return {"bleu": 0.0, "chrf": 0.0}
    most = max(map(len, references))
    # sacrebleu wants one list for each place of a reference, and None where a row has fewer.
    streams: Any = [[row[place] if place < len(row) else None for row in references] for place in range(most)]
    bleu = corpus_bleu(written, streams, force=True).score
    # Rounding can take sacrebleu a little over 100.
    return {"bleu": min(bleu / 100, 1.0), "chrf": min(corpus_chrf(written, streams).score / 100, 1.0)}


def bleu_terms(written: str, reference: str) -> list[int]:
    """What a text adds to BLEU: n-grams of the reference that it has, n-grams that it has (each from 1 to 4), its words, the reference's."""
    from sacrebleu import sentence_bleu

    found = sentence_bleu(written, [reference])
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]


def bleu_of(terms: np.ndarray) -> np.ndarray:
    """BLEU of sums (..., 10) of `bleu_terms`: a precision of nothing in common counts as half, a quarter, ... of one n-gram, as sacrebleu has it."""
    right, said = terms[..., :4], terms[..., 4:8]
    words_said, words_wanted = terms[..., 8], terms[..., 9]
    halved = np.exp2(-np.cumsum(right == 0, axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(right > 0, right, halved) / said
        short = np.exp(np.minimum(0.0, 1 - words_wanted / words_said))
        found = short * np.exp(np.log(precision).mean(axis=-1))
    return np.where((said > 0).all(axis=-1) & (right > 0).any(axis=-1), np.minimum(found, 1.0), 0.0)


def chrf_terms(written: str, reference: str) -> list[int]:
    """What a text adds to chrF: for 1 to 6 characters, white space aside, n-grams that it has, that the reference has, that both have."""
    pair = ["".join(one.split()) for one in (written, reference)]
    found: list[int] = []
    for n in range(1, CHARACTERS + 1):
        mine, its = (Counter(one[start : start + n] for start in range(len(one) - n + 1)) for one in pair)
        found += [mine.total() if its else 0, its.total(), (mine & its).total()]  # as sacrebleu has it
    return found


def chrf_of(terms: np.ndarray) -> np.ndarray:
    """chrF of sums (..., 18) of `chrf_terms`: F2 of the mean precision and the mean recall of those lengths that both sides have."""
    said, wanted, both = (terms[..., place::3] for place in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        known = (said > 0) & (wanted > 0)
        precision, recall = (np.where(known, both / side, 0.0).sum(axis=-1) / known.sum(axis=-1) for side in (said, wanted))
        found = 5 * precision * recall / (4 * precision + recall)
    return np.where(np.isfinite(found), found, 0.0)


TERMS = {"bleu": bleu_terms, "chrf": chrf_terms}
SCORES = {"bleu": bleu_of, "chrf": chrf_of}
"""Both as functions of sums over rows: `translation` for one reference a row."""


def copied(written: Sequence[str], sources: Sequence[str]) -> float:
    """Mean over rows of the share of written 4-grams that stand in the source; rows with fewer words are left out, 0 if all are."""
    shares = []
    for text, source in zip(written, sources, strict=True):
        known, found = set(ngrams(words(source), COPIED_WORDS)), ngrams(words(text), COPIED_WORDS)
        if found:
            shares.append(mean(ngram in known for ngram in found))
    return mean(shares)


def distinct(texts: Sequence[str], n: int) -> float:
    """Distinct n-grams of words / all n-grams, over all texts together (Li et al. 2016). It falls as texts grow longer or more."""
    found = [ngram for text in texts for ngram in ngrams(words(text), n)]
    return len(set(found)) / len(found) if found else 0.0


def repeated(texts: Sequence[str], n: int = 4) -> float:
    """Share of n-grams of words that occurred earlier in the same text: seq-rep-n of Welleck et al. 2019, who count tokens.

    1 - distinct / all for each text, as a mean over the texts of at least n words; 0 where there are none.
    """
    found = [ngrams(words(text), n) for text in texts]
    return mean(1 - len(set(each)) / len(each) for each in found if each)


def shape(texts: Sequence[str], ended: Sequence[bool]) -> dict[str, float]:
    """What freely generated texts look like: share that ended by themselves, variety, repetition, mean length in words."""
    return {
        "ended": mean(ended),
        "distinct_1": distinct(texts, 1),
        "distinct_2": distinct(texts, 2),
        "repeated_4grams": repeated(texts, 4),
        "words": mean(len(words(text)) for text in texts),
    }


class Tokenizer:
    """Gives rouge_score the words of `words`."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def words(text: str) -> list[str]:
    # A mark that is written apart from its letter is no word character, so letters and marks are joined first.
    return re.findall(r"\w+", composed(text).lower())


def ngrams(found: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(found[start:] for start in range(n))))


def one_sentence_a_line(text: str) -> str:
    """The text as it is where it has lines, else cut after each sentence, as ROUGE-Lsum needs it."""
    text = text.strip()
    return text if "\n" in text else SENTENCE_END.sub(r"\1\n", text)


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
