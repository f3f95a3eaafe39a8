"""Rows that say the same: exactly, or but for a word or two.

Texts are compared as sets of words, white space and case and punctuation aside. Two are *near* where their Jaccard similarity
|A & B| / |A | B| is at least `NEAR`: in a text of five words or more one word may be another. All pairs of 100,000 texts are too many to
compare; MinHash finds the few that are worth it (Broder 1997, "On the resemblance and containment of documents"): under a random order
of all words, two sets have the same first word with a probability that is their similarity.

Legend: N texts, W words of all texts, V different words, H hashes of a text.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

NEAR = 0.66
"""The similarity from which on two texts are near: 4 words in common of 6 in all."""

BANDS, WIDTH = 32, 4
"""Texts that agree in all `WIDTH` hashes of one of `BANDS` bands are compared: of near pairs 1 - (1 - 0.66^4)^32 = 99.9% are, of those
with similarity 0.1 one in 300."""

NEIGHBORS = 4
"""Texts of a band that each is compared with, at most: those that share further hashes stand next to it."""

SLACK = 0.15
"""By how much the share of hashes that agree may fall short of the similarity: 3.6 standard errors, sqrt(0.66 * 0.34 / 128) each."""

CHUNK = 20_000
"""Pairs that are looked at at once, to stay small in memory."""

UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
"""Words of letters and digits; kana and Chinese characters, between which no blanks are written, one by one."""


@dataclass(frozen=True)
class Twins:
    """Two texts by their indices, the first before the second, and how similar they are."""

    first: int
    second: int
    similarity: float


def normal(text: str) -> str:
    """A text without what a careless copy changes: white space and case."""
    return " ".join(text.split()).casefold()


def repeated(keys: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Each key that comes more than once -> where, in order."""
    found: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, []).append(index)
    return {key: places for key, places in found.items() if len(places) > 1}


Text = Sequence[str]
"""What a row says, in one column or several: rows are near only where each of their columns is."""


