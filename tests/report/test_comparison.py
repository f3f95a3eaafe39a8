"""Before and after training on the page: metrics, the same prompts side by side, and what an unfinished run can show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_runs import EVIL, Page, dump, make_run

from burnish.report import page, samples, wording
from burnish.report.collect import collect
from burnish.report.comparison import comparison
from burnish.report.curves import panels

PROMPT = f"<|user|>\n  {EVIL}\n<|assistant|>"


def sample(
    row: int, answer: str, ended: bool | None, prompt: str = PROMPT, reference: str = "It comes on <i>Tuesday</i>."
) -> dict[str, Any]:
    return {"row": row, "prompt": prompt, "answer": answer, "reference": reference, "ended": ended}


def written(part: str, step: int, found: list[dict[str, Any]], **metrics: float) -> dict[str, Any]:
    section = {"kind": "samples", "title": "Written texts", "samples": found, "note": "a note of this evaluation"}
    return {"part": part, "rows": 64, "step": step, "seconds": 2.5, "metrics": metrics, "sections": [section]}


def add_evaluations(run: Path, *points: tuple[int, str, float]) -> None:
    """Lines of metrics.jsonl: (step, part, perplexity)."""
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        for step, part, perplexity in points:
            metrics = {"loss": perplexity / 100, "perplexity": perplexity}
            stream.write(json.dumps({"kind": "evaluation", "step": step, "epoch": 0.0, "part": part, "metrics": metrics}) + "\n")


BEFORES = [sample(1, "the the  the", False), sample(2, "", False), sample(3, "x" * 3000, None, "y" * 2000 + " and the end")]
AFTERS = [sample(1, "Dear Ada,\n\n  it comes.", True), sample(2, "On Tuesday.", True), sample(9, "no partner", True)]


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "compared")
    dump(run, "evaluations/before.json", written("before", 0, BEFORES, perplexity=812.5, written_ended=0.0))
    dump(run, "evaluations/validation.json", written("validation", 104, AFTERS, perplexity=12.25, written_ended=1.0))
    add_evaluations(run, (0, "validation", 812.5))
    return run


def test_metrics_and_texts_stand_side_by_side_before_the_curves(compared: Path) -> None:
    shown = Page(page.write(compared))
    part = shown.text[shown.text.index("Before and after training") : shown.text.index("Curves Loss")]
    assert "64 validation rows, before the first step and with the weights of step 104" in part
    assert "perplexity 812.5 12.250 −800.2" in part and "written ended 0.000 1.000 +1.000" in part
    assert "Ended by themselves: 0 of 2 before, 2 of 2 after." in part
    assert part.index("broken off") < part.index("the the the") < part.index("ended by itself") < part.index("Dear Ada,")
    assert part.index("Dear Ada,") < part.index("It comes on <i>Tuesday</i>.") < part.index("nothing") < part.index("On Tuesday.")
    assert "xxxx" not in part and "no partner" not in part, "only rows that both have answered"


def test_texts_are_escaped_and_keep_their_white_space(compared: Path) -> None:
    shown = Page(page.write(compared))
    assert "script" not in shown.tags and "<i>Tuesday" not in shown.html
    assert ">Dear Ada,\n\n  it comes.</p>" in shown.html
    assert ">&lt;|user|&gt;\n  &lt;script&gt;" in shown.html
    assert re.search(r"\.passage \{[^}]*white-space: pre-wrap", shown.html)


def test_before_is_no_result_of_its_own_and_no_sample_stands_twice(compared: Path) -> None:
    (compared / "evaluations" / "test.json").unlink()
    shown = Page(page.write(compared))
    assert [result["part"] for result in collect(compared).results] == ["validation"]
    assert 'id="result-1"' in shown.html and 'id="result-2"' not in shown.html
    head = shown.text[: shown.text.index("Worth a look")]
    assert "12.250" in head and "812" not in head
    assert shown.text.count("Dear Ada,") == 1 and shown.text.count("no partner") == 1
    assert shown.text.index("Curves") < shown.text.index("no partner"), "a sample without a partner is a card of its result"


def test_samples_without_before_are_cards(tmp_path: Path) -> None:
    run = make_run(tmp_path / "cards")
    found = [sample(row, f"answer {row}", None) for row in range(1, 71)]
    dump(run, "evaluations/test.json", written("test", 104, found, loss=1.0))
    shown = Page(page.write(run))
    assert "Before and after" not in shown.text and "#before" not in shown.links
    assert shown.tags.count("article") == samples.MOST_SAMPLES and "a note of this evaluation" in shown.text
    assert f"{samples.MOST_SAMPLES - samples.MOST_OPEN} more" in shown.text
    assert "6 more are in the evaluation's JSON file." in shown.text
    assert "ended by itself" not in shown.text and "broken off" not in shown.text


def test_long_texts_are_clipped_with_a_word(compared: Path) -> None:
    dump(compared, "evaluations/validation.json", written("validation", 104, [*AFTERS, {**BEFORES[2], "ended": True}]))
    text = Page(page.write(compared)).text
    assert f"{3000 - samples.MOST_CHARACTERS:,} more characters left out" in text
    assert f"{2012 - samples.MOST_CHARACTERS:,} characters left out … y" in text and "y and the end" in text
    assert samples.clipped("a" * samples.MOST_CHARACTERS) == samples.Passage("a" * samples.MOST_CHARACTERS)


def test_an_unfinished_run_shows_what_it_has(tmp_path: Path) -> None:
    run = make_run(tmp_path / "half", finished=False, steps=10)
    dump(run, "evaluations/before.json", written("before", 0, BEFORES, loss=8.0, perplexity=800.0))
    add_evaluations(run, (0, "validation", 800.0))
    shown = Page(page.write(run))
    assert "64 validation rows, before the first step; nothing has been measured since" in shown.text
    assert "the the the" in shown.text and "perplexity 800.0 – –" in shown.text
    assert "Measured on" not in shown.text, "what was measured before training is no result"
    add_evaluations(run, (10, "validation", 80.0))
    assert "before the first step and so far at step 10" in Page(page.write(run)).text


def test_training_rows_are_compared_where_there_are_no_validation_rows(tmp_path: Path) -> None:
    run = make_run(tmp_path / "seen", finished=False)
    steps = [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"step"' in line[:20]]
    (run / "metrics.jsonl").write_text("\n".join(steps) + "\n")
    dump(run, "evaluations/before.json", written("before", 0, BEFORES, loss=8.0, perplexity=800.0))
    dump(run, "evaluations/seen.json", written("seen", 104, AFTERS, loss=0.5, perplexity=50.0))
    add_evaluations(run, (0, "seen", 800.0))
    shown = Page(page.write(run))
    assert "Measured on 64 training rows, with the weights of step 104." in shown.text
    assert "Training rows 64 training rows" in shown.text and ">Training rows</a>" in shown.html
    assert "64 training rows, before the first step and with the weights of step 104" in shown.text
    loss, *others = panels(collect(run))
    assert loss.lines[-1].points == [(0, 8.0), (104, 0.5)] and loss.lines[-1].apart and loss.lines[-1].name == "training rows"
    assert [panel.title for panel in others] == ["Learning rate", "Gradient norm"], "two points make no curve"


def test_the_curves_begin_at_step_0(compared: Path) -> None:
    add_evaluations(compared, (13, "validation", 40.0), (26, "validation", 20.0), (39, "validation", 15.0))
    perplexity = next(panel for panel in panels(collect(compared)) if panel.title == "Perplexity")
    assert perplexity.lines[0].points == [(0, 812.5), (13, 40.0), (26, 20.0), (39, 15.0)]
    assert perplexity.logarithmic and not perplexity.lines[0].apart
    assert "validation: from 812 at step 0 to 15 at step 39" in perplexity.alt


def test_damaged_evaluations_leave_a_page(compared: Path) -> None:
    odd = {
        "part": "before",
        "metrics": {"loss": None, "x": "y"},
        "sections": [None, {"kind": "samples", "samples": [3, {}, {"row": None}]}],
    }
    dump(compared, "evaluations/before.json", odd)
    dump(compared, "evaluations/validation.json", {**odd, "part": "validation", "metrics": {"loss": 1.0}})
    assert comparison(collect(compared)) is not None
    assert "Before and after training" in Page(page.write(compared)).text


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (wording.change(2.5, 1.25), "−1.250"),
        (wording.change(0.25, 0.5), "+0.250"),
        (wording.change(1, 1), "0.000"),
        (wording.change(None, 1), "–"),
        (wording.rows_of("seen", 1), "1 training row"),
        (wording.rows_of("test", None), "the test part"),
    ],
)
def test_wording_of_changes(told: str, expected: str) -> None:
    assert told == expected
