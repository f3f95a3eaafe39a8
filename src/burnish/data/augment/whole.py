"""Texts that are written anew as a whole: whether what has to stay is still in them, and where."""

from __future__ import annotations

import re

from burnish.core.passage import Passage, around, written


def refitted(passage: Passage, text: str) -> Passage | None:
    """`text` as the new form of the passage, with its blanks around it; None unless each fixed stretch stands in it once, in order.

    A stretch that stands there twice could be either, and as a part of a longer word it is none.
    """
    before = written(passage)
    room = len(before) - len(before.lstrip()), len(before.rstrip())
    text = text.strip()
    if not text or not before.strip():
        return None
    text = before[: room[0]] + text + before[room[1] :]
    extents, reached = list[tuple[int, int]](), 0
    for stretch in passage:
        if not stretch.fixed:
            continue
        found = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(stretch.text)}(?!\w)", text)]
        if len(found) != 1 or found[0][0] < reached:
            return None
        extents += found
        reached = found[0][1]
    return around(text, extents)
