"""A question beside its context in windows that the model can read, and the spans of the context that its logits speak for.

Legend: T tokens of a window, C of them in the context, L tokens of the longest span, K spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

CHUNK = 500
"""Rows that are tokenized at once: enough to keep all cores at work, few enough to hold in memory as Python lists."""

LEAST_ROOM = 8
"""Tokens of context that a window must hold beside the question; fewer would make a window of nearly every token."""

OUTSIDE = -1
"""The character offset of tokens that are not of the context."""

NOWHERE = (0, 0)
"""Where start and end point in a window that does not hold the answer: at the first token, which is [CLS] in most encoders."""


@dataclass(frozen=True)
class Pair:
    """Question and context as tokens, (T,) each: ids, types, and the characters of the context that a token stands for."""

    ids: np.ndarray
    types: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @property
    def inside(self) -> slice:
        """The tokens of the context, which stand together."""
        found = np.flatnonzero(self.starts != OUTSIDE)
        return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)

    def part(self, positions: np.ndarray) -> Pair:
        return Pair(self.ids[positions], self.types[positions], self.starts[positions], self.ends[positions])


@dataclass(frozen=True)
class Span:
    """A stretch of a context, its characters from `start` to `end`, and the sum of its start and end logits."""

    text: str
    start: int
    end: int
    score: float


NOTHING = Span("", -1, -1, 0.0)


def pairs(tokenizer: Any, questions: Sequence[str], contexts: Sequence[str]) -> Iterator[Pair]:
    """Each question with its whole context as tokens, special ones included; nothing is cut."""
    for start in range(0, len(questions), CHUNK):
        chunk = slice(start, start + CHUNK)
        for encoding in tokenizer(list(questions[chunk]), list(contexts[chunk]), verbose=False).encodings:
            offsets = np.array(encoding.offsets, dtype=np.int32)  # (T, 2)
            inside = np.fromiter((part == 1 for part in encoding.sequence_ids), dtype=bool, count=len(offsets))
            offsets[~inside] = OUTSIDE
            yield Pair(np.array(encoding.ids, np.int32), np.array(encoding.type_ids, np.int32), offsets[:, 0], offsets[:, 1])


def windows(pair: Pair, limit: int, stride: int) -> list[Pair]:
    """The pair in windows of at most `limit` tokens, each with the whole question and a part of the context.

    Neighbors share `stride` tokens of context, at most half of what a window holds of it, so that an answer that one window
    cuts stands whole in the other. Otherwise these are the windows of transformers' `truncation="only_second"` with overflowing
    tokens. Raises ValueError with the reason where the question leaves no room.
    """
    size, inside = len(pair.ids), pair.inside
    if size <= limit:
        return [pair]
    around = size - (inside.stop - inside.start)
    room = limit - around
    if room < LEAST_ROOM:
        raise ValueError(f"the question takes {around} of {limit} tokens, which leaves {max(room, 0)} for the context")
    step = room - min(stride, room // 2)
    before, behind = np.arange(inside.start), np.arange(inside.stop, size)
    found = []
    for start in range(inside.start, inside.stop, step):
        end = min(start + room, inside.stop)
        found.append(pair.part(np.concatenate([before, np.arange(start, end), behind])))
        if end == inside.stop:
            break
    return found


def target(window: Pair, start: int, end: int) -> tuple[int, int]:
    """The positions of the first and last token of the characters `start` to `end`; NOWHERE unless the window holds all of them."""
    inside = window.inside
    starts, ends = window.starts[inside], window.ends[inside]  # (C,)
    if not len(starts) or starts[0] > start or ends[-1] < end:
        return NOWHERE
    first, last = np.searchsorted(ends, start, "right"), np.searchsorted(starts, end, "left") - 1
    return (inside.start + int(first), inside.start + int(last)) if first <= last else NOWHERE


def likeliest(logits: np.ndarray, inside: slice, most: int, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The spans of a window with the highest sum of start and end logit, best first: their scores and the positions of their first
    and last tokens, (K,) each with K <= `most`.

    Every span in the context of at most `longest` tokens is looked at, as a band of the matrix of all starts and ends. `logits` (2, T).
    """
    start, end = logits[:, inside].astype(np.float64)  # (C,)
    size, width = len(start), min(longest, len(start))
    if not size:
        return np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
    filled = np.concatenate([end, np.full(width - 1, -np.inf)])
    scores = (start[:, None] + np.lib.stride_tricks.sliding_window_view(filled, width)).ravel()  # (C * L,)
    kept = min(most, len(scores))
    best = np.argpartition(scores, len(scores) - kept)[len(scores) - kept :]
    best = best[np.argsort(-scores[best], kind="stable")]
    best = best[np.isfinite(scores[best])]  # a span that would reach over the end of the context has no score
    first = inside.start + best // width
    return scores[best], first, first + best % width


def spans(context: str, found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], most: int) -> list[Span]:
    """The `most` best spans of a context over all its windows, best first, each text only once and none that is blank.

    `found` has the scores, first and last characters of the likeliest spans of each window.
    """
    scores, starts, ends = (np.concatenate(column) for column in zip(*found, strict=True))
    kept: dict[str, Span] = {}
    for index in np.argsort(-scores, kind="stable").tolist():
        start, end = int(starts[index]), int(ends[index])
        text = context[start:end]
        start += len(text) - len(text.lstrip())  # some tokens stand for the space before their word too
        text = text.strip()
        if text and text not in kept:
            kept[text] = Span(text, start, start + len(text), float(scores[index]))
            if len(kept) == most:
                break
    return list(kept.values())


def chosen(found: Sequence[Span], null: float | None, threshold: float, most: int) -> tuple[Span, dict[str, float]]:
    """The answer, and the softmax of the scores of the `most` best answers, by their texts, best first.

    Without `null` the answer is the best span. Otherwise it is "" where the score `null` of no answer is more than `threshold` above
    the best span's, and "" always has a share of the softmax.
    """
    if null is None:
        listed, best = list(found), found[0] if found else NOTHING
    else:
        nothing = replace(NOTHING, score=null)
        listed = sorted([*found, nothing], key=lambda span: -span.score)[:most]
        listed += [] if nothing in listed else [nothing]
        best = nothing if not found or null - found[0].score > threshold else found[0]
    highest = max((span.score for span in listed), default=0.0)
    shares = np.exp([span.score - highest for span in listed])
    return best, {span.text: float(share) for span, share in zip(listed, shares / shares.sum(), strict=True)}
