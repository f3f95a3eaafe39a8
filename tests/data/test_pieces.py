"""Tokens as readable text: joined, the pieces are the text again, in each family of tokenizers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from burnish.data import sources
from burnish.data.pieces import Reading, readings, spell_bytes, spell_ended
from burnish.models import vocabulary

TEXT = "Isn't the kettle — 日本 🙂 — lovely (really!)?\n\n\tYes  it is."


def opened(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def trained(kind: Any) -> Any:
    return vocabulary.train([row.values["text"] for row in sources.read("bundled:messages-validation")], kind, 500)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("text", [TEXT, " a blank before", "", "🙂"])
def test_pieces_joined_are_the_text(kind: str, text: str) -> None:
    tokenizer = trained(kind)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = readings(tokenizer, ids)
    assert "".join(reading.text for reading in found) == text
    assert sum(reading.tokens for reading in found) == len(ids)
    assert not any("\N{REPLACEMENT CHARACTER}" in reading.text for reading in found)
    assert all(reading.tokens > 1 for reading in found if "🙂" in reading.text)


def test_word_pieces_are_joined_to_words_and_special_tokens_keep_their_names(tiny_bert: Path) -> None:
    tokenizer = opened(tiny_bert)
    found = readings(tokenizer, tokenizer("the kettle zzz, is lovely.")["input_ids"])
    assert "".join(reading.text for reading in found) == "[CLS] the kettle zzz, is lovely. [SEP]"
    assert [reading.text for reading in found if reading.special] == ["[CLS]", " [SEP]"]
    assert [reading.text for reading in found[3:6]] == [" z", "z", "z"]


def test_a_text_that_ends_within_a_character_shows_that_it_does(tiny_llama: Path) -> None:
    tokenizer = opened(tiny_llama)
    ids = tokenizer("a🙂", add_special_tokens=False)["input_ids"]
    found = readings(tokenizer, [*ids[:-1], tokenizer.eos_token_id])
    assert found[-2].text == "\N{REPLACEMENT CHARACTER}" and found[-2].tokens == len(ids) - 2
    assert found[-1] == Reading(tokenizer.eos_token, special=True)


def test_bytes_that_can_become_no_character_do_not_swallow_what_follows(tiny_llama: Path) -> None:
    tokenizer = opened(tiny_llama)
    euro = tokenizer("€", add_special_tokens=False)["input_ids"]
    found = readings(tokenizer, [euro[1], *tokenizer("ab", add_special_tokens=False)["input_ids"]])
    assert found[0] == Reading("\N{REPLACEMENT CHARACTER}") and "".join(reading.text for reading in found[1:]) == "ab"


def test_other_spellings() -> None:
    assert spell_bytes("Ġa") == b" a" and spell_bytes("ðŁĻĤ") == "🙂".encode() and spell_bytes("日") == "日".encode()
    assert spell_ended("word</w>", "</w>") == b"word " and spell_ended("wo", "</w>") == b"wo"


def test_a_tokenizer_without_a_decoder_and_ids_without_a_name() -> None:
    slow = SimpleNamespace(
        added_tokens_decoder={},
        all_special_ids=[],
        convert_ids_to_tokens=lambda ids: [{1: "▁a", 2: "<0xE2>", 3: "<0x82>", 4: "<0xAC>"}.get(number) for number in ids],
    )
    assert readings(slow, [1, 99, 2, 3, 4, 1]) == [Reading("a"), Reading("<99>", special=True), Reading("€", 3), Reading(" a")]
