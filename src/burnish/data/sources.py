"""Reads rows from csv, tsv, json, jsonl (each also .gz), parquet, bundled data and hub data sets, and says where each row stands."""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from burnish.core.errors import DataError, nearest
from burnish.core.network import hub_reachable
from burnish.core.protocols import Row

HUB = "hub:"
BUNDLED = "bundled:"


def read(source: str) -> list[Row]:
    """All rows of `source`: a file's path, `bundled:NAME`, or `hub:DATASET[:CONFIG]:SPLIT`.

    Raises DataError, naming file and row, where the file is missing, empty, of an unknown kind or cannot be parsed.
    """
    if source.startswith(HUB):
        return read_hub(source)
    path = locate(source)
    reader = READERS[kind_of(path)]
    try:
        rows = list(reader(path, path.name))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: {error}. Is it whole, and really gzip?") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if not rows:
        raise DataError(f"{path} is empty: it holds no rows.")
    return rows


def columns(source: str) -> list[str]:
    """The column names of a file, from its first row only."""
    path = locate(source)
    try:
        first = next(iter(READERS[kind_of(path)](path, path.name)), None)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if first is None:
        raise DataError(f"{path} is empty: it holds no rows.")
    return list(first.values)


def locate(source: str) -> Path:
    """The file behind a source. Raises DataError, naming the nearest file, where there is none."""
    if source.startswith(BUNDLED):
        shop = Path(str(resources.files("burnish").joinpath("shop")))
        path = shop / f"{source.removeprefix(BUNDLED)}.jsonl"
        if not path.is_file():
            known = sorted(entry.stem for entry in shop.glob("*.jsonl"))
            raise DataError(f"there is no bundled data {source!r}{nearest(path.stem, known)} (known: {', '.join(known)})")
        return path
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{source} is a folder; a file is expected ({', '.join(READERS)}, each also .gz).")
    if not path.is_file():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"the file {source} does not exist{nearest(path.name, beside)}")
    kind_of(path)
    return path


