"""The texts of the rows that a comparison predicts, kept beside it: its page shows on which of them systems disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from burnish.core.errors import disk_errors
from burnish.core.protocols import Row
from burnish.core.rundir import write_text
from burnish.run import Run

FILE = "rows.jsonl"
LONGEST = 400
"""Characters of a text that are kept: enough to know it again."""


def keep_texts(folder: Path, run: Run, part: str) -> Path:
    """Writes `FOLDER/rows.jsonl`: file, number and text of each row of `part`, as `run` reads it. Raises DataError where it has no such part."""
    columns = run.recipe.task.columns(False)
    lines = [{"file": row.file, "row": row.number, "text": text_of(row, columns)} for row in run.rows(part)]
    path = folder / FILE
    with disk_errors(f"Writing {path}"):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def text_of(row: Row, columns: list[str]) -> str:
    """What a row gives the model to read, in one text of at most `LONGEST` characters."""
    text = " / ".join(told(row.values[column]) for column in columns if row.values.get(column) is not None)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def told(value: Any) -> str:
    """A text as it is, words joined, whatever else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return " ".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)
