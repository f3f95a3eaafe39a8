"""Strata and quotas: what every epoch holds, what all epochs together hold, and that both depend on (seed, epoch) alone."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.core.errors import DataError
from burnish.engine.batches import Order
from burnish.engine.sampling import BALANCED, Strata, balanced, mixed, shared

few = settings(max_examples=50, deadline=None)


@st.composite
def strata(draw: st.DrawFn) -> Strata:
    """Examples in any order, any quotas."""
    sizes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=5))
    quotas = draw(st.lists(st.integers(1, 50), min_size=len(sizes), max_size=len(sizes)))
    places = np.random.default_rng(draw(st.integers(0, 9))).permutation(sum(sizes))
    members = np.split(places, np.cumsum(sizes)[:-1])
    return Strata([str(number) for number in range(len(sizes))], members, quotas, draw(st.integers(0, 2**31)))


def order_of(found: Strata, batch_size: int) -> Order:
    return Order(found.size, batch_size, found.seed, found.draw)


def epoch(order: Order, number: int) -> list[int]:
    steps = range(number * order.steps_per_epoch, (number + 1) * order.steps_per_epoch)
    return [index for step in steps for index in order.batch(step)]


# Epochs


@few
@given(strata(), st.integers(1, 40), st.integers(0, 30))
def test_every_epoch_holds_exactly_its_quotas(found: Strata, batch_size: int, number: int) -> None:
    drawn = epoch(order_of(found, batch_size), number)
    for members, quota in zip(found.members, found.quotas, strict=True):
        assert sum(index in members for index in drawn) == quota
    assert len(drawn) == found.size


@few
@given(strata(), st.integers(1, 8))
def test_after_any_number_of_epochs_all_of_a_stratum_were_seen_alike(found: Strata, epochs: int) -> None:
    seen = Counter(index for number in range(epochs) for index in found.draw(number).tolist())
    for members, quota in zip(found.members, found.quotas, strict=True):
        counts = [seen[index] for index in members.tolist()]
        assert max(counts) - min(counts) <= 1 and sum(counts) == epochs * quota


@few
@given(strata(), st.integers(0, 30))
def test_an_epoch_holds_each_of_a_stratum_equally_often_or_once_more(found: Strata, number: int) -> None:
    seen = Counter(found.draw(number).tolist())
    for members, quota in zip(found.members, found.quotas, strict=True):
        assert {seen[index] for index in members.tolist()} <= {quota // len(members), -(-quota // len(members))}


@few
@given(strata(), st.integers(1, 40), st.integers(0, 60))
def test_a_step_is_the_same_wherever_a_run_goes_on(found: Strata, batch_size: int, step: int) -> None:
    """No state: a new order, asked for this step first, gives what one that was asked for all before it gives."""
    walked = order_of(found, batch_size)
    before = [walked.batch(number) for number in range(step + 1)]
    assert order_of(found, batch_size).batch(step) == before[step]


@given(strata(), st.integers(1, 40))
@few
def test_batches_differ_in_size_only_at_the_end_of_an_epoch(found: Strata, batch_size: int) -> None:
    order = order_of(found, batch_size)
    sizes = [len(order.batch(step)) for step in range(order.steps_per_epoch)]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1) and 0 < sizes[-1] <= batch_size


def test_epochs_and_seeds_differ() -> None:
    def drawn(seed: int, number: int) -> list[int]:
        return epoch(order_of(balanced(["a"] * 50 + ["b"] * 20, "undersample", seed), 8), number)

    runs = [tuple(drawn(seed, number)) for seed in (0, 1) for number in (0, 1)]
    assert len(set(runs)) == 4
    assert len({frozenset(index for index in run if index < 50) for run in runs}) == 4, "other rows, not only another order"


def test_times_are_how_often_an_epoch_holds_an_example() -> None:
    found = balanced(["rare"] + ["frequent"] * 4, "oversample", 0)
    assert dict(zip(found.names, found.times, strict=True)) == {"rare": 4.0, "frequent": 1.0}
    assert found.frequencies.tolist() == [4.0, 1.0, 1.0, 1.0, 1.0]


# Balance

counts_ = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 30), min_size=1)


def labels_of(counts: dict[str, int]) -> list[str]:
    labels = [label for label, number in counts.items() for _ in range(number)]
    return [labels[place] for place in np.random.default_rng(3).permutation(len(labels))]


@few
@given(counts_)
def test_quotas_of_each_way_to_balance(counts: dict[str, int]) -> None:
    labels, number = labels_of(counts), len(counts)
    assert balanced(labels, "oversample", 0).quotas == [max(counts.values())] * number
    assert balanced(labels, "undersample", 0).quotas == [min(counts.values())] * number
    level = balanced(labels, "batches", 0).quotas
    assert sum(level) == len(labels) and max(level) - min(level) <= 1


@few
@given(counts_, st.integers(0, 5))
def test_oversampling_leaves_nothing_out_and_undersampling_sees_all_in_time(counts: dict[str, int], number: int) -> None:
    labels = labels_of(counts)
    assert set(balanced(labels, "oversample", 0).draw(number).tolist()) == set(range(len(labels)))
    under = balanced(labels, "undersample", 0)
    needed = -(-max(counts.values()) // min(counts.values()))
    seen = {index for epoch_number in range(needed) for index in under.draw(epoch_number).tolist()}
    assert seen == set(range(len(labels)))


@few
@given(counts_, st.integers(1, 40), st.integers(0, 5))
def test_every_batch_holds_the_labels_as_evenly_as_can_be(counts: dict[str, int], batch_size: int, number: int) -> None:
    labels = labels_of(counts)
    found = balanced(labels, "batches", 7)
    order = Order(found.size, batch_size, 7, found.draw, found.alternate)
    for step in range(order.steps_per_epoch):
        held = Counter(labels[index] for index in order.batch(number * order.steps_per_epoch + step))
        numbers = [held[label] for label in counts]
        assert max(numbers) - min(numbers) <= 1


def test_no_label_always_has_the_odd_place() -> None:
    found = balanced(["a"] * 9 + ["b"] * 9 + ["c"] * 9, "batches", 0)
    order = Order(found.size, 4, 0, found.draw, found.alternate)
    odd = {Counter("abc"[index // 9] for index in order.batch(step)).most_common(1)[0][0] for step in range(0, 70, 7)}
    assert odd == {"a", "b", "c"}


def test_the_ways_to_balance_are_those_of_the_recipe() -> None:
    from burnish.data.spec import Data

    for how in BALANCED:
        assert Data(train="x.csv", balance=how).balance == how  # type: ignore[arg-type]


# Mixtures


@few
@given(st.integers(0, 500), st.lists(st.integers(1, 99), min_size=1, max_size=6))
def test_shares_are_whole_and_off_by_less_than_one(total: int, weights: list[int]) -> None:
    parts = shared(total, [float(weight) for weight in weights])
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(Fraction(part) - Fraction(total * weight, sum(weights))) < 1


@few
@given(st.lists(st.integers(1, 30), min_size=2, max_size=4), st.data())
def test_a_mixture_has_the_proportions_of_its_weights(sizes: list[int], data: st.DataObject) -> None:
    names = "abcd"[: len(sizes)]
    weights = {name: float(data.draw(st.integers(1, 5))) for name in names}
    sources = labels_of(dict(zip(names, sizes, strict=True)))
    found = mixed(sources, weights, 60, 0)
    drawn = Counter(sources[index] for index in itertools.chain(found.draw(0).tolist(), found.draw(1).tolist()))
    for name, weight in weights.items():
        assert abs(drawn[name] / 2 - 60 * weight / sum(weights.values())) < 1


def test_a_mixture_of_equal_weights_by_rows_holds_each_row_once() -> None:
    found = mixed(["a"] * 6 + ["b"] * 3, {"a": 2.0, "b": 1.0}, 9, 5)
    assert sorted(found.draw(4).tolist()) == list(range(9))


def test_sources_of_which_nothing_comes_are_refused() -> None:
    with pytest.raises(DataError, match="no row of b is left"):
        mixed(["a", "a"], {"a": 1.0, "b": 1.0}, 2, 0)
    with pytest.raises(DataError, match=r"weight of 0\.1 not one of 4 rows an epoch is of b"):
        mixed(["a", "a", "a", "b"], {"a": 9.0, "b": 0.1}, 4, 0)
