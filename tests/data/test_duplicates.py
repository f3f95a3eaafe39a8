"""Texts that say the same, exactly or nearly."""

from __future__ import annotations

import random
import time
from itertools import combinations

import numpy as np
import pytest

from burnish.data import duplicates
from burnish.data.duplicates import NEAR, Twins, near, normal, repeated


def ones(texts: list[str]) -> list[tuple[str]]:
    return [(text,) for text in texts]


def drawn(number: int, words: int, size: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(f"w{word}" for word in draw.sample(range(words), size)) for _ in range(number)]


def test_repeated_texts_are_found_whatever_their_blanks_and_case() -> None:
    texts = ["A lamp.", "a kettle", " a\tLAMP. ", "a lamp", "a  kettle"]
    assert repeated([normal(text) for text in texts]) == {"a lamp.": [0, 2], "a kettle": [1, 4]}


@pytest.mark.parametrize("size", [5, 8, 30])
def test_one_word_changed_is_near(size: int) -> None:
    texts = drawn(200, 5000, size)
    words = texts[7].split()
    for place in (0, size // 2, size - 1):
        changed = " ".join([*words[:place], "other", *words[place + 1 :]])
        assert near(ones([*texts, changed])) == [Twins(7, 200, pytest.approx((size - 1) / (size + 1)))]


def test_texts_that_are_the_same_are_not_near_but_their_punctuation_is() -> None:
    assert near(ones(["the old lamp is here", "The old  lamp is here"])) == []
    assert near(ones(["the old lamp is here", "the old lamp is here!"])) == [Twins(0, 1, 1.0)]
    assert near([]) == near(ones(["lamp"])) == near(ones(["...", "!!!"])) == []


def test_each_column_has_to_be_near() -> None:
    context = " ".join(drawn(1, 1000, 60))
    rows = [("where is the lamp now", context), ("when did it come here", context), ("where is the lamp today", context + " more")]
    assert [(pair.first, pair.second) for pair in near(rows)] == [(0, 2)]


def test_across_two_parts_only_pairs_between_them_count() -> None:
    known = drawn(50, 1000, 10)
    held = [*drawn(20, 1000, 10, seed=1), known[30].replace(known[30].split()[4], "other"), "a b c d e f", "a b c d e g"]
    found = near(ones(held), ones(known))
    assert [(pair.first, pair.second) for pair in found] == [(30, 20)]


def test_every_text_with_a_near_one_is_found_as_by_comparing_all() -> None:
    texts = drawn(300, 18, 7, seed=3)
    sets = [set(text.split()) for text in texts]
    wanted = {
        index
        for pair in combinations(range(300), 2)
        if len(sets[pair[0]] & sets[pair[1]]) >= NEAR * len(sets[pair[0]] | sets[pair[1]])
        for index in pair
    }
    found = {index for pair in near(ones(texts)) for index in (pair.first, pair.second)}
    assert found <= wanted and len(found) >= 0.98 * len(wanted) > 10


def test_characters_without_blanks_between_them_are_words() -> None:
    assert len(near(ones(["这盏灯昨天已经送到了吗", "这盏灯今天已经送到了吗", "我想退货因为水壶坏掉了"]))) == 1


def test_signatures_agree_as_often_as_words_do() -> None:
    """The share of equal hashes estimates the similarity (Broder 1997)."""
    words = [f"w{number}" for number in range(300)]
    sets = duplicates.word_sets([" ".join(words[:200]), " ".join(words[100:])])
    found = duplicates.signatures([sets], 0)
    share = float(np.mean(found[0] == found[1]))
    assert share == pytest.approx(1 / 3, abs=0.13)


def test_many_texts_take_little_time() -> None:
    texts = drawn(10_000, 3000, 20)
    texts += [" ".join([*text.split()[:-1], "other"]) for text in texts[:50]]
    began = time.perf_counter()
    found = near(ones(texts))
    assert time.perf_counter() - began < 5
    assert {(pair.first, pair.second) for pair in found} == {(number, 10_000 + number) for number in range(50)}
