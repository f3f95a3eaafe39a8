"""Orders of an epoch: what they sort by, what they leave to the shuffle, and that nothing is lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import trainer_pt_utils

from burnish.core.errors import DataError
from burnish.core.protocols import Row
from burnish.data.order import Curriculum, Length, Random


def examples(lengths: list[int], owners: list[int] | None = None) -> Any:
    return SimpleNamespace(lengths=np.array(lengths), rows=np.arange(len(lengths)) if owners is None else np.array(owners))


def rows(column: str, values: list[Any]) -> list[Row]:
    return [Row({column: value}, "rows.csv", number, number + 1) for number, value in enumerate(values, start=1)]


def test_random_leaves_the_shuffle() -> None:
    assert Random().arrange(examples([3, 1, 2]), [], 2) is None


@given(st.lists(st.integers(1, 99), min_size=1, max_size=120), st.integers(1, 9))
def test_orders_lose_nothing(lengths: list[int], batch_size: int) -> None:
    drawn = np.random.default_rng(1).integers(0, len(lengths), size=2 * len(lengths))  # with repeats, as strata draw
    for order in (Length(), Curriculum()):
        arrange = order.arrange(examples(lengths), [], batch_size)
        assert arrange is not None
        assert sorted(arrange(drawn, 0).tolist()) == sorted(drawn.tolist())


def test_length_is_group_by_length_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the very longest example, which theirs puts first."""
    lengths = np.random.default_rng(0).integers(1, 60, size=500).tolist()
    shuffle = np.random.default_rng(5).permutation(500)
    monkeypatch.setattr(torch, "randperm", lambda size, generator=None: torch.from_numpy(shuffle))
    theirs = trainer_pt_utils.get_length_grouped_indices(lengths, 4)
    arrange = Length().arrange(examples(lengths), [], 4)
    assert arrange is not None
    ours = arrange(shuffle, 0)
    different = [place for place in range(500) if lengths[ours[place]] != lengths[theirs[place]]]
    assert set(different) <= {0, 200, 400} and len(set(ours[:200].tolist()) ^ set(theirs[:200])) <= 2


def test_length_sorts_within_stretches_only() -> None:
    lengths = list(range(1, 81))
    arrange = Length().arrange(examples(lengths), [], 2)
    assert arrange is not None
    found = arrange(np.random.default_rng(2).permutation(80), 3)
    stretches = found.reshape(4, 20)  # 80 examples are 40 batches of 2: stretches of 10 batches
    assert all((np.diff(stretch) < 0).all() for stretch in stretches)
    assert not (np.diff(found) < 0).all()


def test_a_curriculum_sorts_its_first_epochs_and_shuffles_what_is_equal() -> None:
    given_ = rows("level", [3, "1", 2.0, 1, 1])
    arrange = Curriculum(by="level", epochs=2).arrange(examples([9] * 5), given_, 2)
    assert arrange is not None
    drawn = np.array([4, 0, 1, 2, 3])
    assert arrange(drawn, 0).tolist() == [4, 1, 3, 2, 0], "equal ones in the order of the shuffle"
    assert arrange(drawn, 1).tolist() == arrange(drawn, 0).tolist()
    assert arrange(drawn, 2).tolist() == drawn.tolist()


def test_a_curriculum_by_length_and_windows_of_a_row() -> None:
    by_length = Curriculum().arrange(examples([5, 2, 9]), [], 2)
    by_column = Curriculum(by="level").arrange(examples([5, 2, 9], [1, 0, 1]), rows("level", [7, 3]), 2)
    assert by_length is not None and by_column is not None
    drawn = np.array([0, 1, 2])
    assert by_length(drawn, 0).tolist() == [1, 0, 2]
    assert by_column(drawn, 0).tolist() == [0, 2, 1], "each window is as hard as its row"


@pytest.mark.parametrize("value", [None, "", "hard", float("nan"), float("inf"), True, [1]])
def test_what_is_no_number_is_named(value: Any) -> None:
    with pytest.raises(DataError, match=r"numbers are expected in `level`.*\n.*rows\.csv row 2 \(line 3\): `level` holds"):
        Curriculum(by="level").arrange(examples([1, 1]), rows("level", [1, value]), 2)


def test_the_columns_that_an_order_reads() -> None:
    assert [order.columns for order in (Random(), Length(), Curriculum(), Curriculum(by="level"))] == [[], [], [], ["level"]]
