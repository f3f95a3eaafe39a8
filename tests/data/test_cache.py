"""The token cache: made once, the same as what was made, keyed by everything that matters, never half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_encode import same

from burnish.core.protocols import Row
from burnish.data import cache
from burnish.data.encode import Encoded, Ragged
from burnish.tasks.classify import Classify

EXAMPLES = Encoded(
    {"input_ids": Ragged.of([[1, 2, 3], [], [4]]), "token_type_ids": Ragged.of([[0, 0, 1], [], [0]])},
    {"labels": np.array([2, 0, 1]), "tags": Ragged.of([[5], [6, -100], []])},
    np.array([1.0, 0.0, 3.0]),
    np.array([0, 0, 1]),
    {"cut at the end": 2},
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def tokenizer(tiny_bert: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_bert)


def refuse() -> Encoded:
    raise AssertionError("it is there already")


def quiet(message: str) -> None:
    raise AssertionError(message)


def test_what_was_made_once_is_read_again_memory_mapped(root: Path) -> None:
    made = cache.remembered("key", lambda: EXAMPLES, quiet)
    again = cache.remembered("key", refuse, quiet)
    for found in (made, again):
        same(found, EXAMPLES)
        assert isinstance(found.inputs["input_ids"].values, np.memmap)
        assert found.targets["labels"].tolist() == [2, 0, 1]  # type: ignore[union-attr]
        assert [found.targets["tags"][index].tolist() for index in range(3)] == [[5], [6, -100], []]
    assert [path.name for path in root.iterdir()] == ["key"]


ROWS = [Row({"text": "a", "label": "x"}, "a.csv", 1), Row({"text": "b", "label": "y"}, "a.csv", 2)]


def add_token(tokenizer: Any) -> None:
    tokenizer.add_tokens(["<new>"])


def set_limit(tokenizer: Any) -> None:
    tokenizer.model_max_length = 9


def set_template(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages }}"


@pytest.mark.parametrize("change", [add_token, set_limit, set_template])
def test_the_key_depends_on_the_tokenizer(tokenizer: Any, change: Callable[[Any], None]) -> None:
    before = cache.key(ROWS, tokenizer, Classify(), True)
    tokenizer(["a", "b"], truncation=True, padding=True, max_length=3)  # what the last call was says nothing of the next
    assert cache.key(ROWS, tokenizer, Classify(), True) == before
    change(tokenizer)
    assert cache.key(ROWS, tokenizer, Classify(), True) != before


def test_the_key_depends_on_rows_and_task_and_not_on_where_the_rows_stand(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(rows: list[Row] = ROWS, task: Classify | None = None, labelled: bool = True) -> str:
        return cache.key(rows, tokenizer, task or Classify(), labelled)

    moved = [Row(row.values, "elsewhere.csv", row.number + 7) for row in ROWS]
    assert key(moved) == key()
    changed = [Row({**ROWS[0].values, "text": "A"}, "a.csv", 1), ROWS[1]]
    different = [key(), key(changed), key(ROWS[::-1]), key(ROWS[:1]), key(task=Classify(labels=["y", "x"])), key(labelled=False)]
    monkeypatch.setattr(cache, "code", lambda: "newer")
    different.append(key())
    assert len(set(different)) == len(different)


@pytest.mark.parametrize("harm", ["missing file", "cut file", "cut meta"])
def test_a_damaged_entry_is_made_again(root: Path, harm: str) -> None:
    cache.remembered("key", lambda: EXAMPLES, quiet)
    victim = root / "key" / ("meta.json" if harm == "cut meta" else "labels.npy")
    victim.unlink() if harm == "missing file" else os.truncate(victim, victim.stat().st_size // 2)
    calls: list[int] = []
    same(cache.remembered("key", lambda: calls.append(1) or EXAMPLES, quiet), EXAMPLES)  # type: ignore[func-returns-value]
    assert calls == [1]
    same(cache.remembered("key", refuse, quiet), EXAMPLES)


def test_a_disk_that_refuses_costs_the_cache_and_not_the_run(root: Path) -> None:
    root.parent.mkdir(parents=True)
    root.write_text("a file where the folder should be")
    notes: list[str] = []
    same(cache.remembered("key", lambda: EXAMPLES, notes.append), EXAMPLES)
    assert len(notes) == 1 and "could not be kept" in notes[0]


def test_a_failure_while_writing_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    notes: list[str] = []
    same(cache.remembered("key", lambda: EXAMPLES, notes.append), EXAMPLES)
    assert "No space left" in notes[0] and list(root.iterdir()) == []


def test_a_kill_while_writing_leaves_nothing_that_is_read_and_nothing_for_long(root: Path) -> None:
    script = (
        "import os, numpy as np\n"
        "from burnish.data import cache\n"
        "from burnish.data.encode import Encoded, Ragged\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), 9)\n"
        "made = Encoded({'input_ids': Ragged.of([[1]])}, {}, np.ones(1), np.zeros(1, dtype=int))\n"
        "cache.remembered('key', lambda: made, print)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], env={**os.environ}).returncode == -9
    assert len(list(root.iterdir())) == 1 and cache.opened(root / "key") is None
    same(cache.remembered("key", lambda: EXAMPLES, quiet), EXAMPLES)
    assert [path.name for path in root.iterdir()] == ["key"], "what the killed process left is cleared away"


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_longest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old", "used", "third"):
        cache.remembered(name, lambda: EXAMPLES, quiet)
    size = sum(file.stat().st_size for file in (root / "old").iterdir())
    for age, name in enumerate(("third", "used", "old")):
        os.utime(root / name, (1e9 - age * 100, 1e9 - age * 100))
    cache.remembered("used", refuse, quiet)
    monkeypatch.setattr(cache, "MOST_BYTES", int(2.5 * size))
    cache.remembered("new", lambda: EXAMPLES, quiet)
    assert sorted(path.name for path in root.iterdir()) == ["new", "used"]
    monkeypatch.setattr(cache, "MOST_BYTES", 1)
    cache.remembered("newest", lambda: EXAMPLES, quiet)
    assert [path.name for path in root.iterdir()] == ["newest"]


def test_meta_is_plain_json(root: Path) -> None:
    cache.remembered("key", lambda: EXAMPLES, quiet)
    meta = json.loads((root / "key" / "meta.json").read_text())
    assert meta == {
        "inputs": {"input_ids": True, "token_type_ids": True},
        "targets": {"labels": False, "tags": True},
        "cut": {"cut at the end": 2},
    }
