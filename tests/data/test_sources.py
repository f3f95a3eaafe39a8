"""Readers: the same rows from every kind of file, and for every kind of damage an error that says where it is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burnish.core.errors import DataError
from burnish.data import sources
from burnish.data.sources import columns, fingerprint, read, read_stream

ROWS = [
    {"text": 'He said "no", twice', "label": "a"},
    {"text": "Zürich 漢字 \u2028 line", "label": "b"},
    {"text": "plain", "label": "a"},
]
CSV = 'text,label\n"He said ""no"", twice",a\nZürich 漢字 \u2028 line,b\nplain,a\n'
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TEXTS = {
    "rows.csv": CSV,
    "rows.tsv": 'text\tlabel\nHe said "no", twice\ta\nZürich 漢字 \u2028 line\tb\nplain\ta\n',
    "rows.jsonl": JSONL,
    "objects.json": json.dumps(ROWS, ensure_ascii=False, indent=1),
    "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in ("text", "label")}),
    "wrapped.json": json.dumps({"version": 2, "data": ROWS}),
}
CRLF = {name: text.replace("\n", "\r\n") for name, text in TEXTS.items()}

Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file, packed where its name ends in .gz, and gives its path."""

    def written(name: str, content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    return written


def refusal(source: str) -> str:
    with pytest.raises(DataError) as caught:
        read(source)
    return str(caught.value)


def values(source: str) -> list[dict[str, Any]]:
    return [row.values for row in read(source)]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("form", ["plain", "crlf", "bom", "no last line end"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_text_file_gives_the_same_rows(write: Write, name: str, form: str, packed: str) -> None:
    text = {"plain": TEXTS[name], "crlf": CRLF[name], "bom": "\ufeff" + TEXTS[name], "no last line end": TEXTS[name].rstrip("\n")}[form]
    source = write(name + packed, text)
    rows = read(source)
    assert [row.values for row in rows] == ROWS
    assert [row.number for row in rows] == [1, 2, 3]
    assert columns(source) == ["text", "label"]
    assert rows[1].file == name + packed
    line = {".csv": 3, ".tsv": 3, ".jsonl": 2, ".json": None}[Path(name).suffix]
    assert rows[1].line == line
    assert rows[1].place == f"{name + packed} row 2" + (f" (line {line})" if line else "")


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"text": ["a", None], "labels": [["x", "y"], []], "score": [1.5, 2.0]}), path)
    assert values(path) == [{"text": "a", "labels": ["x", "y"], "score": 1.5}, {"text": None, "labels": [], "score": 2.0}]
    assert columns(path) == ["text", "labels", "score"]
    assert read(path)[1].place == "rows.parquet row 2"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    assert "holds no rows" in refusal(path)


def test_a_damaged_parquet_is_named(write: Write) -> None:
    path = write("rows.parquet", b"PAR1 but no more")
    assert "rows.parquet is not a readable parquet file" in refusal(path)
    with pytest.raises(DataError, match=r"rows\.parquet is not a readable parquet file"):
        columns(path)


def test_csv_fields_may_hold_line_ends_and_lines_are_counted_in_the_file(write: Write) -> None:
    source = write("rows.csv", 'text,label\n"two\nlines",a\n\n"and\r\nthree\n",b\nlast,c\n')
    rows = read(source)
    assert [row.values["text"] for row in rows] == ["two\nlines", "and\r\nthree\n", "last"]
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 5), (3, 8)]


def test_tsv_lone_quotes_are_plain_characters(write: Write) -> None:
    source = write("rows.tsv", 'text\tlabel\n5" screen\ta\n"quoted"\tb\n"say ""hi"" now"\tc\n"\td\n')
    assert values(source) == [
        {"text": '5" screen', "label": "a"},
        {"text": "quoted", "label": "b"},
        {"text": 'say "hi" now', "label": "c"},
        {"text": '"', "label": "d"},
    ]


def test_tsv_quoted_fields_may_hold_tabs_and_line_ends(write: Write) -> None:
    source = write("rows.tsv", 'text\tlabel\n"a\tb"\tx\n"c\nd"\ty\n')
    assert values(source) == [{"text": "a\tb", "label": "x"}, {"text": "c\nd", "label": "y"}]


def test_tsv_with_an_empty_last_or_first_field(write: Write) -> None:
    assert values(write("rows.tsv", "text\tlabel\n\ta\nb\t\n")) == [{"text": "", "label": "a"}, {"text": "b", "label": ""}]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json", "rows.csv.gz"])
