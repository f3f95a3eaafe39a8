"""WordNet, where this machine has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from burnish.core.errors import DataError
from burnish.core.passage import around, written
from burnish.data.augment.material import Material
from burnish.data.augment.wordnet import Lexicon


@pytest.fixture(scope="session")
def lexicon() -> Lexicon:
    try:
        return Lexicon()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture
def material() -> Material:
    return Material(list, frozenset(), 0, "cpu", lambda what, done, total: None)


@pytest.fixture
def variants() -> Callable[..., list[str]]:
    """Texts made of one by a change, each drawn anew; what `extents` name is fixed."""

    def make(change: Any, text: str, number: int = 50, extents: Any = ()) -> list[str]:
        passage = around(text, extents)
        return [written(change(passage, np.random.default_rng([7, draw]))) for draw in range(number)]

    return make
