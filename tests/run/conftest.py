"""Fixtures for whole runs on the tiny BERT: recipes, a BERT with dropout, and no report unless a test wants it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import with_dropout

import burnish.report.page

WRITE_REPORT = burnish.report.page.write


@pytest.fixture(autouse=True)
def always_quick(quick: None) -> None:
    """Every test here is."""


@pytest.fixture
def with_report(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.report.page.write", WRITE_REPORT)


@pytest.fixture
def dropout_bert(tiny_bert: Path, tmp_path: Path) -> Path:
    return with_dropout(tiny_bert, tmp_path / "dropout-bert", 0.1)


@pytest.fixture
def recipe(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A recipe of 2 epochs of 5 steps. Sections given replace single keys: `recipe(train={"seed": 1}, method="head")`."""

    def make(name: str = "run", **sections: Any) -> dict[str, Any]:
        made: dict[str, Any] = {
            "model": {"name": str(tiny_bert)},
            "task": {"name": "classify"},
            "data": {"train": str(rows_csv), "validation": "25%"},
            "optimizer": {"name": "adamw", "lr": 0.01},
            "train": {"duration": "2ep", "batch_size": 8, "device": "cpu"},
            "run": str(tmp_path / name),
        }
        for key, value in sections.items():
            made[key] = {**made.get(key, {}), **value} if isinstance(value, dict) else value
        return made

    return make
