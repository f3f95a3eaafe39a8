"""Tokenizers of the three kinds, trained once on a few sentences in English and French."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sentences import SIZES, TEXTS


@pytest.fixture(scope="session")
def trained() -> dict[str, Any]:
    from burnish.models import vocabulary

    return {kind: vocabulary.train(TEXTS, kind, size, max_length=100) for kind, size in SIZES.items()}  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def folders(trained: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where each kind was saved."""
    found = {kind: tmp_path_factory.mktemp("tokenizers") / kind for kind in trained}
    for kind, tokenizer in trained.items():
        tokenizer.save_pretrained(found[kind])
    return found
