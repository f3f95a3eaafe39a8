"""What is wrong with rows, told for all of them at once, each with its place."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.core.errors import DataError
from burnish.core.protocols import Row
from burnish.data.audit import missing_columns, overlap, overlap_warning, require_columns, usable


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(value, "a.csv", number, number + 1) for number, value in enumerate(values, start=1)]


def texts(*words: str) -> list[Row]:
    return rows(*({"text": word} for word in words))


def fault(row: Row) -> str | None:
    return "the text in `text` is empty" if not row.values["text"] else None


def test_missing_columns_are_all_told_with_the_nearest() -> None:
    first, second = missing_columns(["text", "intent"], ["txt", "text", "label"], "a.csv")
    assert first == "a.csv has no column `txt` - did you mean `text`? (its columns: text, intent)"
    assert second == "a.csv has no column `label` (its columns: text, intent)"


def test_a_later_row_may_lack_a_column() -> None:
    require_columns(rows({"text": "a"}, {"text": None}), ["text"])
    with pytest.raises(DataError) as caught:
        require_columns(rows({"text": "a"}, {"txt": "b"}, {"text": "c"}, {}), ["text"])
    assert "a.csv row 2 (line 3): it has no `text` - did you mean `txt`?" in str(caught.value)
    assert "a.csv row 4" in str(caught.value) and "2 faults" in str(caught.value)


def test_unusable_rows_are_refused_all_at_once() -> None:
    with pytest.raises(DataError) as caught:
        usable(texts("a", "", "b", ""), fault, drop=False)
    message = str(caught.value)
    assert "a.csv: 2 rows of 4 cannot be used" in message
    assert "a.csv row 2 (line 3): the text in `text` is empty" in message and "row 4 (line 5)" in message
    assert "data.bad_rows=drop" in message


def test_unusable_rows_are_dropped_where_the_recipe_says_so() -> None:
    kept, problems = usable(texts("a", "", "b"), fault, drop=True)
    assert [row.values["text"] for row in kept] == ["a", "b"]
    assert problems == ["a.csv row 2 (line 3): the text in `text` is empty"]
    assert usable(texts("a"), fault, drop=False) == (texts("a"), [])


def test_dropping_every_row_is_refused() -> None:
    with pytest.raises(DataError, match="none is left"):
        usable(texts("", ""), fault, drop=True)


def test_overlap_ignores_white_space_and_case_but_no_word() -> None:
    watched = texts("Where is my  PARCEL?", "where is my parcel", "Straße", "new")
    seen = texts("where is my parcel? ", "STRASSE")
    assert [row.number for row in overlap(watched, seen, ["text"])] == [1, 3]


def test_overlap_compares_pairs_as_pairs() -> None:
    watched = rows({"a": "x", "b": "y z"}, {"a": "x y", "b": "z"})
    assert [row.number for row in overlap(watched, rows({"a": "x y", "b": "z"}), ["a", "b"])] == [2]


def test_the_overlap_is_counted_and_the_first_are_named() -> None:
    watched = texts(*"abcde", "f")
    note = overlap_warning(watched, texts(*"abcd"), ["text"], "validation")
    assert note is not None
    assert note.startswith("4 validation rows of 6 also stand in training (a.csv row 1 (line 2), a.csv row 2")
    assert "row 3 (line 4), ...)" in note and "row 4" not in note
    single = overlap_warning(watched, texts("f"), ["text"], "test")
    assert single is not None and single.startswith("1 test row of 6 also stands in training (a.csv row 6 (line 7)):")
    assert overlap_warning(watched, texts("z"), ["text"], "test") is None
