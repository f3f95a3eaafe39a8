"""How a batch is cut: a partition, within the budget, of like lengths, for any lengths and any budget."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from burnish.engine.batches import Budget, MicroBatchSize, micro_batches, positions

lengths_ = st.lists(st.integers(1, 300), min_size=1, max_size=60)
budgets = st.builds(Budget, st.integers(1, 2000), st.sampled_from(["tok", "ex"]))


def cost(lengths: list[int], group: list[int]) -> int:
    return len(group) * max(lengths[position] for position in group)


@given(lengths_, budgets)
def test_micro_batches_are_a_partition(lengths: list[int], budget: Budget) -> None:
    groups = micro_batches(lengths, budget)
    assert all(groups)
    assert sorted(position for group in groups for position in group) == list(range(len(lengths)))


@given(lengths_, budgets)
def test_micro_batches_keep_the_budget_unless_single(lengths: list[int], budget: Budget) -> None:
    for group in micro_batches(lengths, budget):
        assert len(group) == 1 or (len(group) if budget.unit == "ex" else cost(lengths, group)) <= budget.size


@given(lengths_, budgets)
def test_micro_batches_are_sorted_longest_first(lengths: list[int], budget: Budget) -> None:
    flat = [position for group in micro_batches(lengths, budget) for position in group]
    keys = [(-lengths[position], position) for position in flat]
    assert keys == sorted(keys)


@given(lengths_, budgets)
def test_micro_batches_are_full(lengths: list[int], budget: Budget) -> None:
    """The first example of a group would not have fitted into the group before."""
    groups = micro_batches(lengths, budget)
    for before, after in itertools.pairwise(groups):
        assert not budget.fits(len(before) + 1, lengths[before[0]]) and lengths[after[0]] <= lengths[before[-1]]


@given(lengths_, budgets)
def test_halving_shrinks_the_largest_micro_batch_until_it_is_one_example(lengths: list[int], budget: Budget) -> None:
    for _ in range(64):
        groups = micro_batches(lengths, budget)
        largest = max(cost(lengths, group) for group in groups)
        smaller = budget.halved(lengths)
        if smaller is None:
            assert any(len(group) == 1 and cost(lengths, group) == largest for group in groups)
            return
        assert smaller.unit == budget.unit
        after = micro_batches(lengths, smaller)
        assert all(len(group) == 1 or cost(lengths, group) < largest for group in after)
        budget = smaller
    raise AssertionError("halving never came to an end")


def test_halved_takes_half_of_what_was_really_used() -> None:
    assert Budget(4096).halved([10] * 8) == Budget(40)
    assert Budget(64, "ex").halved([5] * 8) == Budget(4, "ex")
    assert Budget(30).halved([10, 10, 10]) == Budget(10)
    assert Budget(5).halved([10, 10]) is None
    assert Budget(1, "ex").halved([3]) is None


@given(budgets)
def test_a_budget_is_read_as_it_is_written(budget: Budget) -> None:
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("written", "budget"),
    [("auto", None), (8, Budget(8, "ex")), ("8", Budget(8, "ex")), ("4096tok", Budget(4096)), ("4_096tok", Budget(4096))],
)
def test_a_recipe_says_auto_examples_or_positions(written: Any, budget: Budget | None) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(MicroBatchSize)
    assert adapter.validate_python(written) == budget
    assert adapter.validate_python(adapter.dump_python(budget)) == budget


@pytest.mark.parametrize("written", [0, -1, "0tok", "many", True, 1.5, "8 tok ex"])
def test_other_micro_batches_are_refused(written: Any) -> None:
    with pytest.raises(ValidationError, match="4096tok"):
        TypeAdapter(MicroBatchSize).validate_python(written)


def test_positions_are_what_the_micro_batches_take() -> None:
    assert positions([10, 2, 9, 1], Budget(100)) == 40  # one group, as wide as the longest
    assert positions([10, 2, 9, 1], Budget(20)) == 2 * 10 + 2 * 2
    assert positions([10, 2, 9, 1], Budget(1, "ex")) == 22
