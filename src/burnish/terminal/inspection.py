"""What `burnish check` found, on one screen: a line for each check, what is to be mended, and some rows as the model gets them."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from burnish.report.inspection import Inspection
from burnish.report.tokens import ShownExample
from burnish.terminal.checks import COLORS
from burnish.terminal.tables import escaped
from burnish.terminal.tokens import INDENT, colored, colorless, legend, signed

LINES = (6, 3, 1)
"""Lines that a row may take: fewer where the screen is too low for all."""

FAIL = "FAIL"
"""How it is told that a check failed, which has to be seen at once."""

PROMPT = 2
"""Lines of the screen that the command and the prompt after it take."""


def show_inspection(console: Console, found: Inspection) -> None:
    """The table, the rows, and below them what is wrong and how to mend it, where a reader's eye ends up.

    Where a screen has not the height for it, rows are told in fewer lines, then checks that passed in one paragraph. What is wrong is always
    told whole.
    """
    if not console.is_terminal:
        for part in page(console, found, LINES[0], True):
            console.print(part, highlight=False, soft_wrap=isinstance(part, Text))
        return
    pages = [*(Group(*page(console, found, lines, True)) for lines in LINES), Group(*page(console, found, LINES[-1], False))]
    room = console.size.height - PROMPT
    console.print(next((each for each in pages if len(console.render_lines(each, pad=False)) <= room), pages[-1]), highlight=False)


def page(console: Console, found: Inspection, lines: int, passed: bool) -> list[RenderableType]:
    """Everything that is shown; rows in at most so many `lines`, with a line for each check that `passed` or all in a paragraph."""
    parts: list[RenderableType] = [Text(found.title, "bold"), overview(found, passed, console.width if console.is_terminal else None)]
    if not passed:
        parts.append(Text(f"pass: {', '.join(finding.name for finding in found.of('pass'))}", "green"))
    for reason in dict.fromkeys(finding.seen for finding in found.of("left out")):
        names = ", ".join(finding.name for finding in found.of("left out") if finding.seen == reason)
        parts.append(Text(f"left out: {names} ({reason})", "dim"))
    if found.examples:
        parts += [Text.assemble("\n", ("The first rows as the model gets them: ", "bold"), legend(colorless(console)))]
        for example in found.examples:
            parts += shown(console, example, lines)
    parts.append(Text())
    parts += [Text(sentence, {"fail": "bold red", "warn": "yellow"}.get(state, "")) for state, sentence in found.sentences()]
    return parts


def overview(found: Inspection, passed: bool, width: int | None) -> Table:
    """What was looked at by each check, or by those alone that did not pass; where there is a `width`, in one line each."""
    names = max((len(finding.name) for finding in found.findings), default=0)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=names)
    table.add_column(no_wrap=True, min_width=len(FAIL))
    table.add_column(no_wrap=width is not None, overflow="ellipsis", max_width=width and max(width - names - len(FAIL) - 4, 1))
    for finding in found.findings:
        if finding.state != "left out" and (passed or finding.state != "pass"):
            word = FAIL if finding.state == "fail" else finding.state
            table.add_row(escaped(finding.name), Text(word, COLORS[word]), escaped(finding.seen))
    return table


def shown(console: Console, example: ShownExample, lines: int) -> list[RenderableType]:
    """A row in few lines: where it is from, and the beginning and the end of each of its texts."""
    head = Text.assemble((example.place, "bold"), f": {example.facts}")
    if example.target:
        head.append_text(Text.assemble("; target: ", (example.target, "bold green")))
    if not example.learned:
        head.append("  nothing supervised", "bold red")
    head.truncate(console.width, overflow="ellipsis")
    made: list[RenderableType] = [head]
    for strip in example.strips:
        text = signed(strip.pieces) if colorless(console) else colored(strip.pieces)
        if len(example.strips) > 1:
            text = Text.assemble((f"{strip.name}: ", "dim"), text)
        made.append(Padding(middle_left_out(text, lines * (console.width - INDENT)), (0, 0, 0, INDENT)))
    return made


def middle_left_out(text: Text, most: int) -> Text:
    """The text on one line, line breaks as they are signed; of a long one its beginning and its end, in `most` characters."""
    whole = Text(" ").join(part for part in text.split("\n") if part.plain)
    if len(whole) <= most:
        return whole
    first, last = most * 2 // 3, most - most * 2 // 3 - 5
    return Text.assemble(whole[:first], (" ... ", "dim"), whole[len(whole) - last :])
