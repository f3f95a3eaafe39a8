"""Durations: what is read, what is refused, how many steps they are, when a multiple of them ends."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from burnish.core.duration import SECONDS, UNITS, Duration, TrainingLength, WarmupLength

TRAINING, WARMUP = TypeAdapter(TrainingLength), TypeAdapter(WarmupLength)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("3ep", 3, "ep"),
        ("0.5ep", 0.5, "ep"),
        (" 500 st ", 500, "st"),
        ("20m", 20, "m"),
        ("1.5h", 1.5, "h"),
        ("90s", 90, "s"),
        ("6%", 6, "%"),
    ],
)
def test_parse(text: str, value: float, unit: str) -> None:
    assert Duration.parse(text) == Duration(value, unit)


@pytest.mark.parametrize("text", ["", "3", "ep", "-1ep", "3 epochs", "3EP", "1e3st", "3ep2", "nan st", "٣ep x", "3.ep", ".5ep"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="3ep, 500st, 20m or 6%"):
        Duration.parse(text)


@given(st.integers(1, 10**12) | st.integers(1, 9999).map(lambda number: number / 100), st.sampled_from(sorted(UNITS)))
def test_what_is_written_is_read_again(value: float, unit: str) -> None:
    duration = Duration(float(value), unit)
    assert Duration.parse(str(duration)) == duration


def test_steps() -> None:
    assert Duration.parse("3ep").steps(steps_per_epoch=7) == 21
    assert Duration.parse("0.5ep").steps(steps_per_epoch=7) == 4
    assert Duration.parse("250st").steps() == 250
    assert Duration.parse("6%").steps(total=1000) == 60
    assert Duration.parse("6%").steps(total=1001) == 61
    assert Duration.parse("0%").steps(total=1000) == 0
    with pytest.raises(ValueError, match="20m is a time"):
        Duration.parse("20m").steps(100, 100)


@given(st.integers(1, 400), st.integers(1, 100_000))
def test_steps_are_exact_and_rounded_up(hundredths: int, steps_per_epoch: int) -> None:
    """0.07 epochs of 100 steps are 7 steps, although 0.07 * 100 > 7 in floating point."""
    exact = math.ceil(Fraction(hundredths * steps_per_epoch, 100))
    assert Duration(hundredths / 100, "ep").steps(steps_per_epoch) == exact
    assert Duration(float(hundredths), "%").steps(total=steps_per_epoch) == exact


def test_seconds() -> None:
    assert {unit: Duration(2, unit).seconds for unit in SECONDS} == {"s": 2, "m": 120, "h": 7200}
    assert [unit for unit in UNITS if Duration(1, unit).timed] == ["s", "m", "h"]


@given(st.integers(1, 60), st.integers(1, 40))
def test_crossed_whole_lengths(length: int, steps_per_epoch: int) -> None:
    assert [step for step in range(200) if Duration(length, "st").crossed(step, 0)] == list(range(length, 200, length))
    size = length * steps_per_epoch
    assert [step for step in range(200) if Duration(length, "ep").crossed(step, steps_per_epoch)] == list(range(size, 200, size))


@given(st.integers(1, 300), st.integers(1, 50))
def test_crossed_parts_of_an_epoch_once_for_each_multiple(hundredths: int, steps_per_epoch: int) -> None:
    """A multiple that ends within a step counts at that step's end; several within one step count once."""
    length = Fraction(hundredths * steps_per_epoch, 100)
    ends = {math.ceil(number * length) for number in range(1, math.floor(100 / length) + 1)}
    assert {step for step in range(101) if Duration(hundredths / 100, "ep").crossed(step, steps_per_epoch)} == ends


@pytest.mark.parametrize("value", ["3ep", "500st", "20m", "2h", "90s"])
def test_training_lengths(value: str) -> None:
    assert TRAINING.dump_python(TRAINING.validate_python(value), mode="json") == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "a number with its unit"),
        ("3", "a number with its unit"),
        (True, "a number with its unit"),
        (None, "a number with its unit"),
        ([3], "a number with its unit"),
        ("10%", "percent do not serve here"),
        ("0ep", "greater than 0"),
        ("-3ep", "a number with its unit"),
    ],
)
def test_faulty_training_lengths(value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TRAINING.validate_python(value)


def test_warmup_takes_bare_steps_and_zero() -> None:
    assert WARMUP.validate_python(100) == WARMUP.validate_python("100") == Duration(100, "st")
    assert WARMUP.validate_python("6%") == Duration(6, "%")
    assert WARMUP.validate_python(0) == Duration(0, "st")
    for wrong, words in [("1ep", "epochs do not serve"), (-1, "must not be negative"), (False, "a number with its unit"), ("101%", "100%")]:
        with pytest.raises(ValidationError, match=words):
            WARMUP.validate_python(wrong)


def test_json_schema_accepts_what_validation_accepts() -> None:
    assert TRAINING.json_schema()["type"] == "string"
    assert {"type": "integer", "minimum": 0} in WARMUP.json_schema()["anyOf"]
