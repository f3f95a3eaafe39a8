"""Running text in one column, as language models learn from: which column it is, which rows hold none, which tokenizers will do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.core.errors import DataError
from burnish.core.protocols import Row


def column(rows: Sequence[Row]) -> str:
    """The column with most text. Raises DataError where none holds any."""
    sizes = {name: sum(len(value) for row in rows if isinstance(value := row.values.get(name), str)) for name in rows[0].values}
    longest = max(sizes, key=lambda name: sizes[name], default="")
    if not sizes.get(longest):
        raise DataError(f"{rows[0].file}: no column holds text (its columns: {', '.join(sizes)}).")
    return longest


def fault(row: Row, column: str) -> str | None:
    """Why there is no text in a row's column, or None."""
    value = row.values.get(column)
    if value is None:
        return f"the text in `{column}` is missing"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return f"`{column}` holds {type(value).__name__} where a text is expected"
    if not str(value).strip():
        return f"the text in `{column}` is empty"
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        return f"the text in `{column}` holds half a character (a lone surrogate) at position {error.start + 1}: write the whole one"
    return None


def require_fast(tokenizer: Any) -> None:
    """Raises DataError for a tokenizer that cannot tell which part of a text a token stands for."""
    if not tokenizer.is_fast:
        raise DataError(
            f"the tokenizer ({type(tokenizer).__name__}) is written in Python and does not say where its tokens stand in a text: "
            "a fast one is needed, which comes as a tokenizer.json."
        )