@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"], ids=["nothing", "blank lines", "bom"])
def test_an_empty_file_is_refused(write: Write, name: str, content: str) -> None:
    source = write(name, content)
    assert "is empty: it holds no rows" in refusal(source)
    with pytest.raises(DataError, match="is empty"):
        columns(source)


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text,label\n"), ("a.tsv", "text\tlabel\n"), ("a.json", "[]"), ("b.json", "{}")])
def test_a_header_alone_is_no_data(write: Write, name: str, content: str) -> None:
    assert name in refusal(write(name, content))


def test_an_empty_json_list_is_empty(write: Write) -> None:
    assert "is empty: it holds no rows" in refusal(write("a.json", "[]"))


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl"])
def test_blank_lines_are_no_rows(write: Write, name: str) -> None:
    lines = TEXTS[name].split("\n")
    assert values(write(name, "\n\n".join(lines))) == ROWS


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "objects.json", "rows.csv.gz"])
def test_an_undecodable_byte_is_told_with_its_line(write: Write, name: str) -> None:
    data = TEXTS[name.removesuffix(".gz")].encode().replace("ü".encode(), b"\xfc")
    line = data[: data.index(b"\xfc")].count(b"\n") + 1
    problem = refusal(write(name, data))
    assert f"{name} line {line}: byte 0xfc at position" in problem
    assert "iconv" in problem


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "objects.json"])
def test_utf16_is_recognised(write: Write, name: str, encoding: str) -> None:
    problem = refusal(write(name, TEXTS[name].replace("ü", "u").replace("漢字", "").replace("\u2028", "").encode(encoding)))
    assert f"{name} line 1" in problem and "UTF-8" in problem


def test_a_nul_byte_is_told_with_its_line(write: Write) -> None:
    assert "rows.csv line 3 holds a NUL byte" in refusal(write("rows.csv", "text,label\na,b\nc\x00,d\n"))


@pytest.mark.parametrize(("row", "number"), [("only one", 1), ("one,two,three", 3)])
def test_a_ragged_row_is_told_with_its_place(write: Write, row: str, number: int) -> None:
    problem = refusal(write("rows.csv", f'text,label\n"a\nb",x\n{row}\nc,y\n'))
    assert f"rows.csv row 2 (line 4): {number} field" in problem and "header has 2" in problem


def test_a_ragged_tsv(write: Write) -> None:
    assert "rows.tsv row 2 (line 3): 3 fields where the header has 2" in refusal(write("rows.tsv", "text\tlabel\na\tx\nb\ty\tz\n"))


@pytest.mark.parametrize("text", ['text,label\na,"never closed\nb,c\n', 'text,label\n"a"b,c\n'])
def test_a_broken_quote_is_told(write: Write, text: str) -> None:
    assert "rows.csv line " in refusal(write("rows.csv", text))


def test_broken_json_is_told_with_its_line(write: Write) -> None:
    assert "rows.jsonl row 2 (line 3): not a JSON object" in refusal(write("rows.jsonl", '{"text": "a"}\n\n{"text": \n'))
    assert "rows.jsonl row 1 (line 1): a JSON object is expected, not list" in refusal(write("rows.jsonl", '["a"]\n'))
    problem = refusal(write("rows.json", '[{"text": "a"},\n {"text": }]'))
    assert "rows.json: not valid JSON" in problem and "line 2" in problem
    assert "One object a line is .jsonl" in refusal(write("rows.json", JSONL))


def test_json_of_another_shape_is_refused(write: Write) -> None:
    assert "a list of objects is expected" in refusal(write("rows.json", '{"text": "a"}'))
    assert "a list of objects is expected" in refusal(write("rows.json", "3"))
    assert "its columns differ in length" in refusal(write("rows.json", '{"text": ["a", "b"], "label": ["x"]}'))
    assert "rows.json row 2: a JSON object is expected, not str" in refusal(write("rows.json", '[{"text": "a"}, "b"]'))


@pytest.mark.parametrize(("name", "text"), [("a.csv", "text,label,text\n1,2,3\n"), ("a.tsv", "text\tlabel\ttext\n1\t2\t3\n")])
def test_columns_named_twice_are_refused(write: Write, name: str, text: str) -> None:
    assert refusal(write(name, text)) == f"{name}: the header names 'text' more than once."


def test_a_long_field_is_read(write: Write) -> None:
    long = "word " * 100_000
    assert values(write("rows.csv", f"text,label\n{long},a\n")) == [{"text": long, "label": "a"}]


