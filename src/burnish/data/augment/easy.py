"""Easy data augmentation: words of a text replaced by synonyms, put in, exchanged or left out.

Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks", arXiv:1901.11196: of W
words n = max(1, rate W) are changed. It helps most where there are few rows (500 and fewer), and little beyond some thousand; a rate of
0.05 to 0.1 is usual. Imports no nltk until synonyms are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from burnish.core.passage import Passage
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.data.augment.inflection import article
from burnish.data.augment.material import Drawn, Material
from burnish.data.augment.words import Word, cased, edited, words

if TYPE_CHECKING:
    import numpy as np

    from burnish.data.augment.wordnet import Lexicon

SIGNS = (".", ";", "?", ":", "!", ",")
Edits = dict[int, str]
"""What stands in the place of a word, by its number."""

Draw = Callable[[Sequence[Word], float, "np.random.Generator"], Edits]


@register("augmentation")
class Synonyms(Spec):
    """Replaces words by synonyms out of WordNet in the same form (went, travelled): the gentlest of the four."""

    name: Literal["synonyms"] = "synonyms"
    word_for_word: ClassVar[bool] = True
    pure: ClassVar[bool] = True

    rate: float = Field(default=0.1, gt=0, le=1)
    """Share of a text's words that are replaced, one at least; 0.05 to 0.2."""

    language: str = Field(default="eng", pattern=r"^[a-z]{3}$")
    """The language as the Open Multilingual Wordnet writes it: eng, fra, spa; others than English need its data."""

    def build(self, material: Material) -> Drawn:
        from burnish.data.augment.wordnet import lexicon

        return changing(partial(replaced, lexicon=lexicon(self.language)), self.rate, material.kept, self.language == "eng")


@register("augmentation")
class Insert(Spec):
    """Puts a synonym of one of the text's words in front of another of them."""

    name: Literal["insert"] = "insert"
    word_for_word: ClassVar[bool] = False
    pure: ClassVar[bool] = True

    rate: float = Field(default=0.1, gt=0, le=1)
    """Words that are put in, as a share of those that the text has, one at least; 0.05 to 0.1."""

    language: str = Field(default="eng", pattern=r"^[a-z]{3}$")
    """The language as the Open Multilingual Wordnet writes it: eng, fra, spa; others than English need its data."""

    def build(self, material: Material) -> Drawn:
        from burnish.data.augment.wordnet import lexicon

        return changing(partial(inserted, lexicon=lexicon(self.language)), self.rate, material.kept, self.language == "eng")


@register("augmentation")
class Swap(Spec):
    """Exchanges two words, several times: for tasks in which the order of words matters little; for any language with blanks."""

    name: Literal["swap"] = "swap"
    word_for_word: ClassVar[bool] = False
    pure: ClassVar[bool] = True

    rate: float = Field(default=0.1, gt=0, le=1)
    """Exchanges, as a share of the text's words, one at least; 0.05 to 0.1."""

    def build(self, material: Material) -> Drawn:
        return changing(swapped, self.rate, material.kept, False)


@register("augmentation")
class Delete(Spec):
    """Leaves words out, never all of them, so that the model does not hang on single ones; for any language with blanks."""

    name: Literal["delete"] = "delete"
    word_for_word: ClassVar[bool] = False
    pure: ClassVar[bool] = True

    rate: float = Field(default=0.1, gt=0, lt=1)
    """Share of a text's words that are left out, one at least; 0.05 to 0.1."""

    def build(self, material: Material) -> Drawn:
        return changing(deleted, self.rate, material.kept, False)


@register("augmentation")
class Punctuate(Spec):
    """Puts one of . ; ? : ! , in front of words: for any language with blanks, and no word is lost.

    Karimi, Rossi and Prati 2021, "AEDA: An Easier Data Augmentation Technique for Text Classification", arXiv:2108.13230.
    """

    name: Literal["punctuate"] = "punctuate"
    word_for_word: ClassVar[bool] = False
    pure: ClassVar[bool] = True

    rate: float = Field(default=0.2, gt=0, le=1)
    """Signs that are put in, as a share of the text's words, one at least; the paper draws from one sign to 0.3."""

    def build(self, material: Material) -> Drawn:
        return changing(punctuated, self.rate, material.kept, False)


