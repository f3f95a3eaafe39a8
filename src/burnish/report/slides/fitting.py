"""How much room a text takes, so that nothing on a slide overflows: widths by kind of character, lines by breaking at words.

No font is read, for the machine that shows the slides has others. Widths are those of Arial, rounded up.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

NARROW, WIDE_LATIN = frozenset("ijlItf.,:;'|!()[] "), frozenset("mwMW@%—")
LINE = 1.22
"""Height of a line in units of the font's size."""
POINTS = 72
"""In an inch."""


def ems(character: str) -> float:
    """The width of a character in units of the font's size."""
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.02
    if character in NARROW:
        return 0.32
    if character in WIDE_LATIN:
        return 0.95
    if character.isupper():
        return 0.74
    return 0.57 if ord(character) < 0x250 else 0.66


def width(text: str, size: float) -> float:
    """The width of a text on one line, in inches, at a font size in points."""
    return size / POINTS * sum(map(ems, text))


def lines(text: str, size: float, room: float) -> int:
    """Lines that a text takes in `room` inches: broken at spaces, within words that are longer than a line, and anywhere in wide scripts."""
    count = 0
    for paragraph in text.split("\n"):
        count, left = count + 1, room
        for word in pieces(paragraph):
            needed = width(word, size)
            if needed <= left:
                left -= needed
            elif needed <= room:
                count, left = count + 1, room - needed
            else:
                over = needed - left
                count += int(over // room) + 1
                left = room - over % room
    return count


def pieces(paragraph: str) -> list[str]:
    """Words with the space after them; characters of wide scripts by themselves."""
    found, word = [], ""
    for character in paragraph:
        word += character
        if character in " -/" or unicodedata.east_asian_width(character) in "WF":
            found.append(word)
            word = ""
    return [*found, word] if word else found


def height(texts: Sequence[str], size: float, room: float, gap: float = 0.0) -> float:
    """Inches that texts take one below the other, with `gap` (in units of the size) after each."""
    return sum(lines(text, size, room) * LINE + gap for text in texts) * size / POINTS


def clipped(text: str, size: float, room: float, most: int) -> str:
    """The text, or as much of it as stands in `most` lines, with an ellipsis."""
    text = text.rstrip()
    if lines(text, size, room) <= most:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if lines(text[:middle].rstrip() + "…", size, room) <= most:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def fitted(texts: Sequence[str], sizes: Sequence[float], room: tuple[float, float], gap: float = 0.5) -> tuple[float, list[str]]:
    """The largest of `sizes` (descending) at which the texts stand in width and height, and the texts.

    At the smallest the longest texts are cut, and what still finds no room at the end is left out and counted.
    """
    across, down = room
    for size in sizes:
        if height(texts, size, across, gap) <= down:
            return size, list(texts)
    size, most = sizes[-1], max(lines(text, sizes[-1], across) for text in texts)
    kept = list(texts)
    while height(kept, size, across, gap) > down and most > 2:
        most -= 1
        kept = [clipped(text, size, across, most) for text in texts]
    left = 0
    while height([*kept, "…"][: len(kept) + bool(left)], size, across, gap) > down and len(kept) > 1:
        kept.pop()
        left += 1
    return size, [*kept, f"… and {left} more"] if left else kept


def right_to_left(text: str) -> bool:
    """Whether a text begins in a script that runs from right to left."""
    return next((unicodedata.bidirectional(c) in ("R", "AL") for c in text if unicodedata.bidirectional(c) in ("L", "R", "AL")), False)


def printable(text: str) -> str:
    """A text as XML can hold it: no control characters, no half characters; line breaks and tabs become spaces."""
    tidy = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    return "".join(character for character in tidy if unicodedata.category(character) not in ("Cc", "Cs", "Cn") or character == " ")
