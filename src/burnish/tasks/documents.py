"""Documents longer than a model reads: cut into chunks that lose nothing, and which part of a target text belongs to which chunk."""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

PARAGRAPH = re.compile(r"\n\s*\n")
LINE = re.compile(r"\n")
SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])[」』”’）]*")
WORD = re.compile(r"\s+")

FILLED = 0.5
"""Of what fits into a chunk, at least this share is used before a paragraph, line or sentence ends it; words end it anywhere."""

SLACK = 0.1
"""A chunk may be longer by this share than all would be if they were equal, so that good boundaries are found and no small rest stays."""

NEAR = 0.95
"""A chunk that fills this share of its room is not made longer: to find out more exactly costs more than it gains."""

GUESSES = 4
"""Ends that are tried by proportion, before halves are sure to find one."""


def chunks(text: str, length: Callable[[str], int], room: int) -> list[str]:
    """The text in pieces of at most `room` by `length` (in tokens); joined, they are the text again, character for character.

    They are about equally long and end with a paragraph, a line, a sentence or a word, in this order, and anywhere where there is
    none of these. Each was measured as it is, so that nothing depends on how the tokens of parts add up; that takes a few calls of
    `length` a chunk. Only a single character that is longer than the room makes a chunk that does not fit.
    """
    whole = length(text)
    if whole <= room:
        return [text]
    density = whole / len(text)
    found, start = list[str](), 0
    while start < len(text):
        rest = (len(text) - start) * density
        aim = int(min(room, rest / math.ceil(rest / room) * (1 + SLACK) + 1))
        end = reach(text, start, length, room if rest <= room else aim, density)
        if end < len(text):
            end = next((cut for cut in boundaries(text, start, end) if length(text[start:cut]) <= room), end)
        found.append(text[start:end])
        start = end
    return found


def reach(text: str, start: int, length: Callable[[str], int], room: int, density: float) -> int:
    """An end of which it was measured that the text from `start` to it fits, and with which it nearly fills the room.

    Found between an end that fits and one that does not: first by the tokens that a character takes, then by halves
    (and never much further than twice what is known to fit, for a long text is slow to measure).
    """
    fits, too_far, guess = start, len(text) + 1, start + int(room / density)
    for attempt in itertools.count():
        if too_far - fits == 1:
            return max(fits, start + 1)
        halfway = min((fits + too_far) // 2, start + 2 * (fits - start) + 1)
        end = guess if fits < guess < too_far and attempt < GUESSES else halfway
        tokens = length(text[start:end])
        if tokens > room:
            too_far = end
        elif end == len(text) or tokens >= NEAR * room - 1:
            return end
        else:
            fits = end
        guess = start + int((end - start) * room * (1 + NEAR) / 2 / max(tokens, 1))
    raise AssertionError("the range halves until it is empty")


def boundaries(text: str, start: int, end: int) -> Iterator[int]:
    """The last end of each kind of boundary between `start` and `end`, the best kind first."""
    least = start + int((end - start) * FILLED)
    for kind in (PARAGRAPH, LINE, SENTENCE, WORD):
        ends = [match.end() for match in kind.finditer(text, start, end) if match.end() > (start if kind is WORD else least)]
        yield from ends[-1:]


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with what stands between it and the next; joined, they are the text again."""
    ends = [match.end() for match in SENTENCE.finditer(text) if 0 < match.end() < len(text)]
    return [text[start:end] for start, end in itertools.pairwise(dict.fromkeys([0, *ends, len(text)]))]


def shares(target: str, parts: Sequence[str]) -> list[str]:
    """For each part of a document the sentences of its summary that it has most words in common with, in their order.

    So each part is trained on what it can know (Gidiotis and Tsoumakas 2020, "A Divide-and-Conquer Approach to the Summarization of
    Long Documents", arXiv:2004.06190, section 3.1). The measure is the number of a sentence's words and pairs of words that stand in
    the part; the first of equal parts gets it.
    """
    known = [pairs(part) for part in parts]
    found = [""] * len(parts)
    for sentence in sentences(target):
        wanted = pairs(sentence)
        overlaps = [len(wanted & have) for have in known]
        found[overlaps.index(max(overlaps))] += sentence
    return [part.strip() for part in found]


def portions(target: str, parts: Sequence[str]) -> list[str]:
    """For each part of a document the sentences of its translation that stand where it stands, by characters from the beginning."""
    whole = sum(map(len, parts))
    starts = [done / whole for done in itertools.accumulate(map(len, parts[:-1]), initial=0)]
    found, done = [""] * len(parts), 0
    for sentence in sentences(target):
        middle = (done + len(sentence) / 2) / len(target)
        found[bisect_right(starts, middle) - 1] += sentence
        done += len(sentence)
    return [part.strip() for part in found]


def pairs(text: str) -> set[tuple[str, ...]]:
    """Words and pairs of neighboring words."""
    words = re.findall(r"\w+", text.lower())
    return {(word,) for word in words} | set(itertools.pairwise(words))
