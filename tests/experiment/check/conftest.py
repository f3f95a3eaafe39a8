"""A sound recipe to plant faults in, and the command as a user gives it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from burnish import cli

Row = dict[str, Any]


@dataclass
class Checked:
    """What `burnish check` said: its exit code, what it printed, and its JSON."""

    code: int
    out: str
    found: dict[str, Any]

    def line(self, name: str) -> dict[str, Any]:
        return next(check for check in self.found["checks"] if check["name"] == name)

    def state(self, name: str) -> str:
        return str(self.line(name)["state"])

    def told(self, name: str) -> str:
        return " ".join([*self.line(name)["found"], self.line(name)["mend"]])

    def failing(self) -> list[str]:
        return [check["name"] for check in self.found["checks"] if check["state"] == "fail"]


Check = Callable[..., Checked]


@pytest.fixture
def words(tiny_bert: Path) -> list[str]:
    """Some hundred words that the tiny tokenizers know."""
    from transformers import AutoTokenizer

    known = AutoTokenizer.from_pretrained(tiny_bert).get_vocab()
    return sorted(word for word in known if word.isalpha() and word.islower() and len(word) > 2)


@pytest.fixture
def texts(words: list[str]) -> Callable[..., list[str]]:
    """`texts(20, seed=1)`: texts of nine words each that have little in common."""

    def made(number: int, seed: int = 0, size: int = 9) -> list[str]:
        draw = random.Random(seed)
        return [" ".join(draw.sample(words, size)) for _ in range(number)]

    return made


def write_rows(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def labelled(texts: Sequence[str]) -> list[Row]:
    return [{"text": text, "label": ("praise", "complaint")[number % 2]} for number, text in enumerate(texts)]


@pytest.fixture
def plant(tiny_bert: Path, tmp_path: Path, texts: Callable[..., list[str]]) -> Callable[..., dict[str, Any]]:
    """A recipe that classifies 60 rows, 24 held out, with rows and sections of one's own: `plant(rows, optimizer={"lr": 1})`."""

    def made(rows: Sequence[Row] | None = None, held: Sequence[Row] | None = None, **sections: Any) -> dict[str, Any]:
        recipe: dict[str, Any] = {
            "model": {"name": str(tiny_bert)},
            "task": {"name": "classify"},
            "data": {
                "train": write_rows(tmp_path / "train.jsonl", labelled(texts(60)) if rows is None else rows),
                "validation": write_rows(tmp_path / "validation.jsonl", labelled(texts(24, seed=1)) if held is None else held),
            },
            "optimizer": {"name": "adamw", "lr": 1e-4},
            "train": {"duration": "12ep", "batch_size": 16, "device": "cpu"},
            "run": str(tmp_path / "run"),
        }
        for key, value in sections.items():
            recipe[key] = {**recipe.get(key, {}), **value} if isinstance(value, dict) else value
        return recipe

    return made


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """`burnish check` on a recipe, given as a mapping."""

    def run(recipe: dict[str, Any], *options: str) -> Checked:
        path, found = tmp_path / "recipe.yaml", tmp_path / "found.json"
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        capsys.readouterr()
        try:
            code = cli.guarded(lambda: cli.app(["check", str(path), *options, "--json", str(found)], standalone_mode=True))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out = capsys.readouterr().out
        return Checked(code, out, json.loads(found.read_text(encoding="utf-8")))

    return run
