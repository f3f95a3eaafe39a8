"""The words of a passage, which of them may be touched, and the passage with some of them replaced.

A word is what stands between blanks, without the punctuation at its ends. Left as they are: words of a fixed stretch, names (a capital
within a sentence), numbers, contractions, links and whatever else is not letters, and the words that carry a sentence's grammar or turn
its meaning around (STOPPED). Languages that write no blanks between words have, in this sense, sentences for words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from burnish.core.passage import Passage, Stretch, written

OPENING = "\"'“‘„«(¿¡*_"
CLOSING = "\"'”’“»)*_.,;:!?…"
STOPS = ".!?…:"
ENDING = ".,;:!?…"

STOPPED = frozenset(
    [
        "a",
        "an",
        "the",
        "this",
        "that",
        "these",
        "those",
        "some",
        "any",
        "each",
        "every",
        "either",
        "neither",
        "both",
        "all",
        "such",
        "same",
        "other",
        "another",
        "i",
        "me",
        "my",
        "mine",
        "myself",
        "you",
        "your",
        "yours",
        "yourself",
        "yourselves",
        "he",
        "him",
        "his",
        "himself",
        "she",
        "her",
        "hers",
        "herself",
        "it",
        "its",
        "itself",
        "we",
        "us",
        "our",
        "ours",
        "ourselves",
        "they",
        "them",
        "their",
        "theirs",
        "themselves",
        "one",
        "ones",
        "who",
        "whom",
        "whose",
        "which",
        "what",
        "whatever",
        "whoever",
        "am",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "do",
        "does",
        "did",
        "doing",
        "done",
        "have",
        "has",
        "had",
        "having",
        "can",
        "could",
        "may",
        "might",
        "must",
        "shall",
        "should",
        "will",
        "would",
        "ought",
        "and",
        "or",
        "but",
        "nor",
        "so",
        "yet",
        "if",
        "unless",
        "because",
        "while",
        "although",
        "though",
        "whereas",
        "since",
        "until",
        "till",
        "when",
        "whenever",
        "where",
        "wherever",
        "why",
        "how",
        "than",
        "as",
        "about",
        "above",
        "across",
        "after",
        "against",
        "along",
        "among",
        "around",
        "at",
        "before",
        "behind",
        "below",
        "beneath",
        "beside",
        "between",
        "beyond",
        "by",
        "despite",
        "down",
        "during",
        "except",
        "for",
        "from",
        "in",
        "inside",
        "into",
        "like",
        "near",
        "of",
        "off",
        "on",
        "onto",
        "out",
        "outside",
        "over",
        "past",
        "per",
        "through",
        "throughout",
        "to",
        "toward",
        "towards",
        "under",
        "underneath",
        "up",
        "upon",
        "via",
        "with",
        "within",
        "without",
        "not",
        "no",
        "never",
        "none",
        "nobody",
        "nothing",
        "nowhere",
        "cannot",
        "hardly",
        "barely",
        "scarcely",
        "seldom",
        "rarely",
        "neither",
        "without",
        "lack",
        "lacks",
        "lacked",
        "lacking",
        "ain",
        "aren",
        "couldn",
        "didn",
        "doesn",
        "don",
        "hadn",
        "hasn",
        "haven",
        "isn",
        "mightn",
        "mustn",
        "needn",
        "shan",
        "shouldn",
        "wasn",
        "weren",
        "won",
        "wouldn",
        "there",
        "here",
        "then",
        "now",
        "very",
        "too",
        "also",
        "only",
        "just",
        "even",
        "still",
        "again",
        "once",
        "more",
        "most",
        "less",
        "least",
        "much",
        "many",
        "few",
        "little",
        "own",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "hundred",
        "thousand",
        "million",
        "billion",
    ]
)
"""Function words, negations and number words of English: never replaced, moved or left out."""


@dataclass(frozen=True)
class Word:
    """Characters `start:end` of the stretch with number `stretch`.

    `touchable` words may be replaced; `loose` ones also leave a whole sentence behind where they move or go; `first` ones begin a
    sentence with a capital, so that it says nothing about them.
    """

    text: str
    stretch: int
    start: int
    end: int
    touchable: bool
    loose: bool
    first: bool = False


def words(passage: Passage, kept: frozenset[str] = frozenset()) -> list[Word]:
    """Every word of the passage in order, those in fixed stretches too; `kept`, in small letters, are not touchable."""
    text = written(passage)
    starts = [0, *accumulate(len(stretch.text) for stretch in passage)]
    found, stretch = list[Word](), 0
    heading = capitals(text)
    begins, before = True, ""
    for chunk, at in chunks(text):
        lead, tail = edges(chunk)
        core = chunk[lead : len(chunk) - tail]
        start, end = at + lead, at + len(chunk) - tail
        while stretch + 1 < len(passage) and start >= starts[stretch + 1]:
            stretch += 1
        if spelled(core):
            small, ordinary = core.lower(), heading or core.islower()
            first = begins and not ordinary and core[1:].islower() and core[0].isupper()
            free = not passage[stretch].fixed and end <= starts[stretch + 1] and at >= starts[stretch]
            touchable = free and (ordinary or first) and len(core) > 1 and small not in STOPPED and small not in kept
            bare = tail == 0 or (before[-1:].isalnum() and all(sign in ENDING for sign in chunk[len(chunk) - tail :]))
            loose = touchable and not first and lead == 0 and bare
            found.append(Word(core, stretch, start - starts[stretch], end - starts[stretch], touchable, loose, first))
        begins, before = chunk[-1] in STOPS or (chunk[-1] in CLOSING and chunk.rstrip(CLOSING.replace(".", ""))[-1:] in STOPS), chunk
    return found


def chunks(text: str) -> list[tuple[str, int]]:
    """What stands between blanks, and where."""
    found, at = list[tuple[str, int]](), 0
    for chunk in text.split():
        at = text.index(chunk, at)
        found.append((chunk, at))
        at += len(chunk)
    return found


@lru_cache(maxsize=100_000)
def edges(chunk: str) -> tuple[int, int]:
    """How many signs of punctuation stand before and behind a word."""
    core = chunk.lstrip(OPENING)
    return len(chunk) - len(core), len(core) - len(core.rstrip(CLOSING))


@lru_cache(maxsize=100_000)
def spelled(core: str) -> bool:
    """Whether characters are a word and nothing else: letters and what is put on them. A contraction is none, nor is `well-made`."""
    return core != "" and core[0].isalpha() and all(sign.isalpha() or unicodedata.category(sign)[0] == "M" for sign in core)


def capitals(text: str) -> bool:
    """Whether most words begin with a capital, as in a heading or in what is shouted: then a capital is no sign of a name."""
    letters = [chunk[0] for chunk in text.split() if chunk[0].isalpha()]
    return len(letters) > 1 and sum(letter.isupper() for letter in letters) > len(letters) / 2


def cased(word: str, like: str) -> str:
    """`word` in the capitals of another.

    >>> cased("kettle", "MOVIE"), cased("kettle", "Movie"), cased("Kettle", "movie")
    ('KETTLE', 'Kettle', 'kettle')
    """
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:].lower() if like[:1].isupper() else word.lower()


def edited(passage: Passage, found: Sequence[Word], changes: Mapping[int, str]) -> Passage:
    """The passage with the words at some places of `found` replaced; one replaced by nothing takes a blank beside it along."""
    texts = [stretch.text for stretch in passage]
    for place in sorted(changes, reverse=True):
        word, text = found[place], texts[found[place].stretch]
        start, end = word.start, word.end
        if not changes[place]:
            if text[end : end + 1] == " ":
                end += 1
            elif text[:start].endswith(" "):
                start -= 1
        texts[word.stretch] = text[:start] + changes[place] + text[end:]
    return tuple(Stretch(text, stretch.fixed) for text, stretch in zip(texts, passage, strict=True))
