"""All texts of data files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.core.errors import DataError
from burnish.data.texts import texts_of


@pytest.fixture
def file(tmp_path: Path) -> str:
    rows = [
        {"text": "où ?", "label": 1, "messages": [{"role": "user", "content": "hi"}], "more": ["a", {"b": "c"}]},
        {"text": " ", "label": 2, "messages": [], "more": None},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(tmp_path / "rows.jsonl")


def test_every_text_however_deep(file: str) -> None:
    assert texts_of([file]) == ["où ?", "user", "hi", "a", "c"]


def test_named_columns_and_several_files(file: str) -> None:
    assert texts_of([file, file], ["text", "more"]) == ["où ?", "a", "c"] * 2


def test_a_column_that_is_not_there_names_the_nearest(file: str) -> None:
    with pytest.raises(DataError, match=r"no column `txt` - did you mean `text`\?"):
        texts_of([file], ["txt"])


def test_a_column_without_text(file: str) -> None:
    with pytest.raises(DataError, match=r"holds no text in label"):
        texts_of([file], ["label"])
