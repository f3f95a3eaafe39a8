import io
import re

import pytest
from rich.console import Console

from burnish.engine.events import Began, Evaluated, Moved, Noted, Stepped
from burnish.report.tokens import Piece, Shown, ShownExample, ShownStrip, Summary
from burnish.terminal import Display, evaluation_tables, prediction_table, show_tokens, tokens
from burnish.terminal.display import Smoothed
from burnish.terminal.tables import clock, megabytes, number

FACTS = {
    "model": "starter:minilm",
    "task": "classify",
    "method": "full",
    "parameters": {"total": 200, "trainable": 50, "roles": []},
    "data": {"train": {"rows": 1200}, "validation": {"rows": 1}},
    "steps": 40,
    "steps_per_epoch": 20,
    "duration": "2ep",
    "batch_size": 32,
    "micro_batch": "512tok",
    "max_length": 128,
    "device": "cpu",
    "precision": "fp32",
    "run": "runs/[x]",
    "notes": ["micro-batches of like length: 40% fewer positions"],
    "warnings": ["3 validation rows also stand in training"],
}


def stepped(step: int, seconds: float, total: int = 40) -> Stepped:
    return Stepped(step, step / 20, 2.0, 1.5, 5e-5, 32, 300, 400, seconds, 800_000_000, step / total)


def screen(terminal: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=200, force_terminal=terminal, color_system=None), stream


def test_the_header_tells_what_will_be_trained_and_every_warning() -> None:
    console, stream = screen()
    Display(console)(Began(FACTS))
    text = stream.getvalue()
    assert "50 of 200 parameters learn (25.0%)" in text
    assert "1,200 train rows, 1 validation row;" in text
    assert "runs/[x]" in text
    assert "40% fewer positions" in text
    assert "warning: 3 validation rows also stand in training" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_a_step_shows_loss_gradient_speed_padding_memory_and_time_left(terminal: bool) -> None:
    console, stream = screen(terminal)
    with Display(console) as display:
        display(stepped(1, 1.0))
        display.spoke = 0.0
        display(stepped(2, 2.0))
        for sign in ("loss 2.0000", "grad 1.5", "lr 5.00e-05", "300 tok/s", "padding 25%", "800 MB", "0:38 left"):
            assert sign in display.pace.line()
    assert "step 1" in stream.getvalue() or terminal


def test_the_first_step_of_a_resumed_run_says_nothing_of_the_speed() -> None:
    console, _ = screen()
    display = Display(console)
    display(stepped(7, 900.0))
    assert display.pace.speed.value == 0.0
    display(stepped(8, 902.0))
    assert display.pace.speed.value == pytest.approx(150.0)


def test_evaluations_and_notes_are_lines_and_brackets_stay_text() -> None:
    console, stream = screen()
    display = Display(console)
    display(Evaluated(20, 1.0, "validation", {"loss": 0.5, "accuracy": 0.91}, 1.0, True))
    display(Moved(20, "learning rate", 1.0, 0.5, 0.01, "loss no better than 0.5 in [2] evaluations"))
    display(Noted("label [bold]x[/] kept"))
    assert "validation after step 20, epoch 1.00:  loss 0.5000  accuracy 0.9100  best so far" in stream.getvalue()
    assert "learning rate ×1 → ×0.5 from step 21: loss no better than 0.5 in [2] evaluations" in stream.getvalue()
    assert "label [bold]x[/] kept" in stream.getvalue()


def test_tables() -> None:
    console, stream = screen()
    classes = {"kind": "table", "title": "Classes", "columns": ["label", "f1"], "rows": [["[red]", 0.25]]}
    evaluation_tables(console, {"part": "test", "rows": 1600, "metrics": {"accuracy": 0.5, "r2": None}, "sections": [classes]})
    console.print(prediction_table([{"text": "hi", "label": "a", "score": 0.75, "probabilities": {"a": 0.75}}]))
    text = stream.getvalue()
    assert "test, 1,600 rows" in text
    assert "[red]" in text
    assert "0.7500" in text and "probabilities" not in text


def test_small_words() -> None:
    assert (clock(59.6), clock(61), clock(3725)) == ("1:00", "1:01", "1:02:05")
    assert (megabytes(5e6), megabytes(2.5e9)) == ("5 MB", "2.50 GB")
    assert (number(1234), number(0.12345), number(None), number(12345.6)) == ("1,234", "0.1235", "-", "12,345.6")


def test_smoothing_starts_at_the_first_value() -> None:
    smoothed = Smoothed()
    smoothed.add(10.0)
    assert smoothed.value == pytest.approx(10.0)
    smoothed.add(0.0)
    assert 0.0 < smoothed.value < 10.0


def pieces() -> list[Piece]:
    return [
        Piece("[CLS]", special=True), Piece(" the"), Piece(" kettle", supervised=True, note="B-THING"), Piece("s"),
        Piece(" is", supervised=True, note="O"), Piece(" [red]so[/]", supervised=True, note="O"), Piece(" late", cut=True),
        Piece("\n", supervised=True), Piece("</s>", supervised=True, special=True),
    ]  # fmt: skip


def test_tokens_without_color_are_marked_by_signs() -> None:
    console, stream = screen()
    summary = Summary("train", "rows.csv", 8, 4, 4, 30, 9, {"cut at the end": 1}, 3, 1)
    examples = [ShownExample("rows.csv row 1", [ShownStrip("text", pieces())], "aim", 5, True), ShownExample("rows.csv row 2", [])]
    show_tokens(console, Shown("m", "t", summary, examples, ["watch [out]"]))
    text = stream.getvalue()
    assert "[CLS] the «kettle»s·B-THING «is [red]so[/]»·O ~late~«↵\n</s>»" in text
    assert "«supervised» ~cut~" in text and "warning: watch [out]" in text and "1 row too long, 25%: cut at the end." in text
    assert "rows.csv row 1: 8 tokens, 5 supervised, 1 cut" in text and "target: aim" in text
    assert re.search(r"rows.csv row 2: .*nothing supervised", text) and "\x1b" not in text


def test_tokens_in_color() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, color_system="standard", no_color=False)
    summary = Summary("train", "rows.csv", 8, 1, 1, 8, 5, {}, 1, 0)
    strips = [ShownStrip(name, pieces()) for name in ("source", "target")]
    show_tokens(console, Shown("m", "t", summary, [ShownExample("row 1", strips, "", 5, True)]))
    text = stream.getvalue()
    for mark in (
        "\x1b[1;32m kettle\x1b[0m",
        "\x1b[9;31m late\x1b[0m",
        "\x1b[35m[CLS]\x1b[0m",
        "\x1b[2;36m·B-THING\x1b[0m",
        "\x1b[1;4;32m</s>",
    ):
        assert mark in text, mark
    assert "«" not in text and "source:" in text and "↵" in text
    uncolored = Console(file=io.StringIO(), force_terminal=True, color_system="standard", no_color=True)
    assert tokens.colorless(uncolored) and not tokens.colorless(console)


def test_neighbors_with_the_same_note_share_it_but_two_spans_do_not() -> None:
    found = [Piece("a", note="O"), Piece(" b", note="O"), Piece(" c", note="B-X"), Piece(" d", note="B-X"), Piece(" e", note="I-X")]
    assert tokens.signed(found).plain == "a b·O c·B-X d·B-X e·I-X"
