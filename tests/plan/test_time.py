"""From rates and counted work to the seconds of a run."""

from __future__ import annotations

import pytest

from burnish.plan.time import Counted, Rates, Texts, compared, forecast, rounds

RATES = Rates(operation=1e-9, update=0.5, reading=1e-9, scoring=0.01, round=0.1, token=0.01, prompt=0.02, byte=1e-6, moments=2.0)


def test_a_run_is_the_sum_of_its_parts() -> None:
    counted = Counted(
        1e9, steps=10, steps_per_epoch=5, reading=2e9, rows=100, evaluations=2, learning=10**6, model=10**6, saves=3, test=2.0
    )
    found = forecast(counted, RATES, {"loading": 4.0}, "so")
    assert found.step == pytest.approx(1.5)
    assert found.epoch == pytest.approx(7.5)
    assert found.seconds == pytest.approx({"loading": 4.0, "steps": 15.0, "evaluation": 2 * 3.0, "saving": 3 * 3.0 + 1.0, "test": 6.0})
    assert found.total == pytest.approx(41.0)


def test_a_run_limited_by_time_has_the_steps_that_fit_into_it() -> None:
    found = forecast(Counted(1e9, steps=None, steps_per_epoch=5, limit=31.0), RATES, {}, "so")
    assert found.steps == 20


def test_texts_are_written_in_rounds_and_those_that_wait_take_the_places_of_those_that_end() -> None:
    assert rounds(Texts([5], room=8)) == 5
    assert rounds(Texts([5, 1, 1, 1, 1, 1], room=2)) == 5
    assert rounds(Texts([4] * 6, room=2)) == 12
    counted = Counted(1e9, steps=1, steps_per_epoch=1, evaluations=1, texts=Texts([4, 4], room=2))
    assert forecast(counted, RATES, {}, "so").evaluation == pytest.approx(4 * 0.1 + 8 * 0.01 + 2 * 0.02)


def test_what_scoring_loads_falls_on_the_first_evaluation() -> None:
    counted = Counted(1e9, steps=1, steps_per_epoch=1, reading=1e9, evaluations=2)
    assert forecast(counted, RATES, {"first": 3.0}, "so").seconds["evaluation"] == pytest.approx(5.0)


def test_only_parts_that_both_know_are_compared() -> None:
    told = {"seconds": {"start": 3.0, "steps": 10.0, "report": 2.0}, "peak_memory": 90}
    found = compared(told, {"steps": 8.0, "evaluation": 5.0, "start": 0.0}, 100)
    assert found["seconds"].keys() == {"start", "steps"}
    assert found["total"]["ratio"] == pytest.approx(13 / 8)
    assert found["memory"]["ratio"] == pytest.approx(0.9)
