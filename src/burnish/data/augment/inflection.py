"""English word forms by rule: which form of a word it is, and that form of another word.

Where the rules leave a doubt, nothing is given: a replacement that is not made costs nothing, a wrong form does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

VOWELS = "aeiou"
SIBILANT = re.compile(r"(s|x|z|ch|sh)$")
DOUBLING = re.compile(r"^[^aeiou]*[aeiou][^aeiouwxyh]$")
"""One syllable that ends with a vowel and a consonant, which is doubled: stop, stopped."""

SILENT_H = re.compile(r"(hour|honest|honou?r|heir)")
SPOKEN_YOU = re.compile(r"(uni([^nm]|$)|unif|us[aeiu]|ut[ei]|eu|ewe|one|once|ubiq|uran)")


class Form(StrEnum):
    """A form that a rule makes of a base form."""

    BASE = "base"
    PLURAL = "plural"
    THIRD = "third person"
    PAST = "past"
    ING = "ing"

    @property
    def part(self) -> str:
        """The part of speech that has this form, as WordNet writes it."""
        return "n" if self == Form.PLURAL else "v"


def form_of(word: str, stem: str, part: str) -> Form | None:
    """The form that `word` is of `stem`, or None for one that is not changed by rule (better, quickest)."""
    if word == stem:
        return Form.BASE
    if part == "n":
        return Form.PLURAL
    if part != "v":
        return None
    if word.endswith("ing"):
        return Form.ING
    return Form.THIRD if word in (stem + "s", stem + "es", stem[:-1] + "ies") else Form.PAST


def inflected(stem: str, form: Form, irregular: Sequence[str] = ()) -> str | None:
    """The form of `stem`, or None where it is not sure; `irregular` are all its forms that no rule makes.

    The past is given only where it is also the participle: who knows which of the two is replaced?

    >>> inflected("carry", Form.PAST), inflected("make", Form.ING), inflected("stop", Form.ING, ["stopped", "stopping"])
    ('carried', 'making', 'stopping')
    >>> inflected("go", Form.PAST, ["goes", "going", "gone", "went"]) is None
    True
    """
    ending = {Form.PLURAL: "s", Form.THIRD: "s", Form.PAST: "ed", Form.ING: "ing"}[form]
    if form == Form.PLURAL:
        own = list(irregular)
    elif form == Form.PAST:
        own = [word for word in irregular if not word.endswith(("s", "ing"))]
    else:
        own = [word for word in irregular if word.endswith(ending)]
    if own:
        return own[0] if len(own) == 1 and (form != Form.PAST or own[0].endswith("ed")) else None
    if form in (Form.PLURAL, Form.THIRD):
        return with_s(stem)
    return None if DOUBLING.search(stem) else with_ed(stem) if form == Form.PAST else with_ing(stem)


def with_s(stem: str) -> str | None:
    if stem.endswith(("o", "man", "f", "fe", "ics", "sis")):  # photos but heroes, chiefs but knives
        return None
    if stem.endswith("y") and stem[-2:-1] not in VOWELS:
        return stem[:-1] + "ies"
    return stem + ("es" if SIBILANT.search(stem) else "s")


def with_ed(stem: str) -> str:
    if stem.endswith("y") and stem[-2:-1] not in VOWELS:
        return stem[:-1] + "ied"
    return stem + ("d" if stem.endswith("e") else "ed")


def with_ing(stem: str) -> str:
    if stem.endswith("ie"):
        return stem[:-2] + "ying"
    return (stem[:-1] if stem.endswith("e") and not stem.endswith(("ee", "oe", "ye")) else stem) + "ing"


def article(word: str) -> str:
    """`a` or `an`, as `word` is spoken; by rule, with the usual exceptions.

    >>> [article(word) for word in ("hour", "house", "union", "unimportant", "apple", "European")]
    ['an', 'a', 'a', 'an', 'an', 'a']
    """
    small = word.lower()
    spoken = bool(SILENT_H.match(small)) or (small[:1] in VOWELS and small[:1] != "" and not SPOKEN_YOU.match(small))
    return "an" if spoken else "a"
