"""Examples as a model gets them, to look at: which tokens are supervised, which were cut, and what that comes to in a whole part.

This page answers the question that saves most time of all: does the model learn from what you think it learns from?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from burnish.core.errors import count, disk_errors
from burnish.core.rundir import write_text
from burnish.report.templates import resource, template, writable
from burnish.report.wording import percent

Tone = Literal["plain", "good", "warning", "bad"]
NEWLINE = "↵\n"
PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {127: "␡", 0x200B: "␣", 0xFEFF: "␣"}


@dataclass(frozen=True)
class Piece:
    """One token, or several that only together are a character."""

    text: str
    tokens: int = 1
    supervised: bool = False
    special: bool = False
    cut: bool = False
    note: str = ""
    changed: bool = False

    @property
    def seen(self) -> str:
        """The text with line breaks and control characters in a form that can be seen."""
        return writable(self.text.translate(PICTURES).replace("\n", NEWLINE))


@dataclass(frozen=True)
class ShownStrip:
    """One sequence of an example, in order, with what was cut out of it in its place."""

    name: str
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class ShownExample:
    """An example and where it comes from. `learned` says whether anything is learned from it: `supervised` tokens, or its target."""

    place: str
    strips: Sequence[ShownStrip]
    target: str = ""
    supervised: int = 0
    learned: bool = False

    @property
    def facts(self) -> str:
        """`24 tokens, 8 supervised, 5 cut` in words, with what of the cut would have been supervised."""
        pieces = [piece for strip in self.strips for piece in strip.pieces]
        kept, cut = (sum(piece.tokens for piece in pieces if piece.cut is state) for state in (False, True))
        lost = sum(piece.tokens for piece in pieces if piece.cut and piece.supervised)
        told = [count(kept, "token")]
        if self.supervised or not self.target:
            told.append(f"{self.supervised:,} supervised")
        if cut:
            told.append(f"{cut:,} cut" + (f" ({lost:,} of them would be supervised)" if lost else ""))
        return ", ".join(told)


@dataclass(frozen=True)
class Summary:
    """What a whole part comes to.

    `supervised` is None where examples have a target that is no token; `ended` counts the rows whose last supervised token is an
    end token, None where the task does not write; `empty` are rows in which nothing is supervised.
    """

    part: str
    source: str
    max_length: int
    rows: int
    examples: int
    tokens: int
    supervised: int | None
    cut: Mapping[str, int]
    ended: int | None
    empty: int

    def sentences(self) -> list[tuple[str, Tone]]:
        """The summary in words, and how each sentence is to be taken."""
        size = f"{count(self.rows, 'row')}, {count(self.examples, 'example')} of at most {self.max_length:,} tokens, {count(self.tokens, 'token')}"
        told: list[tuple[str, Tone]] = [(f"{self.part} ({self.source}): {size}", "plain")]
        if self.supervised is None:
            told.append(("No token is supervised: each example has a target of its own.", "plain"))
        else:
            told.append((f"{count(self.supervised, 'token')} supervised, {percent(self.share(self.supervised, self.tokens))}.", "plain"))
        told += [
            (f"{count(rows, 'row')} too long, {percent(self.share(rows, self.rows))}: {how}.", "warning") for how, rows in self.cut.items()
        ]
        if not self.cut:
            told.append(("No row is too long.", "good"))
        if self.ended is not None:
            told.append(self.ending())
        if self.empty:
            told.append((f"Nothing is supervised in {count(self.empty, 'row')}, {percent(self.share(self.empty, self.rows))}.", "bad"))
        return told

    def ending(self) -> tuple[str, Tone]:
        share = percent(self.share(self.ended or 0, self.rows))
        if self.ended == self.rows:
            return "The end token is supervised in every row: the model learns when to end.", "good"
        why = "where it is not, the model does not learn when to end"
        return f"The end token is supervised in {count(self.ended or 0, 'row')}, {share}: {why}.", "warning" if self.ended else "bad"

    @staticmethod
    def share(part: int, whole: int) -> float:
        return part / whole if whole else 0.0


@dataclass(frozen=True)
class Shown:
    """What `burnish data show` shows. `fault` is what training would refuse these rows with."""

    model: str
    task: str
    summary: Summary
    examples: Sequence[ShownExample]
    warnings: Sequence[str] = field(default=())
    fault: str = ""

    @property
    def changed(self) -> bool:
        """Whether something is shown that stands in the place of other words."""
        return any(piece.changed for example in self.examples for strip in example.strips for piece in strip.pieces)


@dataclass(frozen=True)
class Word:
    """Neighboring pieces with at most one note, which goes for all of them."""

    pieces: Sequence[Piece]
    note: str


def words(pieces: Sequence[Piece]) -> list[Word]:
    """Pieces in groups, so that a note stands behind its word and not within it.

    A note goes for the pieces after its own until a word begins, another note stands, or what is cut begins or ends. What has no
    note is one group.
    """
    groups: list[list[Piece]] = []
    for piece in pieces:
        last = groups[-1] if groups else []
        if last and last[-1].cut == piece.cut and not piece.note and not (last[0].note and begins_word(piece)):
            last.append(piece)
        else:
            groups.append([piece])
    return [Word(group, group[0].note) for group in groups]


def begins_word(piece: Piece) -> bool:
    return piece.special or not piece.text or not (piece.text[0].isalnum() or piece.text[0] in "'’_-")


def write_page(shown: Shown, path: Path) -> None:
    """Writes the page to `path`. Raises RunError where the disk refuses."""
    with disk_errors(f"Writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, render(shown))


def render(shown: Shown) -> str:
    """One self-contained HTML page."""
    style = Markup(resource("page.css") + resource("tokens.css"))
    return writable(template("tokens.html.jinja").render(shown=shown, style=style, words=words))
