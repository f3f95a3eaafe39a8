"""Perplexity and bits per byte, by hand and at the edges."""

from __future__ import annotations

import math

import pytest

from burnish.metrics.language import LANGUAGE, MASKED, bits_per_byte, perplexity


def test_a_uniform_model_is_as_perplexed_as_it_has_choices() -> None:
    assert perplexity(math.log(32000)) == pytest.approx(32000)
    assert perplexity(0.0) == 1.0


def test_perplexity_overflows_to_infinity_and_keeps_nan() -> None:
    assert perplexity(709.0) < math.inf
    assert perplexity(710.0) == perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_bits_per_byte() -> None:
    # Three tokens of two bits each stand for "été", which is five bytes.
    assert bits_per_byte(3 * 2 * math.log(2), len("été".encode())) == pytest.approx(6 / 5)
    # A model that knows nothing of bytes needs all eight bits.
    assert bits_per_byte(7 * math.log(256), 7) == pytest.approx(8)
    assert math.isnan(bits_per_byte(1.0, 0))


def test_less_is_better_but_for_accuracy() -> None:
    assert not any(LANGUAGE.values())
    assert [name for name, higher in MASKED.items() if higher] == ["masked_accuracy"]
