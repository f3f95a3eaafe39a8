"""Shown tokens: what a part's summary says, how notes are put to words, and the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_runs import EVIL, Page

from burnish.core.errors import RunError
from burnish.report.tokens import Piece, Shown, ShownExample, ShownStrip, Summary, render, words, write_page

CHAT = Summary("train", "chat.jsonl", 128, 40, 52, 2000, 500, {"the middle was left out": 4}, 30, 2)


def strip(*pieces: Piece, name: str = "text") -> ShownStrip:
    return ShownStrip(name, pieces)


def shown(*examples: ShownExample, summary: Summary = CHAT, fault: str = "") -> Shown:
    return Shown("starter:minilm", "chat", summary, examples, ["3 rows stand twice"], fault)


def written(tmp_path: Path, what: Shown) -> Page:
    write_page(what, tmp_path / "new" / "page.html")
    return Page(tmp_path / "new" / "page.html")


def test_the_summary_says_what_a_part_comes_to() -> None:
    assert CHAT.sentences() == [
        ("train (chat.jsonl): 40 rows, 52 examples of at most 128 tokens, 2,000 tokens", "plain"),
        ("500 tokens supervised, 25%.", "plain"),
        ("4 rows too long, 10%: the middle was left out.", "warning"),
        ("The end token is supervised in 30 rows, 75%: where it is not, the model does not learn when to end.", "warning"),
        ("Nothing is supervised in 2 rows, 5%.", "bad"),
    ]


def test_the_summary_of_targets_and_of_sound_rows() -> None:
    labels = Summary("validation", "10% of rows.csv", 64, 1, 1, 9, None, {}, None, 0)
    assert labels.sentences() == [
        ("validation (10% of rows.csv): 1 row, 1 example of at most 64 tokens, 9 tokens", "plain"),
        ("No token is supervised: each example has a target of its own.", "plain"),
        ("No row is too long.", "good"),
    ]
    sound = Summary("train", "a", 64, 4, 4, 40, 20, {}, 4, 0).sentences()
    assert sound[-1] == ("The end token is supervised in every row: the model learns when to end.", "good")
    assert Summary("train", "a", 64, 4, 4, 40, 20, {}, 0, 0).sentences()[-1][1] == "bad"
    assert Summary("train", "a", 64, 0, 0, 0, 0, {}, 0, 0).sentences()


def test_counts_of_an_example() -> None:
    pieces = [Piece("a"), Piece("🙂", 3, supervised=True), Piece(" b", 2, supervised=True, cut=True), Piece(" c", cut=True)]
    assert ShownExample("row 1", [strip(*pieces)], "", 3, True).facts == "4 tokens, 3 supervised, 3 cut (2 of them would be supervised)"
    assert ShownExample("row 1", [strip(Piece("a"))], "praise", 0, True).facts == "1 token"
    assert ShownExample("row 1", [strip(Piece("a"))]).facts == "1 token, 0 supervised"


def test_a_note_stands_behind_its_word() -> None:
    pieces = [
        Piece("[CLS]", special=True), Piece(" in", note="O"), Piece(" Wolf", note="B-PER"), Piece("gang"), Piece("-"), Piece("s"),
        Piece(" house"), Piece("."), Piece(" Wolf", note="B-PER"), Piece(" x", cut=True), Piece("[SEP]", special=True),
    ]  # fmt: skip
    found = [("".join(piece.text for piece in word.pieces), word.note) for word in words(pieces)]
    assert found == [
        ("[CLS]", ""), (" in", "O"), (" Wolfgang-s", "B-PER"), (" house.", ""), (" Wolf", "B-PER"), (" x", ""), ("[SEP]", ""),
    ]  # fmt: skip
    assert words([]) == []


def test_the_page_marks_every_token_and_escapes_every_text(tmp_path: Path) -> None:
    first = ShownExample(
        "chat.jsonl row 1",
        [
            strip(
                Piece("<s>", special=True), Piece(EVIL), Piece(" cut", cut=True), Piece("  yes\n", supervised=True, note="B-<b>"),
                Piece("</s>", supervised=True, special=True), name="<i>prompt</i>",
            )
        ],
        "<u>aim</u>",
        2,
        True,
    )  # fmt: skip
    page = written(tmp_path, shown(first, ShownExample("chat.jsonl row 2", [strip()]), fault="nothing in <p>row 2</p>"))
    assert not {"script", "i", "u"} & set(page.tags) and page.links == []
    assert not re.search(r"url\(|@import|https?://", page.html)
    assert EVIL in page.text and "<i>prompt</i>" in page.text and "<u>aim</u>" in page.text and "nothing in <p>row 2</p>" in page.text
    assert '<span class="t o">&lt;s&gt;</span><span class="t">&lt;script&gt;' in page.html
    assert '<span class="t x"> cut</span> <ruby><span class="t s"> yes↵\n</span><rt>B-&lt;b&gt;</rt></ruby>' in page.html
    assert '<span class="t s o">&lt;/s&gt;</span></p>' in page.html
    assert page.text.count("nothing supervised") == 1 and "4 rows too long" in page.text and "3 rows stand twice" in page.text


def test_what_cannot_be_seen_is_made_visible() -> None:
    page = render(shown(ShownExample("row", [strip(Piece("a\x1b[31m\r\x00\ud800"))], "x", 0, True)))
    assert "a␛[31m␍␀?" in page and "\x1b" not in page and "\ud800" not in page


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Writing"):
        write_page(shown(), tmp_path / "file" / "page.html")