def test_what_is_no_gzip(write: Write, tmp_path: Path) -> None:
    (tmp_path / "rows.csv.gz").write_text(CSV)
    assert "cannot be unpacked" in refusal(str(tmp_path / "rows.csv.gz"))
    (tmp_path / "half.csv.gz").write_bytes(gzip.compress(CSV.encode() * 100)[:-20])
    assert "cannot be unpacked" in refusal(str(tmp_path / "half.csv.gz"))


def test_missing_files_folders_and_unknown_endings(write: Write, tmp_path: Path) -> None:
    write("train.csv", CSV)
    assert refusal(str(tmp_path / "trian.csv")) == f"the file {tmp_path}/trian.csv does not exist - did you mean `train.csv`?"
    assert refusal(str(tmp_path / "no" / "train.csv")).endswith("does not exist")
    assert "is a folder; a file is expected (.csv, .tsv" in refusal(str(tmp_path))
    assert "rows.xlsx is of an unknown kind; known are .csv" in refusal(write("rows.xlsx", "x"))
    assert "unknown kind" in refusal(write("rows.parquet.gz", "x"))
    assert values(write("ROWS.CSV", CSV)) == ROWS


def test_bundled_data() -> None:
    rows = read("bundled:messages-train")
    assert len(rows) >= 300
    assert {"text", "intent", "sentiment"} <= set(rows[0].values)
    assert columns("bundled:messages-train") == list(rows[0].values)
    assert "did you mean `messages-train`" in refusal("bundled:mesages-train")


def test_bundled_parts_share_no_text_and_have_every_label() -> None:
    parts = {part: read(f"bundled:messages-{part}") for part in ("train", "validation", "test")}
    texts = [" ".join(row.values["text"].lower().split()) for rows in parts.values() for row in rows]
    assert len(texts) == len(set(texts)) >= 480
    for column, number in (("intent", 8), ("sentiment", 3)):
        labels = {part: {row.values[column] for row in rows} for part, rows in parts.items()}
        assert labels["train"] == labels["validation"] == labels["test"]
        assert len(labels["train"]) == number


def test_the_fingerprint_is_that_of_the_bytes(write: Write) -> None:
    import hashlib

    assert fingerprint(write("rows.csv", CSV)) == hashlib.sha256(CSV.encode()).hexdigest()
    assert fingerprint("hub:a:train") != fingerprint("hub:a:test")


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `datasets` loads like a data set of the hub, with named classes."""
    import datasets

    folder = tmp_path_factory.mktemp("hub") / "shop"
    folder.mkdir()
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    made = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    made.to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


def test_hub_classes_come_by_name(hub_folder: Path) -> None:
    rows = read(f"hub:{hub_folder}:train")
    assert [row.values for row in rows] == [{"text": "a", "label": "good"}, {"text": "b", "label": "bad"}, {"text": "c", "label": -1}]
    assert rows[0].place == f"hub:{hub_folder}:train row 1"


def test_hub_errors(hub_folder: Path) -> None:
    assert "hub:DATASET:SPLIT" in refusal("hub:stanfordnlp/sst2")
    assert "hub:DATASET:SPLIT" in refusal("hub::train")
    assert "cannot be loaded" in refusal(f"hub:{hub_folder}:validation")
    assert "cannot be loaded" in refusal("hub:nobody/nothing:train")


def test_standard_input() -> None:
    rows = read_stream(["first\n", "\n", '{"text": "second", "id": 7}\n', "{no json}\r\n"], ["text"])
    assert [row.values for row in rows] == [{"text": "first"}, {"text": "second", "id": 7}, {"text": "{no json}"}]
    assert rows[1].place == "standard input row 2 (line 3)"
    pairs = read_stream(["a\tb\n"], ["question", "answer"])
    assert pairs[0].values == {"question": "a", "answer": "b"}
    assert read_stream(["a\tb"], ["text"])[0].values == {"text": "a\tb"}
    with pytest.raises(DataError, match="standard input line 1: 2 texts with a tab"):
        read_stream(["only one\n"], ["question", "answer"])
    assert read_stream([], ["text"]) == []


def test_every_known_ending_has_a_reader() -> None:
    assert list(sources.READERS) == [".csv", ".tsv", ".jsonl", ".json", ".parquet"]


def test_a_csv_with_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "german.csv"
    path.write_text('text;label\n"gut, sehr gut";1\nschlecht;0\n', encoding="utf-8")
    assert [row.values for row in sources.read(str(path))] == [
        {"text": "gut, sehr gut", "label": "1"},
        {"text": "schlecht", "label": "0"},
    ]
    assert sources.columns(str(path)) == ["text", "label"]
