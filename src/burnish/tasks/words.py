"""The words of a row, and the pieces that a tokenizer makes of them.

A row is a list of words; or a text, whose words are what the tokenizer splits it into before it looks into its vocabulary, split
further at blanks and punctuation where a piece begins there: BERT's tokenizer has done so itself, those of SentencePiece have not.
Both need a fast tokenizer, which knows where pieces stem from.
"""

from __future__ import annotations

import math
import string
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from burnish.core.errors import DataError
from burnish.data.encode import CHUNK

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Word:
    """`start:end` is a stretch of characters, or in a list of words the word's index and the next; `size` tokens from `first` on are its.

    A stretch without any character is no word but blanks that the tokenizer keeps: the model reads them, nothing is said about them.
    """

    start: int
    end: int
    first: int
    size: int


@dataclass(frozen=True)
class Window:
    """An example: as many consecutive words of a row as the model can read at once."""

    input_ids: list[int]
    token_type_ids: list[int]
    words: list[Word]


def require_fast(tokenizer: Any) -> None:
    """Raises DataError where a tokenizer cannot tell which word a piece is of."""
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            f"{type(tokenizer).__name__} cannot tell which word a token is of, and tags are of words: a fast tokenizer is needed. "
            "Most models have one (tokenizer.json); install `tokenizers`, or take another model."
        )


def expect_words(tokenizer: Any) -> None:
    """Lets byte-level BPE see a blank before each word of a list, as before a word within a text (`add_prefix_space=True`).

    The tokenizer is saved so, and gives others who use the model the same pieces.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    rule = tokenizer.backend_tokenizer.pre_tokenizer
    if isinstance(rule, ByteLevel) and not rule.add_prefix_space:
        rule.add_prefix_space = True
        tokenizer.backend_tokenizer.pre_tokenizer = rule
        tokenizer.add_prefix_space = tokenizer.init_kwargs["add_prefix_space"] = True


def before_word(tokenizer: Any) -> str:
    """What has to stand before a word of a list so that its pieces are those that it has within a text: a blank, or nothing.

    Only a trial tells: byte-level BPE counts the blank to the word and may come with splitting rules that no setting gives it by.
    """

    def ids(text: str | list[str]) -> list[int]:
        return tokenizer(text, add_special_tokens=False, is_split_into_words=isinstance(text, list))["input_ids"]

    within = ids("b a")[len(ids("b")) :]
    return " " if ids(["a"]) != within == ids([" a"]) else ""


def encodings(tokenizer: Any, rows: Sequence[str] | Sequence[Sequence[str]]) -> Iterator[Any]:
    """What the tokenizer makes of each text or list of words: whole, with the special tokens, as `tokenizers.Encoding`."""
    listed = bool(rows) and not isinstance(rows[0], str)
    blank = before_word(tokenizer) if listed else ""
    for start in range(0, len(rows), CHUNK):
        chunk = [[blank * bool(word.strip()) + word.strip() for word in row] if listed else row for row in rows[start : start + CHUNK]]
        yield from tokenizer(chunk, is_split_into_words=listed, truncation=False, verbose=False).encodings


def words_of(encoding: Any, given: str | Sequence[str]) -> list[Word]:
    """The words of a text; or those of a list that the tokenizer makes anything of (of control characters, for one, it may not)."""
    if isinstance(given, str):
        return text_words(encoding, given)
    return [Word(index, index + 1, places[0], len(places)) for index, places in stretches(encoding)]


def text_words(encoding: Any, text: str) -> list[Word]:
    found = []
    for _, places in stretches(encoding):
        for part in parted(places, [trimmed(text, *encoding.offsets[place]) for place in places], text):
            extents = [(start, end) for _, start, end in part if start < end]
            start = min((start for start, _ in extents), default=part[0][1])
            end = max((end for _, end in extents), default=start)
            found.append(Word(start, end, part[0][0], len(part)))
    return found


def stretches(encoding: Any) -> Iterator[tuple[int, list[int]]]:
    """Positions of the tokens of each word, without special tokens."""
    ids = encoding.word_ids
    for index, places in groupby((place for place, owner in enumerate(ids) if owner is not None), key=ids.__getitem__):
        yield index, list(places)


def parted(places: Sequence[int], extents: Sequence[tuple[int, int]], text: str) -> list[list[tuple[int, int, int]]]:
    """The tokens (position, start, end) of a word, parted at blanks and punctuation. Blanks alone begin a word with what follows."""
    parts: list[list[tuple[int, int, int]]] = []
    reached = 0  # where the characters of the last part end
    for place, (start, end) in zip(places, extents, strict=True):
        if not parts or (reached and (start == end or (start >= reached and may_part(text[start - 1], text[start])))):
            parts.append([])
            reached = 0
        parts[-1].append((place, start, end))
        reached = max(reached, end) if start < end else reached
    return parts


def may_part(before: str, after: str) -> bool:
    """Whether a word may end between two characters, as BERT's tokenizer sees it."""
    return before.isspace() or any(sign in string.punctuation or unicodedata.category(sign)[0] == "P" for sign in (before, after))


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A stretch without the blanks at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def windows(encoding: Any, words: Sequence[Word], limit: int) -> list[Window]:
    """The row in windows of at most `limit` tokens, each framed by the special tokens, parted between words and about equally long.

    Only a word that is longer than a window is cut, to its first pieces, of which the first carries its tag.
    """
    ids, types = encoding.ids, encoding.type_ids
    if not words:
        return [Window(ids[:limit], types[:limit], [])]
    begin, end = words[0].first, words[-1].first + words[-1].size
    room = limit - (len(ids) - (end - begin))
    found = []
    for group in groups(words, room):
        first = group[0].first
        last = min(group[-1].first + group[-1].size, first + room)
        places = [*range(begin), *range(first, last), *range(end, len(ids))]
        placed = [replace(word, first=begin + word.first - first, size=min(word.size, last - word.first)) for word in group]
        found.append(Window([ids[at] for at in places], [types[at] for at in places], [word for word in placed if word.start < word.end]))
    # A window of blanks teaches nothing; where there is nothing else the row is to be seen as it is.
    return [window for window in found if window.words] or found[:1]


def groups(words: Sequence[Word], room: int) -> list[list[Word]]:
    """Consecutive words whose tokens fit into `room`, in as few groups as that takes, of about equal size."""
    left = sum(word.size for word in words)
    found: list[list[Word]] = []
    size = share = 0
    for word in words:
        if size >= share or size + word.size > room:
            found.append([])
            size, share = 0, math.ceil(left / math.ceil(left / room))
        found[-1].append(word)
        size += word.size
        left -= word.size
    return found


def longest(words: Sequence[Word]) -> int:
    """Tokens of the longest word; blanks are none."""
    return max((word.size for word in words if word.start < word.end), default=0)


def marked(places: torch.Tensor, length: int) -> torch.Tensor:
    """(B, T) of `length` T: where the first pieces (B, W) of words stand, -1 for none. They rise from left to right, as a mask gives them."""
    found = places.new_zeros(len(places), length + 1).bool()
    return found.scatter(1, places % (length + 1), True)[:, :-1]  # -1 falls into the column that is left out