def changing(draw_edits: Draw, rate: float, kept: frozenset[str], english: bool) -> Drawn:
    """A change of passages made of a change of words."""

    def change(passage: Passage, draw: np.random.Generator) -> Passage:
        found = words(passage, kept)
        edits = draw_edits(found, rate, draw)
        return edited(passage, found, with_articles(found, edits) if english else edits) if edits else passage

    return change


def share_of(found: Sequence[Word], rate: float) -> int:
    """n = max(1, rate W), rounded."""
    return max(1, round(rate * len(found)))


def mixed(places: Sequence[int], draw: np.random.Generator) -> list[int]:
    """The places in an order drawn at random."""
    return [places[at] for at in draw.permutation(len(places))]


def synonyms_of(word: Word, lexicon: Lexicon) -> tuple[str, ...]:
    """Synonyms of a word, unless it may be a name that begins a sentence."""
    return () if word.first and lexicon.is_name(word.text) else lexicon.synonyms(word.text.lower())


def replaced(found: Sequence[Word], rate: float, draw: np.random.Generator, lexicon: Lexicon) -> Edits:
    """A synonym for each of some words."""
    edits: Edits = {}
    for place in mixed([place for place, word in enumerate(found) if word.touchable], draw):
        choices = synonyms_of(found[place], lexicon)
        if choices:
            edits[place] = cased(choices[draw.integers(len(choices))], found[place].text)
        if len(edits) == share_of(found, rate):
            break
    return edits


def inserted(found: Sequence[Word], rate: float, draw: np.random.Generator, lexicon: Lexicon) -> Edits:
    """Synonyms of some words, each in front of a word."""
    fronts = mixed([place for place, word in enumerate(found) if word.touchable and not word.first], draw)
    edits: Edits = {}
    for place in mixed([place for place, word in enumerate(found) if word.touchable], draw):
        choices = synonyms_of(found[place], lexicon)
        if choices and fronts:
            front = fronts.pop()
            edits[front] = f"{cased(choices[draw.integers(len(choices))], found[front].text)} {found[front].text}"
        if len(edits) == share_of(found, rate):
            break
    return edits


def swapped(found: Sequence[Word], rate: float, draw: np.random.Generator) -> Edits:
    """Some words in each other's places, in the capitals of the places."""
    places = [place for place, word in enumerate(found) if word.touchable and not word.first]
    texts = {place: found[place].text for place in places}
    if len({text.lower() for text in texts.values()}) < 2:
        return {}
    for _ in range(share_of(found, rate)):
        one, other = draw.choice(places, size=2, replace=False).tolist()
        texts[one], texts[other] = cased(texts[other], found[one].text), cased(texts[one], found[other].text)
    return {place: text for place, text in texts.items() if text != found[place].text}


def deleted(found: Sequence[Word], rate: float, draw: np.random.Generator) -> Edits:
    """Nothing for some words; one of those that say something always stays."""
    places = [place for place, word in enumerate(found) if word.loose]
    most = min(share_of(found, rate), sum(word.touchable for word in found) - 1)
    return dict.fromkeys(mixed(places, draw)[: max(most, 0)], "")


def punctuated(found: Sequence[Word], rate: float, draw: np.random.Generator) -> Edits:
    """A sign in front of some words."""
    places = mixed([place for place, word in enumerate(found) if word.touchable and not word.first], draw)[: share_of(found, rate)]
    return {place: f"{SIGNS[draw.integers(len(SIGNS))]} {found[place].text}" for place in places}


def with_articles(found: Sequence[Word], edits: Edits) -> Edits:
    """The edits, with `a` and `an` as the words behind them are now spoken. In front of a word that needs the other article, and
    whose article stands in a fixed stretch, nothing is changed."""
    made = dict(edits)
    for place, new in edits.items():
        before = found[place - 1] if place else None
        if before is None or before.text.lower() not in ("a", "an") or article(new) == article(found[place].text):
            continue
        if before.stretch == found[place].stretch:
            made[place - 1] = cased(article(new), "Xx" if before.text[0].isupper() else "x")
        else:
            del made[place]
    return made
