"""How much each class counts: formulas by hand and by scikit-learn, and a mean of 1 over training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight

from burnish.core.errors import DataError
from burnish.losses.classes import balanced, effective, weights
from burnish.losses.spec import CrossEntropy, Focal

LABELS = ["a", "b", "c"]
COUNTS = np.array([90.0, 9.0, 1.0])


def test_balanced_is_that_of_sklearn() -> None:
    rows = np.repeat(np.arange(3), COUNTS.astype(int))
    np.testing.assert_allclose(balanced(COUNTS), compute_class_weight("balanced", classes=np.arange(3), y=rows))


def test_effective_is_the_formula_of_the_paper() -> None:
    np.testing.assert_allclose(effective(COUNTS, 0.99), [(1 - 0.99) / (1 - 0.99**n) for n in (90, 9, 1)])
    assert effective(COUNTS, 0.0).tolist() == [1, 1, 1]
    near_one = effective(COUNTS, 1 - 1e-9)
    np.testing.assert_allclose(near_one / near_one[2], balanced(COUNTS) / balanced(COUNTS)[2], rtol=1e-5)


@given(
    arrays.arrays(np.int64, st.integers(1, 6), elements=st.integers(0, 1000)).filter(lambda counts: counts.sum() > 0),
    st.sampled_from(["balanced", "effective", "mapping"]),
    st.floats(0, 0.9999),
)
def test_the_mean_over_training_is_one(counts: np.ndarray, weighing: str, beta: float) -> None:
    labels = [str(number) for number in range(len(counts))]
    how: Any = {"0": 7.0} if weighing == "mapping" else weighing
    found = weights(how, beta, labels, counts.astype(float))
    assert (found > 0).all() and np.isfinite(found).all()
    assert (found * counts).sum() == pytest.approx(counts.sum())


def test_numbers_given_keep_their_proportions() -> None:
    found = weights({"c": 10.0, "a": 2.0}, None, LABELS, COUNTS)
    np.testing.assert_allclose(found / found[1], [2, 1, 10])


def test_effective_takes_its_beta() -> None:
    usual, other = (weights("effective", beta, LABELS, COUNTS) for beta in (None, 0.9))
    np.testing.assert_allclose(usual, weights("effective", 0.999, LABELS, COUNTS))
    assert usual[2] / usual[0] > other[2] / other[0] > 1


def test_an_unknown_label_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no label `praize` - did you mean `praise`\? \(known: complaint, praise\)"):
        weights({"praize": 1.0}, None, ["complaint", "praise"], np.array([1.0, 1.0]))


def test_labels_are_text_as_in_rows() -> None:
    """YAML reads numbers and booleans where people write labels."""
    for written, label in ((0, "0"), (2.0, "2"), (2.5, "2.5"), (True, "true"), ("B-PER", "B-PER")):
        assert CrossEntropy.model_validate({"class_weights": {written: 3}}).class_weights == {label: 3.0}


@pytest.mark.parametrize("value", ["balance", {}, {"a": 0}, {"a": -1}, {"a": "x"}, {"a": True}, {"a": float("nan")}, 3, ["a"]])
@pytest.mark.parametrize("spec", [CrossEntropy, Focal])
def test_what_is_no_weighing(spec: type[CrossEntropy] | type[Focal], value: Any) -> None:
    with pytest.raises(ValidationError, match=r"write balanced, effective, or a number|has to be a number over 0"):
        spec.model_validate({"class_weights": value})


@pytest.mark.parametrize("spec", [CrossEntropy, Focal])
def test_beta_is_for_effective_weights(spec: type[CrossEntropy] | type[Focal]) -> None:
    assert spec.model_validate({"class_weights": "effective", "beta": 0.9}).beta == 0.9
    for given_ in ({"beta": 0.9}, {"class_weights": "balanced", "beta": 0.9}):
        with pytest.raises(ValidationError, match="`beta` belongs to class_weights=effective"):
            spec.model_validate(given_)
