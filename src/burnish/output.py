"""Writes predictions: JSON lines or csv, a row for each row read, in order."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from burnish.core.errors import disk_errors
from burnish.core.protocols import Row


def write_rows(rows: Sequence[Row], predictions: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """Each row's own columns and then its prediction. A column that the prediction also has is kept as `given_NAME`.

    `path` ends in .jsonl or .csv; None prints JSON lines.
    """
    records = [merged(row.values, prediction) for row, prediction in zip(rows, predictions, strict=True)]
    if path is None:
        write_jsonl(records, sys.stdout)
        return
    with disk_errors(f"Writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as stream:
            (write_csv if path.suffix == ".csv" else write_jsonl)(records, stream)


def merged(values: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    own = {f"given_{name}" if name in prediction else name: value for name, value in values.items()}
    return {**own, **prediction}


def write_jsonl(records: Sequence[Mapping[str, Any]], stream: TextIO) -> None:
    for record in records:
        stream.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")


def write_csv(records: Sequence[Mapping[str, Any]], stream: TextIO) -> None:
    """Probabilities take a column for each label; lists of names are joined by commas, other lists are written as JSON."""
    flat = [flattened(record) for record in records]
    names = list(dict.fromkeys(name for record in flat for name in record))
    writer = csv.DictWriter(stream, fieldnames=names)
    writer.writeheader()
    writer.writerows(flat)


def flattened(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"probability_{label}": number for label, number in value.items()}
        else:
            flat[name] = joined(value) if isinstance(value, (list, tuple)) else value
    return flat


def joined(values: Sequence[Any]) -> str:
    plain = not any(isinstance(value, (Mapping, list, tuple)) for value in values)
    return ",".join(map(str, values)) if plain else json.dumps(values, ensure_ascii=False, default=str)
