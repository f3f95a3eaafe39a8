"""What `burnish check` found fits on the screen that it is shown on; a file gets all of it, without colors."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from burnish.report.inspection import Finding, Inspection, judged, left_out
from burnish.report.tokens import Piece, ShownExample, ShownStrip
from burnish.terminal import show_inspection

LONG = [Piece(f" word{number}", supervised=number > 90) for number in range(400)]


def inspected(warned: int = 2) -> Inspection:
    """27 checks, some of them with a long sentence, and two long rows."""
    findings: list[Finding] = [
        replace(judged(f"what was looked at, {'at length, ' * 12}", [], []), name=f"check {n:02}") for n in range(24)
    ]
    findings[:warned] = [
        replace(judged("seen", [], ["what is odd, " + "and why, " * 20]), name=f"check {number:02}") for number in range(warned)
    ]
    findings += [replace(left_out("nothing to look at"), name=f"check {number}") for number in range(24, 27)]
    row = ShownExample("train.csv row 1", (ShownStrip("text", LONG),), "praise", 309, True)
    return Inspection("a model, classify", findings, 2.0, [], [row, row])


def screen(found: Inspection, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, record=True, file=io.StringIO(), _environ={})
    show_inspection(console, found)
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(120, 60), (120, 45), (80, 60), (80, 30)])
def test_it_fits_on_one_screen(width: int, height: int) -> None:
    lines = screen(inspected(), width, height)
    assert len(lines) < height and max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "WARN: check 00" in text and "WARN: check 01" in text and "22 of 24 checks passed, 2 warn" in text
    assert all(f"check {number:02}" in text for number in range(27)), "no check is left unnamed"
    assert all(line.split()[2] == "warn" for line in lines if line.startswith(("check 00 ", "check 01 ")))
    assert "pass: check 02" in text or all(line.split()[2] == "pass" for line in lines if line.startswith("check 1"))
    assert "word0" in text and "word399" in text and "target: praise" in text


def test_what_is_wrong_is_told_whole_where_the_screen_is_too_low_for_it() -> None:
    text = " ".join(" ".join(screen(inspected(12), 80, 24)).split())
    assert text.count("and why, " * 19) == 12


def test_a_file_gets_all_of_it_without_colors() -> None:
    file = io.StringIO()
    show_inspection(Console(width=160, file=file), inspected())
    told = file.getvalue()
    assert "\x1b" not in told and told.count("at length, " * 5) >= 22 and "\u2026" not in told
    assert any(line.startswith("WARN: check 00: what is odd") and line.endswith(".") for line in told.splitlines()), "a sentence is a line"


def test_what_is_wrong_is_told_first_and_its_brackets_stay() -> None:
    warned = judged("rows [a]", [], ["[b] is odd"], "Mend [c]")
    failed = judged("columns", ["[d] is missing"], [])
    findings = [replace(warned, name="rows"), replace(failed, name="columns")]
    text = "\n".join(screen(Inspection("a [model]", findings, 2.0), 100, 40))
    assert text.index("FAIL: columns: [d] is missing.") < text.index("WARN: rows: [b] is odd. Mend [c].")
    assert "a [model]" in text and "rows [a]" in text and "0 of 2 checks passed, 1 warns, 1 failed, 0 left out, in 2 s" in text