def near(texts: Sequence[Text], known: Sequence[Text] | None = None, threshold: float = NEAR, seed: int = 0) -> list[Twins]:
    """For each of `texts` that is near another of them, and not the same, one such pair; where `known` is given, for each that is near one
    of those a pair of the known text's index (`first`) and its own (`second`). The most similar come first.

    100,000 texts of twenty words take some seconds. Texts without words are near none.
    """
    own, others = places(texts), places(known or ())
    different = [*own, *(text for text in others if text not in own)]
    if len(different) < 2:
        return []
    asked = np.array([text in own for text in different], dtype=bool)
    columns = [word_sets(column) for column in zip(*different, strict=True)]
    found = nearest(columns, asked, known is not None, threshold, seed)
    pairs = [(different[one], different[other], value) for one, other, value in found]
    if known is None:
        twins = [Twins(min(own[one], own[other]), max(own[one], own[other]), value) for one, other, value in pairs]
    else:
        twins = [Twins(others[other], own[one], value) for one, other, value in pairs]
    return sorted(twins, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def places(texts: Sequence[Text]) -> dict[tuple[str, ...], int]:
    """Each different text, made normal -> where it first stands."""
    found: dict[tuple[str, ...], int] = {}
    for index, text in enumerate(texts):
        found.setdefault(tuple(map(normal, text)), index)
    return found


@dataclass(frozen=True)
class WordSets:
    """The different words of each text, as numbers that rise: text i has `words[offsets[i]:offsets[i + 1]]`."""

    words: np.ndarray  # (W,)
    offsets: np.ndarray  # (N + 1,)
    size: int
    """V."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def word_sets(texts: Sequence[str]) -> WordSets:
    """The words of texts as they stand, in numbers."""
    known: dict[str, int] = {}
    found = [sorted({known.setdefault(word, len(known)) for word in WORD.findall(text)}) for text in texts]
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(words) for words in found], out=offsets[1:])
    words = np.fromiter(chain.from_iterable(found), dtype=np.int32, count=int(offsets[-1]))
    return WordSets(words, offsets, len(known))


def signatures(columns: Sequence[WordSets], seed: int) -> np.ndarray:
    """(N, H) uint32: of each text the smallest of its words' hashes, under H random orders of the words. Empty texts share nothing."""
    draw = np.random.default_rng([seed, 0x5E75])
    count = len(columns[0])
    # An empty text is told apart by its own number, so that it agrees with none.
    found = np.repeat(np.arange(count, dtype=np.uint32)[:, None] + np.uint32(1 << 31), BANDS * WIDTH, axis=1)
    filled = [np.flatnonzero(sets.lengths) for sets in columns]
    for number in range(BANDS * WIDTH):
        order = draw.permutation(sum(sets.size for sets in columns)).astype(np.uint32)  # of the words of all columns
        for sets, rows in zip(columns, filled, strict=True):
            own, order = order[: sets.size], order[sets.size :]
            if len(rows):
                least = np.minimum.reduceat(own[sets.words], sets.offsets[:-1][rows])
                found[rows, number] = np.minimum(found[rows, number], least)
    return found


def nearest(columns: Sequence[WordSets], asked: np.ndarray, across: bool, threshold: float, seed: int) -> list[tuple[int, int, float]]:
    """A near text for each of those `asked` (N,) for, where a band shows one: (its index, the other's, their similarity). Each pair is
    given once; `across`, the other is none of those asked for."""
    hashes = signatures(columns, seed)
    waiting = asked.copy()
    found: list[tuple[int, int, float]] = []
    for band in range(BANDS):
        pairs = neighbors(hashes, band)
        if across:
            pairs = pairs[asked[pairs[:, 0]] != asked[pairs[:, 1]]]
        pairs = np.unique(np.sort(pairs[waiting[pairs].any(axis=1)], axis=1), axis=0)
        # Most that are not near are told by their hashes, of which too few are the same.
        pairs = np.concatenate([part[agreement(hashes, part) >= threshold - SLACK] for part in chunks(pairs)])
        values = np.concatenate([np.min([similarity(sets, part) for sets in columns], axis=0) for part in chunks(pairs)])
        enough = values >= threshold
        for (one, other), value in zip(pairs[enough].tolist(), values[enough].tolist(), strict=True):
            if waiting[one] or waiting[other]:
                found.append((one, other, value) if asked[one] else (other, one, value))
                waiting[[one, other]] = False
    return found


def chunks(pairs: np.ndarray) -> list[np.ndarray]:
    return np.array_split(pairs, max(1, -(-len(pairs) // CHUNK)))


def agreement(hashes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(P,) the share of hashes in which the texts of a pair agree: their similarity, give or take a few hundredths."""
    return (hashes[pairs[:, 0]] == hashes[pairs[:, 1]]).mean(axis=1)


def neighbors(hashes: np.ndarray, band: int) -> np.ndarray:
    """(P, 2) pairs of texts that agree in a band. Within a bucket those stand next to each other that are alike in the next band too."""
    start, beside = band * WIDTH, (band + 1) % BANDS * WIDTH
    key = digest(hashes[:, start : start + WIDTH])
    order = np.lexsort((hashes[:, beside + 1], hashes[:, beside], key))
    ordered = key[order]
    pairs = []
    for step in range(1, NEIGHBORS + 1):
        same = ordered[step:] == ordered[:-step]
        pairs.append(np.stack([order[:-step][same], order[step:][same]], axis=1))
    return np.concatenate(pairs)


def digest(band: np.ndarray) -> np.ndarray:
    """(N,) uint64: one number for the hashes of a band, by multiplication with odd constants (Dietzfelbinger et al. 1997)."""
    mixed = np.full(len(band), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in band.T.astype(np.uint64):
        mixed = (mixed ^ column) * np.uint64(0xFF51AFD7ED558CCD)
        mixed ^= mixed >> np.uint64(33)
    return mixed


def similarity(sets: WordSets, pairs: np.ndarray) -> np.ndarray:
    """(P,) words in common over words in all, 1 where neither text has any."""
    shared = common(sets, pairs)
    whole = sets.lengths[pairs].sum(axis=1) - shared
    return np.where(whole > 0, shared / np.maximum(whole, 1), 1.0)


def common(sets: WordSets, pairs: np.ndarray) -> np.ndarray:
    """(P,) how many words both texts of a pair have: those that occur twice among the words of the two."""
    texts = pairs.ravel()  # (2P,)
    lengths = sets.lengths[texts]
    owners = np.repeat(np.arange(len(texts)) // 2, lengths)
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    codes = owners * max(sets.size, 1) + sets.words[np.repeat(sets.offsets[texts], lengths) + within]
    codes.sort()
    twice = codes[1:][codes[1:] == codes[:-1]]
    return np.bincount(twice // max(sets.size, 1), minlength=len(pairs))
