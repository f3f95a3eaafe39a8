"""Splits: of exact size, by label, a pure function of the seed. And the `data` section that asks for them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from burnish.core.errors import DataError
from burnish.core.protocols import Row
from burnish.data.spec import Data, held_out, share
from burnish.data.split import limited, stratified


@st.composite
def strata_and_size(draw: st.DrawFn) -> tuple[list[str], int]:
    strata = draw(st.lists(st.sampled_from("aabbbcd"), min_size=2, max_size=60))
    return strata, draw(st.integers(1, len(strata) - 1))


@given(strata_and_size(), st.integers(0, 10))
def test_a_split_is_exact_ordered_and_keeps_shares(drawn: tuple[list[str], int], seed: int) -> None:
    strata, size = drawn
    kept, held = stratified(strata, size, seed)
    assert len(held) == size
    assert sorted(kept + held) == list(range(len(strata)))
    assert kept == sorted(kept) and held == sorted(held)
    found = Counter(strata[index] for index in held)
    for stratum, number in Counter(strata).items():
        assert abs(found[stratum] - size * number / len(strata)) < 1
    assert stratified(strata, size, seed) == (kept, held)


def test_another_seed_chooses_other_rows() -> None:
    strata = ["a", "b"] * 100
    chosen = {tuple(stratified(strata, 20, seed)[1]) for seed in range(8)}
    assert len(chosen) == 8


def test_every_row_is_held_out_under_some_seed() -> None:
    """The choice within a stratum is random: no row is out of reach."""
    strata = ["a"] * 5 + ["b"] * 5
    assert {index for seed in range(60) for index in stratified(strata, 4, seed)[1]} == set(range(10))


@pytest.mark.parametrize("size", [0, 4, 5, -1])
def test_a_side_without_rows_is_refused(size: int) -> None:
    with pytest.raises(DataError, match=f"{size} of 4 rows cannot be set aside"):
        stratified(["a"] * 4, size, 0)


def rows(number: int) -> list[Row]:
    return [Row({"text": str(index)}, "a.csv", index + 1) for index in range(number)]


def test_a_limit_takes_a_seeded_sample() -> None:
    given_rows = rows(50)
    assert limited(given_rows, None, 0) == limited(given_rows, 50, 0) == limited(given_rows, 99, 0) == given_rows
    first, second, other = limited(given_rows, 20, 0), limited(given_rows, 20, 0), limited(given_rows, 20, 1)
    assert first == second != other
    assert len({row.number for row in first}) == 20
    assert limited(given_rows, 10, 0) == first[:10]


def test_shares_and_numbers() -> None:
    assert share("10%") == pytest.approx(0.1)
    assert [held_out(part, 55) for part in ("10%", 7, "0.1%", "file.csv", None)] == [6, 7, 1, None, None]


@pytest.mark.parametrize("part", ["10%", "0.5%", 20, "20", "val.csv", "bundled:messages-test", None])
def test_what_a_part_may_be(part: object) -> None:
    assert Data.model_validate({"train": "a.csv", "validation": part}).validation in (part, 20)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("0%", "not between 0% and 100%"),
        ("100%", "not between 0% and 100%"),
        ("-3%", "not between"),
        ("ten%", "not a share"),
        ("nan%", "not between"),
        (0, "at least 1"),
        ("0", "at least 1"),
        (True, "write a file, a share"),
        (0.1, "write a file, a share"),
        ("", "write a file, a share"),
        (["a.csv"], "write a file, a share"),
    ],
)
def test_what_a_part_may_not_be(part: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Data.model_validate({"train": "a.csv", "validation": part})
