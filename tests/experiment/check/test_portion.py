"""`burnish check` of many and long rows looks at a sample, says so, and counts all of them where that is quick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from burnish.experiment.check import portion, subject
from burnish.experiment.check.subject import level

pytestmark = pytest.mark.usefixtures("quick")


def labelled(texts: list[str]) -> list[dict[str, Any]]:
    return [{"text": text, "label": ("praise", "complaint")[number % 2]} for number, text in enumerate(texts)]


def test_long_parts_are_sampled_and_that_is_said(
    plant: Callable[..., Any], check: Callable[..., Any], texts: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portion, "CHARACTERS", 8000)
    train = labelled(texts(800))
    train[7]["label"] = train[9]["label"] = "question"
    done = check(plant(train), "--hoped", "20")
    measured = done.line("encoding")["measured"]["shares"]
    assert measured["train"] == pytest.approx(8000 / sum(len(row["text"] + row["label"]) for row in train), rel=0.05)
    assert measured["validation"] == 1 and "a sample: " in done.line("encoding")["seen"] and "of 800 train rows" in done.out
    assert done.line("label balance")["measured"]["labels"]["question"] == 2, "labels are counted in all rows"
    assert done.line("repeated rows")["measured"]["rows"] == 800
    assert done.line("warm-up and steps")["seen"].startswith("about ")
    assert done.line("warm-up and steps")["measured"]["steps"] == pytest.approx(12 * 800 / 16, rel=0.1)


def test_of_long_texts_the_beginnings_are_compared(
    plant: Callable[..., Any], check: Callable[..., Any], texts: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "COMPARED", 4000)
    train = labelled(texts(60))
    train[30]["text"] = train[4]["text"] + " " + " ".join(texts(40, seed=5))
    done = check(plant(train))
    assert "of long texts the first" in done.line("repeated rows")["seen"] and done.line("repeated rows")["measured"]["near"] == 1


def test_a_sample_is_the_same_each_time_and_holds_enough() -> None:
    lengths = np.full(1000, 50)
    drawn = portion.drawn(lengths, 10_000)
    assert len(drawn) == 200 and (np.diff(drawn) > 0).all() and np.array_equal(drawn, portion.drawn(lengths, 10_000))
    assert len(portion.drawn(np.full(100, 10**6), 10)) == portion.FEWEST
    assert len(portion.drawn(np.full(100, 10), 1000)) == 100


@pytest.mark.parametrize(("lengths", "budget", "wanted"), [([10, 10, 10], 15, 5), ([1, 2, 30], 13, 10), ([4, 4, 100], 1000, 100)])
def test_the_length_to_which_texts_are_cut_keeps_a_budget(lengths: list[int], budget: int, wanted: int) -> None:
    found = level(np.array(lengths), budget)
    assert found == wanted and sum(min(length, found) for length in lengths) <= budget
