"""What `burnish data show` finds out: which tokens are supervised, what was cut, and what is wrong with a part, without weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.core.errors import DataError
from burnish.core.view import Strip, View
from burnish.engine.events import Working
from burnish.report.tokens import Piece, Shown, ShownExample
from burnish.run.showing import common, ends_supervised, merged, pieces, show
from burnish.tasks.classify import Classifier


def text_of(found: list[Piece] | Any) -> str:
    return "".join(piece.text for piece in found)


def only(shown: Shown) -> ShownExample:
    assert len(shown.examples) == 1
    return shown.examples[0]


def write_jsonl(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def long_rows(tmp_path: Path) -> str:
    texts = ["the kettle is lovely and the candle is late", "a broken lamp", "great", "my parcel was awful and late"]
    return write_jsonl(tmp_path / "long.jsonl", *({"text": text, "label": "ab"[place % 2]} for place, text in enumerate(texts)))


def test_no_weights_are_needed(recipe: Any, tiny_bert: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in tiny_bert.iterdir():
        if not file.name.endswith(".safetensors"):
            (bare / file.name).write_bytes(file.read_bytes())
    shown = show(recipe(model={"name": str(bare)}, data={"max_length": None}), rows=1)
    assert only(shown).target == "praise" and shown.summary.max_length == 64
    with pytest.raises(DataError, match=r"more than .* can read, 64"):
        show(recipe(model={"name": str(bare)}, data={"max_length": 65}))


def test_what_is_cut_stands_in_its_place(recipe: Any, long_rows: str) -> None:
    made = recipe(data={"train": long_rows, "validation": None, "max_length": 6})
    shown = show(made)
    first, short = shown.examples[0], shown.examples[2]
    assert text_of(first.strips[0].pieces) == "[CLS] the kettle is lovely and the candle is late [SEP]"
    assert text_of([piece for piece in first.strips[0].pieces if piece.cut]) == " and the candle is late"
    assert [piece.special for piece in first.strips[0].pieces] == [True, *[False] * 9, True]
    assert first.facts == "6 tokens, 5 cut" and short.facts == "3 tokens"
    assert (first.place, first.target, first.learned) == ("long.jsonl row 1 (line 1)", "a", True)
    assert shown.summary.cut == {"cut at the end": 2} and shown.summary.rows == 4 and shown.summary.supervised is None
    assert shown.summary.ended is None and shown.fault == ""


def test_of_a_pair_both_texts_show_what_was_cut(recipe: Any, tmp_path: Path) -> None:
    row = {"text": "the kettle is lovely and great", "other": "my parcel was awful and late", "label": "a"}
    source = write_jsonl(tmp_path / "pairs.jsonl", row, {**row, "label": "b"})
    shown = show(recipe(task={"pair": "other"}, data={"train": source, "validation": None, "max_length": 9}), rows=1)
    parts = only(shown).strips[0].pieces
    assert text_of(parts) == "[CLS] the kettle is lovely and great [SEP] my parcel was awful and late [SEP]"
    assert text_of([piece for piece in parts if piece.cut]) == " lovely and great awful and late"


def test_a_row_by_its_number_and_where_it_is_instead(recipe: Any, rows_csv: Path) -> None:
    made = recipe()
    train = {example.place for example in show(made, rows=100).examples}
    held = {example.place for example in show(made, part="validation", rows=100).examples}
    assert len(train) == 36 and len(held) == 12 and not train & held
    number = next(number for number in range(1, 49) if f"rows.csv row {number} (line {number + 1})" in held)
    assert only(show(made, part="validation", row=number)).place == f"rows.csv row {number} (line {number + 1})"
    with pytest.raises(DataError, match=f"no row {number} among the 36 train rows\\. It is among the validation rows: --part validation"):
        show(made, row=number)
    with pytest.raises(DataError, match=r"no row 999 among the 36 train rows\.$"):
        show(made, row=999)
    with pytest.raises(DataError, match=r"no dev rows \(its parts: train, validation\)"):
        show(made, part="dev")


def test_a_test_file_is_opened_when_asked_for(recipe: Any, long_rows: str, rows_csv: Path, tmp_path: Path) -> None:
    test = write_jsonl(tmp_path / "test.jsonl", {"text": "a lamp", "label": "praise"})
    assert only(show(recipe(data={"test": test}), part="test")).place == "test.jsonl row 1 (line 1)"
    with pytest.raises(DataError, match="unknown label"):
        show(recipe(data={"test": long_rows}), part="test")


def test_sources_and_progress_are_told(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    events: list[Any] = []
    assert show(recipe(), part="validation", listeners=[events.append]).summary.source == "25% of rows.csv"
    assert events[-1] == Working("rows encoded", 12, 12)
    assert show(recipe()).summary.source == "rows.csv"


@pytest.fixture
def partly_taught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rows about parcels have nothing supervised; the changed encoding has a cache of its own."""
    encode = Classifier.encode
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))

    def changed(self: Classifier, rows: Any, labelled: bool = True) -> Any:
        weights = np.array(["parcel" not in row.values["text"] for row in rows], dtype=float)
        return replace(encode(self, rows, labelled), weights=weights)

    monkeypatch.setattr(Classifier, "encode", changed)


