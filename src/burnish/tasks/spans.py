"""Tags of words and spans of characters: how cells hold them, and how one becomes the other.

A tag scheme writes spans as tags. BIO: B-X on a span's first word, I-X on the others, O outside (Ramshaw & Marcus 1995, as IOB2);
BIOES also marks the last word E-X, and a single one S-X. Tags that are no spans (parts of speech) are plain.
"""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from burnish.metrics.spans import PREFIXES

Scheme = Literal["BIO", "BIOES", "plain"]
OUTSIDE = "O"
FORMS = {scheme: re.compile(rf"O|[{prefixes}](-.+)?") for scheme, prefixes in PREFIXES.items()}


@dataclass(frozen=True, order=True)
class Span:
    """Characters `start:end` of a text, and what they are."""

    start: int
    end: int
    label: str


# What cells hold


def read_list(value: Any, what: str) -> list[Any]:
    """The entries of a cell: a list, a list written as JSON or Python writes it, or text parted by blanks. Raises ValueError."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise ValueError("is missing")
    if isinstance(value, str):
        found = written_list(value)
        return value.split() if found is None else found
    if isinstance(value, (list, tuple)):
        return list(value)
    raise ValueError(f"holds {type(value).__name__} where a list of {what} is expected")


def written_list(text: str) -> list[Any] | None:
    """The entries of a list that a csv cell holds as text, or None where it is no such list."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(text)
            except (ValueError, SyntaxError):
                continue
            return found if isinstance(found, list) else None
    return None


def read_words(value: Any) -> list[str]:
    """The words in a cell. Raises ValueError with what is wrong."""
    entries = read_list(value, "words (or a text, with blanks between them)")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, (str, int, float)) or entry != entry:
            raise ValueError(f"holds {'nothing' if entry is None else repr(entry)} as word {number}, where a text is expected")
    words = [str(entry) for entry in entries]
    if not any(word.strip() for word in words):
        raise ValueError("is empty: it holds no word")
    return words


def read_text(value: Any) -> str:
    """The text in a cell. Raises ValueError with what is wrong."""
    if isinstance(value, (list, dict)):
        raise ValueError(f"holds {type(value).__name__} where a text is expected")
    if value is None or value != value:
        raise ValueError("is missing")
    if not str(value).strip():
        raise ValueError("is empty")
    return str(value)


def read_tags(value: Any, labels: Sequence[str] | None) -> list[str]:
    """The tags in a cell; numbers are positions in `labels`. Raises ValueError with what is wrong."""
    tags = []
    for number, entry in enumerate(read_list(value, "tags"), start=1):
        if isinstance(entry, int) and not isinstance(entry, bool):
            if labels is None:
                raise ValueError("holds numbers: say in task.labels which tags they stand for, in order, such as [O, B-PER, I-PER]")
            if not 0 <= entry < len(labels):
                raise ValueError(f"holds {entry} as tag {number}, but task.labels has the positions 0 to {len(labels) - 1}")
            entry = labels[entry]
        if not isinstance(entry, str) or not entry.strip():
            raise ValueError(f"holds {'nothing' if entry in (None, '') else repr(entry)} as tag {number}, where a text is expected")
        tags.append(entry.strip())
    return tags


def read_spans(value: Any, text: str) -> list[Span]:
    """The spans in a cell in the order of the text: {start, end, label}, or [start, end, label]. Raises ValueError with what is wrong."""
    entries = written_list(value) if isinstance(value, str) else read_list(value, "{start, end, label}")
    if entries is None:
        raise ValueError("holds text where a list of {start, end, label} is expected (an empty one, [], where there are none)")
    spans = sorted(read_span(entry, text) for entry in entries)
    for before, span in pairwise(spans):
        if span.start < before.end:
            raise ValueError(
                f"holds spans that overlap: {shown(before, text)} and {shown(span, text)}. A character can be of one span only"
            )
    return spans


def read_span(entry: Any, text: str) -> Span:
    """One span of `text`. Raises ValueError where it is none, or holds no character to be seen."""
    if isinstance(entry, Mapping):
        entry = [entry.get(key) for key in ("start", "end", "label")]
    if not isinstance(entry, (list, tuple)) or len(entry) != 3:
        raise ValueError(f"holds {entry!r} where {{start, end, label}} is expected")
    start, end, label = entry
    if any(not isinstance(place, int) or isinstance(place, bool) for place in (start, end)):
        raise ValueError(f"holds a span from {start!r} to {end!r}: both are numbers of characters, counted from 0")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"holds a span from {start} to {end} without a label")
    if not 0 <= start < end <= len(text):
        raise ValueError(
            f"holds a span from {start} to {end}, but the text has {len(text)} characters: 0 <= start < end <= {len(text)} is expected"
        )
    span = Span(start, end, label.strip())
    if all(sign.isspace() or unicodedata.category(sign) in ("Cc", "Cf") for sign in text[start:end]):
        raise ValueError(f"holds a span of blanks only: {shown(span, text)}")
    return span


def shown(span: Span, text: str) -> str:
    return f"{span.start}-{span.end} ({text[span.start : span.end]!r}, {span.label})"


# Schemes


def scheme_of(tags: Iterable[str]) -> Scheme:
    """The scheme that tags are written in; plain where some fit neither BIO nor BIOES."""
    found = set(tags)
    for scheme in ("BIO", "BIOES"):
        if found - {OUTSIDE} and all(FORMS[scheme].fullmatch(tag) for tag in found):
            return scheme
    return "plain"


def all_tags(types: Iterable[str], scheme: Scheme) -> list[str]:
    """O, and then for each type every tag that the scheme has for it, whether it occurred or not; "" is a nameless type."""
    prefixes = sorted(PREFIXES[scheme])
    return [OUTSIDE, *(f"{prefix}-{name}" if name else prefix for name in sorted(types) for prefix in prefixes)]


def types_of(tags: Iterable[str]) -> set[str]:
    return {tag[2:] for tag in tags if tag != OUTSIDE}


def is_iob1(tags: Sequence[str]) -> bool:
    """Whether tags are right in the older scheme of the CoNLL files, in which B- only parts a span from one of its type before it."""
    for before, tag in pairwise([OUTSIDE, *tags]):
        if not FORMS["BIO"].fullmatch(tag) or (tag[0] == "B" and (before == OUTSIDE or before[1:] != tag[1:])):
            return False
    return True


def continuation(tag: str, scheme: Scheme) -> str:
    """The tag of a word's further pieces."""
    return tag if scheme == "plain" or tag == OUTSIDE else f"I{tag[1:]}"


def span_tags(spans: Sequence[Span], starts: Sequence[int], ends: Sequence[int], scheme: Scheme) -> list[str]:
    """The tags of words that stand at `starts` to `ends`: a span's are all words that it touches, where no span before it has them."""
    tags = [OUTSIDE] * len(starts)
    taken = 0
    for span in spans:
        first, last = max(bisect_right(ends, span.start), taken), bisect_left(starts, span.end)  # words first:last
        for place in range(first, last):
            prefix = "B" if place == first else "I"
            if scheme == "BIOES" and place == last - 1:
                prefix = "S" if place == first else "E"
            tags[place] = f"{prefix}-{span.label}"
        taken = max(taken, last)
    return tags
