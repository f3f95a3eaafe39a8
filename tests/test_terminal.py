import io

import pytest
from rich.console import Console

from burnish.engine.events import Began, Evaluated, Noted, Stepped
from burnish.terminal import Display, Smoothed, clock, evaluation_tables, megabytes, number, prediction_table

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
            assert sign in display.line(stepped(2, 2.0))
    assert "step 1" in stream.getvalue() or terminal


def test_the_first_step_of_a_resumed_run_says_nothing_of_the_speed() -> None:
    console, _ = screen()
    display = Display(console)
    display(stepped(7, 900.0))
    assert display.speed.value == 0.0
    display(stepped(8, 902.0))
    assert display.speed.value == pytest.approx(150.0)


def test_evaluations_and_notes_are_lines_and_brackets_stay_text() -> None:
    console, stream = screen()
    display = Display(console)
    display(Evaluated(20, 1.0, "validation", {"loss": 0.5, "accuracy": 0.91}, 1.0, True))
    display(Noted("label [bold]x[/] kept"))
    assert "validation after step 20, epoch 1.00:  loss 0.5000  accuracy 0.9100  best so far" in stream.getvalue()
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