@pytest.mark.usefixtures("partly_taught")
def test_rows_in_which_nothing_is_supervised_are_shown_and_refused(recipe: Any, long_rows: str) -> None:
    made = recipe(data={"train": long_rows, "validation": None})
    shown = show(made, rows=1)
    assert [(example.place, example.learned) for example in shown.examples] == [
        ("long.jsonl row 1 (line 1)", True),
        ("long.jsonl row 4 (line 4)", False),
    ]
    assert shown.summary.empty == 1 and ("Nothing is supervised in 1 row, 25%.", "bad") in shown.summary.sentences()
    assert "nothing is supervised in 1 row of 4" in shown.fault and "long.jsonl row 4 (line 4)" in shown.fault
    assert len(show(made, row=1).examples) == 1
    dropped = show(recipe(data={"train": long_rows, "validation": None, "bad_rows": "drop"}))
    assert dropped.fault == "" and dropped.summary.empty == 1


def test_rewriting_shows_both_sequences_and_whether_the_end_is_learned(recipe: Any, tiny_t5: Path, tmp_path: Path) -> None:
    rows = [{"source": "where is my parcel?", "target": target} for target in ("It is on its way to you now.", "no")]
    source = write_jsonl(tmp_path / "rewrite.jsonl", *rows)
    task = {"name": "rewrite", "target_length": 4}
    shown = show(recipe(model={"name": str(tiny_t5)}, task=task, data={"train": source, "validation": None}))
    cut, whole = shown.examples
    assert [strip.name for strip in cut.strips] == ["source", "target"]
    assert text_of(cut.strips[1].pieces) == "It is on its way to you now.</s>"
    assert not any(piece.supervised for piece in cut.strips[0].pieces) and all(piece.supervised for piece in cut.strips[1].pieces)
    assert cut.supervised == 4 and cut.strips[1].pieces[-1].cut and "of them would be supervised" in cut.facts
    assert whole.strips[1].pieces[-1] == Piece("</s>", supervised=True, special=True)
    assert shown.summary.ended == 1 and shown.summary.supervised == cut.supervised + whole.supervised
    sentences = [sentence for sentence, _ in shown.summary.sentences()]
    assert "The end token is supervised in 1 row, 50%: where it is not, the model does not learn when to end." in sentences


def test_windows_are_not_cut_and_those_with_most_to_learn_are_shown(recipe: Any, tiny_llama: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "text.jsonl", {"text": "Where is my parcel, please? " * 30})
    made = recipe(model={"name": str(tiny_llama)}, task={"name": "continue", "overlap": 4}, data={"train": source, "validation": None})
    shown = show(made)
    assert len(shown.examples) == 3 and shown.summary.examples > 3
    assert shown.examples[0].place == f"text.jsonl row 1 (line 1), example 1 of {shown.summary.examples}"
    assert not any(piece.cut for example in shown.examples for strip in example.strips for piece in strip.pieces)
    assert shown.summary.ended == shown.summary.rows == 1


def test_notes_and_characters_of_many_tokens(tiny_llama: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    ids = tokenizer("a 🙂", add_special_tokens=False)["input_ids"]
    assert len(ids) > 4
    strip = Strip("text", ids, [False, *[True] * (len(ids) - 1)], ["", *["B-FACE"] * (len(ids) - 1)])
    found = pieces(tokenizer, strip, strip)
    assert text_of(found) == "a 🙂" and found[-1].tokens >= 3 and found[-1].note == "B-FACE" and found[-1].supervised
    assert sum(piece.tokens for piece in found) == len(ids)


def test_the_end_may_be_followed_by_a_line_break(tiny_llama: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    word, line, end = (tokenizer(text, add_special_tokens=False)["input_ids"][-1] for text in ("a", "\n", tokenizer.eos_token))
    assert ends_supervised(tokenizer, [word, end], {end}) and ends_supervised(tokenizer, [word, end, line], {end})
    assert not ends_supervised(tokenizer, [end, word], {end}) and not ends_supervised(tokenizer, [word, line], {end})
    assert not ends_supervised(tokenizer, [], {end})


def test_merged_is_the_short_sequence_with_what_is_missing_in_its_place() -> None:
    def written(short: list[int], long: list[int]) -> str:
        return " ".join(f"~{long[place]}" if cut else str(short[place]) for place, cut in merged(short, long))

    assert written([1, 2, 9], [1, 2, 3, 4, 9]) == "1 2 ~3 ~4 9"
    assert written([1, 9], [1, 9]) == "1 9"
    assert written([5, 9], [1, 2, 5, 9]) == "~1 ~2 5 9"
    assert written([1, 2], [1, 2, 3]) == "1 2 ~3"
    assert written([], [1]) == "~1"
    assert written([1, 2, 8, 5, 9], [1, 2, 3, 8, 5, 6, 9]) == "1 2 ~3 8 5 ~6 9"
    many = list(range(5000))
    assert len(merged([7, *many[1:2500], 7], [8, *many, 8])) == 2501 + 5002
    assert common([1, 2, 3], [1, 2]) == 2 and common([], []) == 0


def test_views_of_a_learner_without_tokens_of_its_own(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may say a word on tokens and still have a target."""

    def view(self: Classifier, examples: Any, index: int) -> View:
        ids = examples.inputs["input_ids"][index].tolist()
        return View([Strip("words", ids, [place == 1 for place in range(len(ids))], ["", "first", *[""] * (len(ids) - 2)])], "aim")

    monkeypatch.setattr(Classifier, "view", view)
    shown = show(recipe(), rows=1)
    example = only(shown)
    assert example.strips[0].pieces[1].note == "first" and example.strips[0].pieces[1].supervised
    assert example.target == "aim" and example.supervised == 1 and "1 supervised" in example.facts
    assert shown.summary.supervised == shown.summary.examples
