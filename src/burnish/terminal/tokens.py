"""Examples as the model gets them, in the terminal: in color, or in signs where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from burnish.report.tokens import Piece, Shown, ShownExample, Word, words

STYLES = {"supervised": "bold green", "cut": "strike red", "special": "magenta"}
SUPERVISED_SPECIAL = "bold green underline"
CHANGED = "reverse"
NOTE = "dim cyan"
TONES = {"plain": "", "good": "green", "warning": "yellow", "bad": "bold red"}
SIGNS = {
    "supervised": ("«", "»"),
    "cut": ("~", "~"),
    "changed": ("{", "}"),
    "supervised changed": ("«{", "}»"),
    "": ("", ""),
}
INDENT = 2


def show_tokens(console: Console, shown: Shown) -> None:
    """The summary of a part, a legend, and its rows token by token."""
    for sentence, tone in shown.summary.sentences():
        line(console, Text(sentence, TONES[tone]))
    for warning in shown.warnings:
        line(console, Text(f"warning: {warning}", TONES["warning"]))
    line(console, legend(colorless(console), shown.changed))
    for example in shown.examples:
        show_example(console, example)


def colorless(console: Console) -> bool:
    return console.no_color or console.color_system is None


def legend(plain: bool, changed: bool = False) -> Text:
    if plain:
        return Text(f"Signs: «supervised» ~cut~ {'{changed} ' if changed else ''}[NAME] special token; word·NOTE; ↵ line break")
    more = Text.assemble(("changed", CHANGED), "  ") if changed else Text()
    return Text.assemble(
        ("supervised", STYLES["supervised"]), "  ", ("cut", STYLES["cut"]), "  ", more, ("special token", STYLES["special"]),
        "  word", ("·NOTE", NOTE), "  ↵ line break",
    )  # fmt: skip


def show_example(console: Console, example: ShownExample) -> None:
    """Where an example is from, its counts, its sequences, and its target."""
    head = Text.assemble("\n", (example.place, "bold"), f": {example.facts}")
    if not example.learned:
        head.append("  nothing supervised", TONES["bad"])
    line(console, head)
    for strip in example.strips:
        if len(example.strips) > 1:
            line(console, Text(f"  {strip.name}:", "dim"))
        text = signed(strip.pieces) if colorless(console) else colored(strip.pieces)
        if text.plain.endswith("\n"):
            text.right_crop(1)
        if console.is_terminal:
            console.print(Padding(text, (0, 0, 0, INDENT)), overflow="fold")
        else:
            line(console, text)
    if example.target:
        line(console, Text.assemble("  target: ", (example.target, STYLES["supervised"])))


def line(console: Console, text: Text) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def colored(pieces: Sequence[Piece]) -> Text:
    """The pieces in their colors, each note behind its word."""
    text = Text()
    for word in spans(words(pieces)):
        for piece in word.pieces:
            text.append(piece.seen, style_of(piece))
        if word.note:
            text.append(f"·{word.note}", NOTE)
    return text


def spans(found: Sequence[Word]) -> list[Word]:
    """Words with neighbors of the same note as one, for a line has no room for many notes; `B-` begins a span and stands alone."""
    made: list[Word] = []
    for word in found:
        last = made[-1] if made else None
        if last is not None and word.note and word.note == last.note and not word.note.startswith("B-"):
            made[-1] = Word([*last.pieces, *word.pieces], word.note)
        else:
            made.append(word)
    return made


def style_of(piece: Piece) -> str:
    if piece.special and piece.supervised and not piece.cut:
        return SUPERVISED_SPECIAL
    told = "cut" if piece.cut else "supervised" if piece.supervised else "special" if piece.special else ""
    return f"{STYLES.get(told, '')} {CHANGED if piece.changed else ''}".strip()


def state(piece: Piece) -> str:
    """What is said of a piece by a sign; that it is special its name says."""
    if piece.cut:
        return "cut"
    return " ".join([*(["supervised"] if piece.supervised else []), *(["changed"] if piece.changed else [])])


def signed(pieces: Sequence[Piece]) -> Text:
    """The same in signs: «supervised», ~cut~, {changed}."""
    return Text("".join(signs(pieces)))


def signs(pieces: Sequence[Piece]) -> Iterator[str]:
    """Runs of pieces between their signs, the blanks before a run outside of them."""
    runs: list[tuple[str, list[Piece], str]] = []
    for word in spans(words(pieces)):
        parts = [(name, list(group)) for name, group in groupby(word.pieces, state)]
        for place, (name, group) in enumerate(parts):
            note = word.note if place == len(parts) - 1 else ""
            if runs and runs[-1][0] == name and not runs[-1][2]:
                runs[-1] = (name, runs[-1][1] + group, note)
            else:
                runs.append((name, group, note))
    for name, group, note in runs:
        text = "".join(piece.seen for piece in group)
        inner = text.lstrip(" ")
        before, after = SIGNS[name]
        yield f"{text[: len(text) - len(inner)]}{before}{inner}{after}" + (f"·{note}" if note else "")
