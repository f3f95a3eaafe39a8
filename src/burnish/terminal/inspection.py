"""What `burnish check` found, on one screen: a line for each check, what is to be mended, and some rows as the model gets them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from burnish.report.inspection import Inspection
from burnish.terminal.checks import COLORS
from burnish.terminal.tables import escaped
from burnish.terminal.tokens import colorless, legend, line, show_example


def show_inspection(console: Console, found: Inspection) -> None:
    """The table, the rows, and below them what is wrong and how to mend it, where a reader's eye ends up."""
    table = Table(title=escaped(found.title), title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("what was looked at")
    for finding in found.findings:
        if finding.state != "left out":
            word = "FAIL" if finding.state == "fail" else finding.state
            table.add_row(escaped(finding.name), Text(word, COLORS[word]), escaped(finding.seen))
    console.print(table)
    reasons = dict.fromkeys(finding.seen for finding in found.of("left out"))
    for reason in reasons:
        names = ", ".join(finding.name for finding in found.of("left out") if finding.seen == reason)
        line(console, Text(f"left out: {names} ({reason})", "dim"))
    if found.examples:
        line(console, Text("\nThe first rows as the model gets them", "bold"))
        line(console, legend(colorless(console)))
        for example in found.examples:
            show_example(console, example)
    console.print()
    for state, sentence in found.sentences():
        line(console, Text(sentence, {"fail": "bold red", "warn": "yellow"}.get(state, "")))
