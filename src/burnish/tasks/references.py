"""The right answers of a question as data files write them, and where they stand in the context."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from burnish.tasks.classify import shorten


@dataclass(frozen=True)
class Reference:
    """A right answer: the characters of the context from `start` to `end`."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def references(value: Any, context: str) -> list[Reference]:
    """The right answers in a cell, none where the question has none. Raises ValueError with what is wrong.

    A cell holds SQuAD's {"text": [...], "answer_start": [...]}, a list of {"text", "answer_start"}, one or several texts, or one of
    these as JSON. An answer without `answer_start` is taken to be where it first occurs.
    """
    return [located(text, start, context) for text, start in entries(value) if str(text).strip()]


def entries(value: Any) -> list[tuple[Any, Any]]:
    """The (text, first character or None) of each answer in a cell. Raises ValueError where it holds something else."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [entry for one in value for entry in entries(one)]
    if not isinstance(value, dict):
        return [(value, None)]
    if "text" not in value:
        raise ValueError(f"an object with `text` and `answer_start` is expected, it has {', '.join(map(str, value)) or 'nothing'}")
    texts, starts = value["text"], value.get("answer_start")
    texts = list(texts) if isinstance(texts, (list, tuple)) else [texts]
    starts = list(starts) if isinstance(starts, (list, tuple)) else [starts] * len(texts)
    if len(texts) != len(starts):
        raise ValueError(f"{len(texts)} in `text`, but {len(starts)} in `answer_start`")
    return [(text, start) for text, start in zip(texts, starts, strict=True) if text is not None]


def located(text: Any, start: Any, context: str) -> Reference:
    """An answer without the blanks around it. Raises ValueError where it is not in the context, or not at `start`."""
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError(f"an answer is {type(text).__name__} where a text is expected")
    text = str(text)
    stripped = text.strip()
    if start is None:
        start = context.find(stripped)
        if start < 0:
            raise ValueError(f"the answer {shorten(text)!r} does not occur in the context{why_not(stripped, context)}")
        return Reference(stripped, start)
    start = whole(start)
    there = context[start : start + len(text)] if start >= 0 else ""
    if there != text:
        first = context.find(stripped)
        elsewhere = f"; it stands at character {first}" if first >= 0 else ", which does not occur in it"
        if not 0 <= start < len(context):
            raise ValueError(f"the answer {shorten(text)!r} starts at character {start}, but the context has {len(context):,}{elsewhere}")
        raise ValueError(f"at character {start} of the context stands {shorten(there)!r}, not the answer {shorten(text)!r}{elsewhere}")
    return Reference(stripped, start + len(text) - len(text.lstrip()))


def why_not(text: str, context: str) -> str:
    """A guess why an answer is not found."""
    at = context.lower().find(text.lower())
    if at >= 0:
        return f", though {context[at : at + len(text)]!r} does"
    return " (a list or an object in a cell has to be JSON)" if text[:1] in ("{", "[") else ""


def whole(value: Any) -> int:
    """A number of characters. Raises ValueError where it is none."""
    try:
        number = float(value)
        if isinstance(value, bool) or not number.is_integer():
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`answer_start` is {value!r} where a number of characters is expected") from None
    return int(number)
