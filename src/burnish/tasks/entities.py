"""What a model says of the words of a row, and the spans in it, as people read them.

Legend: W words, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from burnish.core.errors import count
from burnish.core.evaluation import Matrix, Section, Table
from burnish.metrics import spans as scores
from burnish.tasks.classify import MISTAKES_SHOWN, shorten
from burnish.tasks.spans import OUTSIDE, Span

Given = str | Sequence[str]
"""A text, or a list of words."""


@dataclass(frozen=True)
class Tagged:
    """All words of a row with their tags; a word is `start:end` in the text's characters, or its index in the list and the next."""

    given: Given
    starts: Sequence[int]
    ends: Sequence[int]
    tags: Sequence[str]

    @cached_property
    def spans(self) -> list[tuple[str, int, int]]:
        """(type, first word, last word) of each span; an I- that follows no span of its type begins one."""
        return scores.spans(self.tags)

    @cached_property
    def extents(self) -> list[tuple[int, int]]:
        """Where each span begins and ends, end exclusive, in characters or words."""
        return [(int(self.starts[first]), int(self.ends[last])) for _, first, last in self.spans]

    def text(self, start: int, end: int) -> str:
        return self.given[start:end] if isinstance(self.given, str) else " ".join(self.given[start:end])

    def entities(self, probabilities: Sequence[float]) -> list[dict[str, Any]]:
        """Each span as a record; its score is the mean probability of its words' tags."""
        return [
            {
                "label": label,
                "start": start,
                "end": end,
                "text": self.text(start, end),
                "score": float(np.mean(probabilities[first : last + 1])),
            }
            for (label, first, last), (start, end) in zip(self.spans, self.extents, strict=True)
        ]

    def named(self) -> list[str]:
        """Each span as `New York/PLACE`."""
        return [f"{self.text(*extent)}/{label}" for (label, _, _), extent in zip(self.spans, self.extents, strict=True)]

    def words(self, places: Sequence[int]) -> list[str]:
        """Some words as `runs/VERB`."""
        return [f"{self.text(self.starts[place], self.ends[place])}/{self.tags[place]}" for place in places]


@dataclass(frozen=True)
class Told:
    """What the model says of a row: logits (W, C) of the words that the tokenizer made pieces of, and where these words stand."""

    given: Given
    starts: np.ndarray
    ends: np.ndarray
    logits: np.ndarray

    @property
    def extents(self) -> tuple[Sequence[int], Sequence[int]]:
        """Starts and ends of all words, also of those in a list without a piece."""
        if isinstance(self.given, str):
            return self.starts.tolist(), self.ends.tolist()
        return range(len(self.given)), range(1, len(self.given) + 1)

    @property
    def places(self) -> np.ndarray:
        """(W,) which of all words these are."""
        return np.arange(len(self.starts)) if isinstance(self.given, str) else self.starts

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """(W, C) log softmax, in double precision."""
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    def tagged(self, labels: Sequence[str]) -> Tagged:
        """The likeliest tag of every word; O for a word without a piece, of which the model read nothing."""
        starts, ends = self.extents
        tags = [OUTSIDE] * len(starts)
        for place, best in zip(self.places, self.logits.argmax(axis=1), strict=True):
            tags[place] = labels[best]
        return Tagged(self.given, starts, ends, tags)

    def probabilities(self) -> list[float]:
        """The probability of every word's tag; 0 for a word without a piece."""
        found = np.zeros(len(self.extents[0]))
        found[self.places] = np.exp(self.log_probabilities.max(axis=1))
        return found.tolist()

    def losses(self, truth: Sequence[str], index: Mapping[str, int]) -> np.ndarray:
        """(W,) -log probability of each word's true tag, in nats."""
        wanted = [index[truth[place]] for place in self.places]
        return -self.log_probabilities[np.arange(len(wanted)), wanted]


def confusion(truth: Sequence[Tagged], predicted: Sequence[Tagged], labels: Sequence[str]) -> Matrix:
    """Counts of words by true and predicted tag."""
    index = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    for row, guess in zip(truth, predicted, strict=True):
        np.add.at(counts, ([index[tag] for tag in row.tags], [index[tag] for tag in guess.tags]), 1)
    return Matrix("Confusion of words", list(labels), counts.tolist())


def with_misaligned(sections: Sequence[Section], spans: Sequence[Sequence[Span]], truth: Sequence[Tagged]) -> list[Section]:
    """The sections, with a word in their table on the spans of texts that the tokenizer's words cannot tell exactly."""
    given = [{(span.start, span.end) for span in row} for row in spans]
    lost = sum(len(own - set(tagged.extents)) for own, tagged in zip(given, truth, strict=True))
    if not lost:
        return list(sections)
    note = f"{lost:,} of {count(sum(map(len, given)), 'span')} begin or end within a word; scored are the words that they touch."
    return [replace(section, note=f"{note} {section.note}".strip()) if isinstance(section, Table) else section for section in sections]


def mistakes(truth: Sequence[Tagged], predicted: Sequence[Tagged], records: Sequence[Mapping[str, Any]], plain: bool) -> Table:
    """The rows that cost most among those with a wrong span, or with a wrong tag where tags are plain; then only the wrong words."""
    wrong = [
        at
        for at, (row, guess) in enumerate(zip(truth, predicted, strict=True))
        if (row.tags != guess.tags if plain else row.spans != guess.spans)
    ]
    wrong.sort(key=lambda at: -records[at]["loss"])
    shown = []
    for at in wrong[:MISTAKES_SHOWN]:
        both = truth[at], predicted[at]
        differing = [place for place, (tag, guess) in enumerate(zip(*(one.tags for one in both), strict=True)) if tag != guess]
        told = [", ".join(one.words(differing) if plain else one.named()) or "(none)" for one in both]
        text = both[0].given if isinstance(both[0].given, str) else " ".join(both[0].given)
        shown.append([shorten(text), *map(shorten, told), records[at]["loss"], records[at]["row"]])
    note = f"{len(wrong):,} of {len(records):,} rows have {'a wrong tag' if plain else 'a wrong, missing or needless span'}; those with the highest loss are shown."
    return Table("Worst mistakes", ["text", "truth", "predicted", "loss", "row"], shown, note)
