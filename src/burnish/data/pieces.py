"""Token ids as text that people can read, piece by piece: joined, the pieces are the text again, as far as the tokenizer kept it.

Tokenizers write their pieces in several ways. WordPiece marks what goes on a word (`##ing`), SentencePiece what begins one
(`▁word`, U+2581), byte-level BPE writes bytes as letters (`Ġ` for a blank), others an end of word (`</w>`). A character may be split
over several tokens, which have a text only together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

BLANK = "▁"
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
CLOSING = frozenset(".,;:!?)]}%")
"""Pieces before which no blank is written, where the tokenizer did not keep whether there was one."""

Spell = Callable[[str], bytes]


@dataclass(frozen=True)
class Reading:
    """What one token, or several that only together are characters, says; `special` are the tokenizer's own, by their names."""

    text: str
    tokens: int = 1
    special: bool = False


def readings(tokenizer: Any, ids: Sequence[int]) -> list[Reading]:
    """The tokens as text, in order; the numbers of their tokens add up to those given."""
    added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
    special = special_ids(tokenizer)
    spell, apart = spelling(tokenizer)
    made: list[Reading] = []
    pending, waiting = b"", 0
    for number, name in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        if number in added or number in special or name is None:
            if waiting:
                made.append(Reading(pending.decode("utf-8", "replace"), waiting))
                pending, waiting = b"", 0
            text = added.get(number) or name or f"<{number}>"
            made.append(Reading(f" {text}" if apart and made else text, special=number in special or name is None))
            continue
        pending, waiting = pending + spell(name), waiting + 1
        if complete(pending):
            made.append(Reading(pending.decode("utf-8", "replace"), waiting))
            pending, waiting = b"", 0
    if waiting:
        made.append(Reading(pending.decode("utf-8", "replace"), waiting))
    return list(without_first_blank(made)) if not keeps_blanks(tokenizer) else made


def special_ids(tokenizer: Any) -> set[int]:
    """Tokens that are no text: those with a role, such as [CLS], and those that were added as special, such as <|im_end|>."""
    return set(tokenizer.all_special_ids) | {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def complete(spelled: bytes) -> bool:
    """Whether bytes end with a whole character, or can become none any more."""
    try:
        spelled.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data"
    return True


def without_first_blank(found: Sequence[Reading]) -> Iterator[Reading]:
    """The blank that a tokenizer writes before every text is none of the text."""
    for place, reading in enumerate(found):
        first = place == 0 and reading.text != " "
        yield Reading(reading.text.removeprefix(" "), reading.tokens, reading.special) if first else reading


def spelling(tokenizer: Any) -> tuple[Spell, bool]:
    """How a tokenizer's pieces are spelled in bytes, and whether special tokens are to stand apart by a blank."""
    for decoder in decoders(tokenizer):
        kind = decoder.get("type")
        if kind == "ByteLevel":
            return spell_bytes, False
        if kind == "WordPiece":
            return partial(spell_word, prefix=str(decoder["prefix"])), True
        if kind == "BPEDecoder":
            return partial(spell_ended, suffix=str(decoder["suffix"])), True
        if kind == "Metaspace" or (kind == "Replace" and decoder.get("pattern") == {"String": BLANK}):
            return spell_sentence, False
    return partial(spell_word, prefix="\0"), True


def keeps_blanks(tokenizer: Any) -> bool:
    """Whether a blank at the beginning of a text is the text's own."""
    return any(decoder.get("type") == "ByteLevel" or decoder.get("prepend_scheme") == "never" for decoder in decoders(tokenizer))


def decoders(tokenizer: Any) -> list[dict[str, Any]]:
    """The steps by which a fast tokenizer turns pieces into text; a slow one is taken for SentencePiece."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [{"type": "Metaspace"}]
    decoder = json.loads(backend.to_str())["decoder"] or {}
    return list(decoder.get("decoders", [decoder]))


def spell_bytes(name: str) -> bytes:
    """The bytes that byte-level BPE writes as letters (Radford et al. 2019); a letter that stands for none is itself."""
    return b"".join(bytes([BYTES[letter]]) if letter in BYTES else letter.encode("utf-8", "replace") for letter in name)


def byte_letters() -> dict[str, int]:
    """Printable bytes are their own letters; the others are written with the letters from U+0100 on, in order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTES = byte_letters()


def spell_word(name: str, prefix: str) -> bytes:
    if name.startswith(prefix):
        return name.removeprefix(prefix).encode("utf-8", "replace")
    return (name if name in CLOSING else f" {name}").encode("utf-8", "replace")


def spell_ended(name: str, suffix: str) -> bytes:
    whole = name.endswith(suffix)
    return (name.removesuffix(suffix) + " " * whole).encode("utf-8", "replace")


def spell_sentence(name: str) -> bytes:
    byte = BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(BLANK, " ").encode("utf-8", "replace")
