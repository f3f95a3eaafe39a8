"""Words replaced, put in, exchanged and left out: how many, which never, and what stays right around them."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from burnish.core.passage import Passage, around, fixed_extents, written
from burnish.data.augment import easy
from burnish.data.augment.easy import Delete, Punctuate, Swap, inserted, replaced, with_articles
from burnish.data.augment.material import Material
from burnish.data.augment.wordnet import Lexicon
from burnish.data.augment.words import STOPPED, cased, words

TEXT = "The lovely kettle arrived quickly, and my clever neighbor admires its shiny copper handle every single morning."
Variants = Callable[..., list[str]]


def split(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class Thesaurus:
    """A lexicon of three words."""

    known = {"lovely": ("pretty",), "kettle": ("boiler",), "admires": ("esteems",)}

    def synonyms(self, word: str) -> tuple[str, ...]:
        return self.known.get(word, ())

    def is_name(self, word: str) -> bool:
        return word == "Lovely"


def with_thesaurus(draw: Callable[..., dict[int, str]], rate: float) -> Callable[..., Passage]:
    return easy.changing(partial(draw, lexicon=Thesaurus()), rate, frozenset(), True)


@pytest.mark.parametrize(("rate", "number"), [(0.01, 1), (0.13, 2), (0.5, 3)])
def test_n_words_are_replaced_and_each_by_its_synonym(variants: Variants, rate: float, number: int) -> None:
    assert len(split(TEXT)) == 17
    for text in variants(with_thesaurus(replaced, rate), TEXT):
        pairs = [(old, new) for old, new in zip(split(TEXT), split(text), strict=True) if old != new]
        assert len(pairs) == min(number, 3) and all(new in Thesaurus.known[old] for old, new in pairs)


def test_inserted_words_are_synonyms_of_words_that_stay(variants: Variants) -> None:
    for text in variants(with_thesaurus(inserted, 0.12), TEXT):
        new = Counter(split(text)) - Counter(split(TEXT))
        assert sum(new.values()) == 2 and set(new) <= {"pretty", "boiler", "esteems"}
        assert not Counter(split(TEXT)) - Counter(split(text))
        rest = iter(split(text))
        assert all(word in rest for word in split(TEXT)), "the others keep their order"


def test_swapping_keeps_every_word_and_every_other_place(variants: Variants, material: Material) -> None:
    for text in variants(Swap(rate=0.06).build(material), TEXT):
        assert Counter(split(text)) == Counter(split(TEXT))
        moved = [old for old, new in zip(split(TEXT), split(text), strict=True) if old != new]
        assert len(moved) == 2 and not set(moved) & STOPPED


@pytest.mark.parametrize(("rate", "number"), [(0.01, 1), (0.12, 2), (0.99, 11)])
def test_deleting_leaves_out_n_words_and_never_all(variants: Variants, material: Material, rate: float, number: int) -> None:
    for text in variants(Delete(rate=rate).build(material), TEXT):
        gone = Counter(split(TEXT)) - Counter(split(text))
        assert sum(gone.values()) == number and not set(gone) & STOPPED
        assert "  " not in text and " ," not in text and not text.startswith(" ")
    assert variants(Delete(rate=0.9).build(material), "kettle", 5) == ["kettle"] * 5
    assert all(split(text) in (["kettle"], ["lovely"]) for text in variants(Delete(rate=0.9).build(material), "kettle lovely"))


def test_punctuating_only_adds_signs(variants: Variants, material: Material) -> None:
    for text in variants(Punctuate(rate=0.12).build(material), TEXT):
        assert split(text) == split(TEXT)
        signs = Counter(re.findall(r" ([.;?:!,])(?= )", text))
        assert sum(signs.values()) == 2


@pytest.mark.parametrize("change", [Swap(rate=1.0), Delete(rate=0.9), Punctuate(rate=1.0)])
def test_what_carries_the_meaning_is_never_touched(variants: Variants, material: Material, change: Swap | Delete | Punctuate) -> None:
    kept = "I did not like it; it's 12 % of NASA's C++ at http://a.b/c?d=e, isn't it? Never again: ask @me, #not [MASK] well-made <br />"
    names = "we met Anna in Paris"
    for text in variants(change.build(material), kept, 10):
        assert [chunk for chunk in text.split() if chunk not in ".;?:!,"] != [] and "[MASK]" in text and "http://a.b/c?d=e," in text
        assert all(
            part in text for part in ("did not", "it's 12 %", "NASA's C++", "isn't it? Never again:", "@me, #not", "well-made <br />")
        )
    for text in variants(change.build(material), names, 10):
        assert "Anna in Paris" in text and text.count("we") == 1


def test_words_to_keep_are_kept(variants: Variants, material: Material) -> None:
    change = Swap(rate=1.0).build(replace(material, kept=frozenset({"kettle", "handle"})))
    for text in variants(change, TEXT):
        assert split(text).index("kettle") == 2 and split(text).index("handle") == split(TEXT).index("handle")


def test_capitals_are_those_of_the_place(variants: Variants, material: Material) -> None:
    for text in variants(Swap(rate=0.5).build(material), "LOVELY KETTLE AND SHINY HANDLE"):
        assert text.isupper()
    for text in variants(Swap(rate=0.5).build(material), "Lovely Kettle and Shiny Handle"):
        assert text.istitle() or all(word[0].isupper() for word in text.split() if word != "and")
    texts = variants(with_thesaurus(replaced, 0.1), "Kettle works. Lovely kettle")
    assert set(texts) == {"Boiler works. Lovely kettle", "Kettle works. Lovely boiler"}, "`Lovely` may be a name there"


@pytest.mark.parametrize(
    ("text", "new", "result"),
    [
        ("a kettle boils", "urn", "an urn boils"),
        ("It is An urn", "kettle", "It is A kettle"),
        ("a kettle boils", "boiler", "a boiler boils"),
        ("an hour passes", "day", "a day passes"),
        ("banana kettle", "urn", "banana urn"),
    ],
)
def test_articles_agree(text: str, new: str, result: str) -> None:
    found = words(around(text))
    place = next(place for place, word in enumerate(found) if word.text in ("kettle", "urn", "hour"))
    assert written(easy.edited(around(text), found, with_articles(found, {place: new}))) == result


def test_an_article_that_is_fixed_stops_the_change() -> None:
    passage = around("a kettle", [(0, 1)])
    found = words(passage)
    assert with_articles(found, {1: "urn"}) == {} and with_articles(found, {1: "boiler"}) == {1: "boiler"}


@pytest.mark.parametrize("change", [Swap(rate=1.0), Delete(rate=0.9), Punctuate(rate=1.0)])
def test_fixed_stretches_stay_whatever_happens(material: Material, change: Swap | Delete | Punctuate) -> None:
    text, made = "shiny kettles-and(kettle)handles near copper pots, lovely pots", change.build(material)
    extents = [(6, 9), (38, 42), (44, 44 + 5)]
    for draw in range(100):
        passage = made(around(text, extents), np.random.default_rng(draw))
        assert [written(passage)[start:end] for start, end in fixed_extents(passage)] == ["ket", text[38:42], text[44:49]]
        assert [stretch.fixed for stretch in passage] == [False, True] * 3 + [False]
        assert "kettles-and(kettle)handles" in written(passage), "nothing parts the word in which a fixed stretch stands"


def test_spacing_and_other_scripts_stay() -> None:
    text = "  Ein\tschöner   Kessel\n\nund 水壶 很好 — naïve café \n"
    found = words(around(text))
    assert written(easy.edited(around(text), found, {})) == text
    assert [word.text for word in found][:3] == ["Ein", "schöner", "Kessel"] and cased("über", "ÄRGER") == "ÜBER"
    assert written(easy.edited(around(text), found, {1: "", 2: "Topf"})) == "  Ein\t  Topf\n\nund 水壶 很好 — naïve café \n"


def test_a_batch_takes_milliseconds(lexicon: Lexicon, material: Material) -> None:
    drawn = [easy.changing(partial(draw, lexicon=lexicon), 0.1, frozenset(), True) for draw in (replaced, inserted)]
    changes = [*drawn, Swap().build(material), Delete().build(material)]
    passages = [around(f"{TEXT} Number {number}.") for number in range(32)]
    for change in changes:  # words are looked up once
        change(passages[0], np.random.default_rng(0))
    seconds = []
    for attempt in range(5):
        began = time.perf_counter()
        for number, passage in enumerate(passages):
            changes[number % 4](passage, np.random.default_rng([attempt, number]))
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.02
