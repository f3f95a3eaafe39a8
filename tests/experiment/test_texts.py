"""The texts that a comparison keeps of its rows."""

from __future__ import annotations

from burnish.core.protocols import Row
from burnish.experiment.texts import LONGEST, text_of


def test_a_row_is_told_as_the_model_reads_it() -> None:
    row = Row({"a": "Where?", "b": "Ünïcode 包裹", "label": "x", "none": None}, "rows.jsonl", 3)
    assert text_of(row, ["a", "b", "none"]) == "Where? / Ünïcode 包裹"


def test_words_are_joined_and_other_values_are_json() -> None:
    row = Row({"words": ["New", "York"], "turns": [{"role": "user", "content": "é"}]}, "rows.jsonl", 1)
    assert text_of(row, ["words"]) == "New York"
    assert text_of(row, ["turns"]) == '[{"role": "user", "content": "é"}]'


def test_long_texts_are_cut() -> None:
    text = text_of(Row({"a": "x" * 2000}, "rows.jsonl", 1), ["a"])
    assert len(text) == LONGEST and text.endswith("…")