def kind_of(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    for kind in READERS:
        if name.endswith(kind) and not (kind == ".parquet" and path.name.lower().endswith(".gz")):
            return kind
    raise DataError(f"{path.name} is of an unknown kind; known are {', '.join(READERS)}, each text kind also .gz.")


def fingerprint(source: str) -> str:
    """sha256 of a file's bytes; for a hub data set, of its name."""
    if source.startswith(HUB):
        return hashlib.sha256(source.encode()).hexdigest()
    digest = hashlib.sha256()
    with locate(source).open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def open_bytes(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Numbered lines, decoded one by one so that an undecodable byte is told with its line."""
    with open_bytes(path) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{name} line {number}: byte {raw[error.start]:#04x} at position {error.start + 1} is not UTF-8. "
                    "Save the file as UTF-8 (for example: iconv -f latin1 -t utf-8)."
                ) from error
            if "\x00" in text:
                raise DataError(f"{name} line {number} holds a NUL byte: this is not a text file (UTF-16, perhaps?). Save it as UTF-8.")
            yield number, text


def read_csv(path: Path, name: str, delimiter: str | None = None) -> Iterator[Row]:
    """Separated values as in RFC 4180: fields in quotes may hold separators, doubled quotes and line ends.

    Without a `delimiter`, a comma, or a semicolon where the header has more of those (as spreadsheets write in much of Europe).
    """
    texts = (text for _, text in lines(path, name))
    first = next(texts, "")
    delimiter = delimiter or max(",;", key=first.count)
    reader = csv.reader(itertools.chain([first] if first else [], texts), delimiter=delimiter, strict=True)
    csv.field_size_limit(1 << 30)
    try:
        header = next(reader, None)
        if header is None:
            return
        require_distinct(header, name)
        number, start = 0, reader.line_num + 1
        for fields in reader:
            if fields:
                number += 1
                if len(fields) != len(header):
                    raise DataError(
                        f"{name} row {number} (line {start}): {len(fields)} fields where the header has {len(header)}. "
                        "Quote texts that hold the separator or a quote."
                    )
                yield Row(dict(zip(header, fields, strict=True)), name, number, start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name} line {reader.line_num}: broken row ({error}).") from error


def read_tsv(path: Path, name: str) -> Iterator[Row]:
    """Tab-separated values: a line is a row where all lines have as many tabs as the header, so that a lone quote is a
    plain character; otherwise quoted fields may hold tabs and line ends, as in csv."""
    numbered = [(number, text.rstrip("\r\n").split("\t")) for number, text in lines(path, name) if text.strip("\r\n")]
    if numbered and any(len(fields) != len(numbered[0][1]) for _, fields in numbered):
        yield from read_csv(path, name, delimiter="\t")
        return
    header = [unquoted(field) for field in numbered[0][1]] if numbered else []
    require_distinct(header, name)
    for number, (line, fields) in enumerate(numbered[1:], start=1):
        yield Row(dict(zip(header, map(unquoted, fields), strict=True)), name, number, line)


def require_distinct(header: Sequence[str], name: str) -> None:
    repeated = {column for column in header if header.count(column) > 1}
    if repeated:
        raise DataError(f"{name}: the header names {', '.join(sorted(map(repr, repeated)))} more than once.")


def unquoted(field: str) -> str:
    """The text of a field that is wholly in quotes, else the field as it is."""
    inner = field[1:-1]
    whole = len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if whole else field


def read_jsonl(path: Path, name: str) -> Iterator[Row]:
    """A JSON object a line; blank lines are no rows."""
    number = 0
    for line, text in lines(path, name):
        if not text.strip():
            continue
        number += 1
        try:
            values = json.loads(text)
        except ValueError as error:
            raise DataError(f"{name} row {number} (line {line}): not a JSON object ({error}).") from error
        if not isinstance(values, dict):
            raise DataError(f"{name} row {number} (line {line}): a JSON object is expected, not {type(values).__name__}.")
        yield Row(values, name, number, line)


def read_json(path: Path, name: str) -> Iterator[Row]:
    """A list of objects, an object of equally long columns, or an object that holds one list of objects (`data`)."""
    text = "".join(text for _, text in lines(path, name))
    if not text.strip():
        return
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"{name}: not valid JSON ({error}). One object a line is .jsonl, not .json.") from error
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(lists) == len(content) > 0 and not isinstance(lists[0][0] if lists[0] else None, dict):
            if len({len(values) for values in lists}) > 1:
                raise DataError(f"{name}: its columns differ in length.")
            content = [dict(zip(content, values, strict=True)) for values in zip(*lists, strict=True)]
        else:
            content = next((values for values in lists if values and isinstance(values[0], dict)), content)
    if not isinstance(content, list):
        raise DataError(f"{name}: a list of objects is expected, such as [{{...}}, {{...}}].")
    for number, values in enumerate(content, start=1):
        if not isinstance(values, dict):
            raise DataError(f"{name} row {number}: a JSON object is expected, not {type(values).__name__}.")
        yield Row(values, name, number)


def read_parquet(path: Path, name: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = itertools.count(1)
        for batch in file.iter_batches():
            for values in batch.to_pylist():
                yield Row(values, name, next(number))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{name} is not a readable parquet file: {error}") from error


READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
}


def read_hub(source: str) -> list[Row]:
    """A data set of the hub, or of a local folder that `datasets` can load: `hub:DATASET[:CONFIG]:SPLIT`."""
    parts = source.removeprefix(HUB).split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise DataError(f"{source!r}: write hub:DATASET:SPLIT or hub:DATASET:CONFIG:SPLIT, such as hub:stanfordnlp/sst2:train.")
    import datasets

    name, split = parts[0], parts[-1]
    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = offline or not hub_reachable()
    try:
        loaded = datasets.load_dataset(name, parts[1] if len(parts) == 3 else None, split=split)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"the data set {source} cannot be loaded: {reason}") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    names = {column: feature.names for column, feature in (loaded.features or {}).items() if isinstance(feature, datasets.ClassLabel)}
    rows = []
    for number, values in enumerate(loaded, start=1):
        for column, labels in names.items():
            if values[column] is not None and values[column] >= 0:
                values[column] = labels[values[column]]
        rows.append(Row(dict(values), source, number))
    if not rows:
        raise DataError(f"{source} is empty: it holds no rows.")
    return rows


def read_stream(stream: Iterable[str], texts: list[str]) -> list[Row]:
    """Rows from standard input: a JSON object a line, or plain text with a tab between the texts of a pair."""
    rows: list[Row] = []
    for line, text in enumerate(stream, start=1):
        stripped = text.rstrip("\r\n")
        if not stripped.strip():
            continue
        values: Any = None
        if stripped.lstrip().startswith("{"):
            try:
                values = json.loads(stripped)
            except ValueError:
                values = None
        if not isinstance(values, dict):
            fields = stripped.split("\t") if len(texts) > 1 else [stripped]
            if len(fields) != len(texts):
                raise DataError(
                    f"standard input line {line}: {len(texts)} texts with a tab between them are expected, found {len(fields)}."
                )
            values = dict(zip(texts, fields, strict=True))
        rows.append(Row(values, "standard input", len(rows) + 1, line))
    return rows
