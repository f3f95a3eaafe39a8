"""Rows in other words: which of their texts may change, which stretches of these may not, and what is learned put where it then stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from burnish.core.passage import Change, Extent, Passage, around, fixed_extents, merged, written
from burnish.core.protocols import Row
from burnish.data.chat.messages import Message, listed, messages_or_text
from burnish.tasks.spans import OUTSIDE, Span


def columns(row: Row, names: Sequence[str | None], change: Change) -> Row:
    """The row with the texts in some columns changed as a whole."""
    texts = {name: value for name in names if name is not None and isinstance(value := row.values.get(name), str) and value.strip()}
    return with_values(row, {name: written(change(around(text))) for name, text in texts.items()})


def with_values(row: Row, values: dict[str, Any]) -> Row:
    return replace(row, values={**row.values, **values})


def words(given: Sequence[str], tags: Sequence[str], scheme: str, change: Change) -> tuple[list[str], list[str]]:
    """Words and tags, changed: spans keep their words, what is put between them is outside of all spans.

    Plain tags go with their words, one for one, of which there have to be as many as before.
    """
    starts = [sum(len(word) + 1 for word in given[:place]) for place in range(len(given))]
    tagged = [scheme != "plain" and tag != OUTSIDE for tag in tags]
    whole = [
        flag or len(word.split()) != 1 for word, flag in zip(given, tagged, strict=True)
    ]  # a word with a blank in it cannot be found again
    places = [list(group) for fixed, group in groupby(range(len(given)), key=whole.__getitem__) if fixed]
    extents = [(starts[group[0]], starts[group[-1]] + len(given[group[-1]])) for group in places]
    made = change(around(" ".join(given), extents))
    found: list[tuple[str, str]] = []
    waiting = iter(places)
    for stretch in made:
        found += [(given[at], tags[at]) for at in next(waiting)] if stretch.fixed else [(word, OUTSIDE) for word in stretch.text.split()]
    if scheme != "plain":
        return [word for word, _ in found], [tag for _, tag in found]
    if len(found) != len(tags):
        raise ValueError(f"{len(tags)} words became {len(found)}, and plain tags need a word each")
    return [word for word, _ in found], list(tags)


def spans(text: str, found: Sequence[Span], change: Change) -> tuple[str, list[Span]]:
    """A text and its spans, which keep their characters and move with them."""
    made = change(around(text, [(span.start, span.end) for span in found]))
    places = fixed_extents(made)
    return written(made), [Span(start, end, span.label) for (start, end), span in zip(places, found, strict=True)]


def answers(context: str, right: Sequence[Extent], change: Change) -> tuple[str, list[int]]:
    """A context and where its answers begin, which keep their characters and move with them; those that overlap stay together."""
    before = merged(right)
    made = change(around(context, before))
    return written(made), [moved(start, before, made) for start, _ in right]


def moved(place: int, before: Sequence[Extent], made: Passage) -> int:
    """Where a character of a fixed stretch stands after the change."""
    return next(new + place - old for (old, end), (new, _) in zip(before, fixed_extents(made), strict=True) if old <= place < end)


def turns(value: Any, name: str, change: Change) -> Any:
    """A prompt, or messages of which the user's are changed: what the assistant says is learned, and stays."""
    found = messages_or_text(value)
    if isinstance(found, str):
        return written(change(around(found))) if found.strip() else found
    return [user_turn(message, change) for message in listed(found, name)]


def user_turn(message: Message, change: Change) -> Message:
    if message["role"] != "user" or not (message["content"] or "").strip():
        return message
    return {**message, "content": written(change(around(message["content"])))}
