"""Masks by hash: the written formula on every path, any row by itself, and a distribution that no test tells from a generator's."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from burnish.models.fast import masks
from burnish.models.fast.layout import Rows
from burnish.models.fast.masks import attention_kept, head_keys, kept, masked, row_keys, scale

KEY = (7, 3)
ALL = (1 << 64) - 1
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def rows_of(slots: int, positions: int) -> Rows:
    return Rows(torch.arange(slots).repeat_interleave(positions), torch.arange(positions).repeat(slots))


def splitmix(number: int) -> int:
    number = ((number ^ (number >> 30)) * FIRST) & ALL
    number = ((number ^ (number >> 27)) * SECOND) & ALL
    return number ^ (number >> 31)


def lane(slot: int, position: int, feature: int, place: int) -> int:
    """One lane of one row, in plain integers."""
    state = 0
    for value in (*KEY, place):
        state = splitmix(((state ^ value) + GAMMA) & ALL)
    key = splitmix((state + (slot << 32) + position) & ALL) | 1
    word = (key * (splitmix(((feature // 4 + 1) * GAMMA) & ALL) | 1)) & ALL
    word = ((word ^ (word >> 32)) * SECOND) & ALL
    lane = (word >> 16 * (feature % 4)) & 0xFFFF
    return lane - (lane >> 15 << 16)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_mask_is_the_formula_whichever_way_it_is_computed(p: float) -> None:
    keys = row_keys(rows_of(3, 5), 2, KEY)
    wanted = [[lane(slot, at, j, 2) >= round(p * 65536) - 32768 for j in range(11)] for slot in range(3) for at in range(5)]
    assert kept(keys, 11, p).tolist() == wanted
    assert masks.kept_by_torch(keys, 11, masks.level(p)).tolist() == wanted


@pytest.mark.parametrize(("rows", "features"), [(1, 1), (7, 3), (300, 28), (1000, 130), (70, 6200), (3, 0), (0, 8)])
def test_numpy_and_torch_give_the_same_bits(rows: int, features: int) -> None:
    numbers = torch.randint(-(2**63), 2**63 - 1, (rows,), generator=torch.Generator().manual_seed(0))
    keys = masks.mixed_by_torch(numbers)
    assert torch.equal(keys, masks.mixed(numbers.clone()))
    assert torch.equal(masks.kept_by_torch(keys, features, 6554), kept(keys, features, 0.1))


def test_a_row_depends_on_nothing_beside_it_and_a_feature_on_none_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(6, 9)
    whole = kept(row_keys(rows, 4, KEY), 50, 0.3)
    some = torch.tensor([53, 0, 17, 17])
    assert torch.equal(kept(row_keys(rows.taken(some), 4, KEY), 50, 0.3), whole[some])
    assert torch.equal(kept(row_keys(rows, 4, KEY), 21, 0.3), whole[:, :21])
    monkeypatch.setattr(masks, "CHUNK", 40)
    assert torch.equal(kept(row_keys(rows, 4, KEY), 50, 0.3), whole)


def test_seed_step_place_slot_position_and_visit_all_matter() -> None:
    def drawn(slot: int, position: int, place: int, key: tuple[int, ...]) -> torch.Tensor:
        return kept(row_keys(Rows(torch.tensor([slot]), torch.tensor([position])), place, key), 64, 0.5)

    cases = [
        (0, 0, 0, (0, 0)),
        (1, 0, 0, (0, 0)),
        (0, 1, 0, (0, 0)),
        (0, 0, 1, (0, 0)),
        (0, 0, 0, (1, 0)),
        (0, 0, 0, (0, 1)),
        (0, 0, 0, (0, 0, 1)),
    ]
    found = {tuple(drawn(*case)[0].tolist()) for case in cases}
    assert len(found) == len(cases)
    assert torch.equal(drawn(*cases[0]), drawn(*cases[0]))
    assert not torch.equal(drawn(0, 0, 0, (-1, 0)), drawn(0, 0, 0, (2**63, 0)))  # any seed that Python can hold


def test_every_lane_is_equally_likely() -> None:
    """Pearson's chi-square over all 2^16 values, for each of a word's four lanes: within 4.5 deviations of what chance gives."""
    for number in range(4):
        counts = np.zeros(65536, dtype=np.int64)
        for step in range(8):
            found = masks.lanes(row_keys(rows_of(32, 50), 5, (0, step)).numpy().view(np.uint64), 1536)[:, number::4]
            counts += np.bincount(found.ravel().astype(np.int64) + 32768, minlength=65536)
        expected = counts.sum() / 65536
        square = ((counts - expected) ** 2 / expected).sum()
        assert abs(square - 65535) / math.sqrt(2 * 65535) < 4.5


def standardized(keys: torch.Tensor, features: int, p: float) -> np.ndarray:
    """(n, F) of mean 0 and variance 1, if dropped with the probability that is said."""
    share = 1 - 1 / scale(p)
    return ((~kept(keys, features, p)).numpy().astype(np.float32) - share) / math.sqrt(share * (1 - share))


@pytest.mark.parametrize("p", [0.02, 0.1, 0.5])
def test_mean_and_variance_are_those_of_independent_draws(p: float) -> None:
    found = standardized(row_keys(rows_of(40, 50), 5, KEY), 512, p)
    assert abs(found.mean()) * math.sqrt(found.size) < 4.5
    for axis in (0, 1):  # sums of columns and of rows are as scattered as they should be
        sums = found.sum(axis=axis) / math.sqrt(found.shape[axis])
        assert abs(sums.var() - 1) < 4.5 * math.sqrt(2 / len(sums))


def neighbours(p: float) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    def drawn(place: int = 5, key: tuple[int, ...] = KEY, slots: int = 20) -> np.ndarray:
        return standardized(row_keys(rows_of(slots, 50), place, key), 512, p)

    found = drawn()
    for apart in (1, 2, 3, 4, 5, 8, 64):
        yield f"columns {apart} apart", found[:, :-apart], found[:, apart:]
    for apart in (1, 2, 16, 50, 100):
        yield f"rows {apart} apart", found[:-apart], found[apart:]
    yield "diagonal", found[:-1, :-4], found[1:, 4:]
    yield "places", found, drawn(place=6)
    yield "steps", found, drawn(key=(7, 4))
    yield "seeds", found, drawn(key=(8, 3))
    yield "visits", found, drawn(key=(7, 3, 1))
    heads = standardized(head_keys(torch.arange(20), torch.arange(50).expand(20, 50), 4, 5, KEY), 128, p)  # (b, H, Q, K)
    yield "heads", heads[:, :-1], heads[:, 1:]
    yield "heads and rows", heads[:, 0].reshape(1000, 128), found[:, :128]


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_nothing_is_correlated(p: float) -> None:
    scores = {name: (one * other).sum() / math.sqrt(one.size) for name, one, other in neighbours(p)}
    assert {name: score for name, score in scores.items() if abs(score) > 4.5} == {}


def test_three_and_four_draws_are_independent_too() -> None:
    """Products over triples of columns, and over the corners of rectangles: keys and constants are multiplied, which must not show."""
    found = standardized(row_keys(rows_of(40, 50), 5, KEY), 512, 0.5)
    triples = found[:, :-2] * found[:, 1:-1] * found[:, 2:]
    corners = found[:-1, :-4] * found[1:, :-4] * found[:-1, 4:] * found[1:, 4:]
    for products in (triples, corners):
        assert abs(products.sum()) / math.sqrt(products.size) < 4.5


def test_no_probability_drops_nothing_and_a_high_one_does_not_drop_all() -> None:
    keys = row_keys(rows_of(40, 50), 5, KEY)
    assert kept(keys, 64, 0.0).all() and scale(0.0) == 1
    many = kept(keys, 512, 0.9999)
    assert many.sum().item() == pytest.approx(many.numel() / scale(0.9999), rel=0.2)
    assert math.isfinite(scale(1 - 1e-9))


def test_what_attention_keeps_does_not_depend_on_padding_or_on_which_queries_ask() -> None:
    slots, positions = torch.tensor([4, 9]), torch.arange(12).expand(2, 12)
    whole = attention_kept(slots, positions, 3, 12, 8, KEY, 0.4)  # (b, H, Q, K)
    assert whole.shape == (2, 3, 12, 12)
    assert torch.equal(attention_kept(slots[1:], positions[1:, :7], 3, 7, 8, KEY, 0.4), whole[1:, :, :7, :7])
    assert torch.equal(attention_kept(slots, torch.tensor([[5], [0]]), 3, 12, 8, KEY, 0.4)[:, :, 0], whole[[0, 1], :, [5, 0]])
    assert not torch.equal(whole[:, 0], whole[:, 1])


def test_the_expectation_is_preserved() -> None:
    x = torch.ones(2000, 512)
    mean = masked(x, kept(row_keys(rows_of(40, 50), 5, KEY), 512, 0.3), scale(0.3)).mean().item()
    assert abs(mean - 1) < 4.5 * math.sqrt(0.3 / 0.7 / x.numel())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_and_gradient_are_multiplied_by_mask_and_scale(dtype: torch.dtype) -> None:
    base = torch.randn(10, 6, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for x in (base, base.t().contiguous().t(), base[:, :1].expand(10, 6)):
        mask = kept(row_keys(rows_of(2, 5), 1, KEY), 6, 0.25)
        x = x.detach().requires_grad_()
        found = masked(x, mask, scale(0.25))
        assert found.dtype == dtype
        torch.testing.assert_close(found, torch.where(mask, x / 0.75, 0))
        (gradient,) = torch.autograd.grad(found.sum(), x)
        torch.testing.assert_close(gradient, torch.where(mask, 1 / 0.75, 0.0).to(dtype))


def test_the_gradient_has_a_gradient() -> None:
    x = torch.randn(10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mask = kept(row_keys(rows_of(2, 5), 1, KEY), 6, 0.25)
    assert torch.autograd.gradgradcheck(lambda x: masked(x, mask, 4 / 3) ** 3, (x,))


def test_backward_keeps_one_byte_for_each_element() -> None:
    held: list[torch.Tensor] = []
    x = torch.randn(10, 6, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.append(tensor) or tensor, lambda tensor: tensor):
        masked(x, kept(row_keys(rows_of(2, 5), 1, KEY), 6, 0.25), 4 / 3)
    assert sum(tensor.nbytes for tensor in held) == 60
