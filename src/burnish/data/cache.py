"""Encoded rows on disk: made once, keyed by content, memory-mapped, bounded.

    CACHE/tokens/KEY/
      meta.json          names and kinds of the arrays, and how many rows were cut
      NAME.npy           an array each; a ragged column takes two, NAME.values.npy and NAME.offsets.npy

KEY is a digest of everything that the tokens depend on: the rows' own values, the tokenizer with its template and length limit,
the task's settings, and the code that encodes. An entry is there whole or not at all (`core/shelf.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from burnish.core import shelf
from burnish.core.protocols import Row
from burnish.data.encode import Column, Encoded, Ragged

MOST_BYTES = 20 * 10**9
"""Entries that have not been used for longest are dropped until the rest is within this."""


def root() -> Path:
    return shelf.root("tokens")


def key(rows: Sequence[Row], tokenizer: Any, task: Any, labelled: bool) -> str:
    """A digest of all that the tokens of `rows` depend on."""
    digest = hashlib.sha256(f"{code()} {labelled} {task.model_dump_json()}".encode())
    digest.update(tokenizer_digest(tokenizer))
    for row in rows:
        digest.update(repr(row.values).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:32]


@cache
def code() -> str:
    """A digest of the modules that turn rows into tokens, so that a newer version never reads what an older one made."""
    digest = hashlib.sha256()
    for package in ("data", "tasks"):
        for path in sorted((Path(__file__).parent.parent / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> bytes:
    """A digest of a tokenizer's vocabulary, rules, special tokens, template and length limit."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    else:
        backend.no_truncation(), backend.no_padding()  # left from its last call, and set anew at the next
        rules = backend.to_str()
    names = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    facts = [type(tokenizer).__name__, names, tokenizer.chat_template, tokenizer.model_max_length, tokenizer.model_input_names]
    return hashlib.sha256((rules + json.dumps(facts, sort_keys=True, default=str)).encode("utf-8", "surrogatepass")).digest()


def remembered(name: str, make: Callable[[], Encoded], note: Callable[[str], None]) -> Encoded:
    """The entry `name`, or what `make` gives, which is then kept. A disk that refuses costs the cache, not the run."""
    folder = root() / name
    found = opened(folder)
    if found is not None:
        return found
    made = make()
    try:
        keep(made, folder)
    except OSError as error:
        note(f"the tokens could not be kept in {folder.parent} ({error.strerror or error}): the next start will make them again")
        return made
    return opened(folder) or made


def opened(folder: Path) -> Encoded | None:
    """The entry in a folder, memory-mapped, or None where there is none that can be read."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        inputs, targets = ({name: column(folder, name, ragged) for name, ragged in meta[kind].items()} for kind in ("inputs", "targets"))
        plain = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("weights", "rows")}
        os.utime(folder)
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return Encoded(inputs, targets, plain["weights"], plain["rows"], meta["cut"])  # type: ignore[arg-type]


def column(folder: Path, name: str, ragged: bool) -> Column:
    if ragged:
        return Ragged(np.load(folder / f"{name}.values.npy", mmap_mode="r"), np.load(folder / f"{name}.offsets.npy", mmap_mode="r"))
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def keep(examples: Encoded, folder: Path) -> None:
    """Writes an entry. Raises OSError where the disk refuses; nothing half is left then."""
    with shelf.making(folder, MOST_BYTES) as aside:
        for name, values in {**examples.inputs, **examples.targets, "weights": examples.weights, "rows": examples.rows}.items():
            if isinstance(values, Ragged):
                np.save(aside / f"{name}.values.npy", values.values)
                np.save(aside / f"{name}.offsets.npy", values.offsets)
            else:
                np.save(aside / f"{name}.npy", values)
        kinds = {
            kind: {name: isinstance(values, Ragged) for name, values in columns.items()}
            for kind, columns in (("inputs", examples.inputs), ("targets", examples.targets))
        }
        (aside / "meta.json").write_text(json.dumps({**kinds, "cut": dict(examples.cut)}), encoding="utf-8")
