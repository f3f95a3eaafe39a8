"""Scores of generated texts: against references (ROUGE, BLEU, chrF), against their source, and by themselves (repetition, variety).

A word is a run of letters, digits and underscores of any script, in lower case. Scripts that write no blanks between words (Chinese,
Thai) make one word of a whole clause: judge those by chrF, which counts characters. All scores are shares from 0 to 1.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

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
