"""What decides a run's result, as one digest: runs of the same identity are the same run, and need not be made twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from burnish.core.errors import DataError
from burnish.core.rundir import RunFolder
from burnish.data import sources
from burnish.models.spec import bundled
from burnish.recipe import Recipe
from burnish.run.environment import version

VERSIONS = ("burnish", "torch", "transformers")
IDENTITY = "identity.json"
UNDECIDING = {"run", "sweep", "track"}
"""Sections of a recipe that decide nothing of what a run comes to."""


def identity(recipe: Recipe) -> str:
    """sha256 of everything that decides what a run of `recipe` comes to.

    That is the recipe with all its defaults, but for the folder that the run is written to and how it may be searched; the contents of the files and folders that
    it names (training and validation rows, a local model, a teacher) in the place of their names; and the versions of Burnish, torch and
    transformers. A test file is known by its name alone, for it is closed until the weights are chosen. The machine is left out: it
    decides the last bits, and how long it takes.
    """
    content = recipe.model_dump(mode="json", exclude=UNDECIDING)
    test = content["data"].pop("test")
    whole = {"recipe": contained(content), "test": test, "versions": {name: version(name) for name in VERSIONS}}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def contained(value: Any) -> Any:
    """The same tree with digests of contents in the place of the names of files and folders."""
    if isinstance(value, Mapping):
        return {contained(key): contained(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [contained(inner) for inner in value]
    return digest(value) if isinstance(value, str) else value


def digest(name: str) -> str:
    """What stands for a name: the digest of what it names, where that is a file or folder of this machine or a bundled source."""
    if name.startswith(sources.BUNDLED):
        try:
            return f"{name}:{sources.fingerprint(name)}"
        except DataError:  # a tokenizer or a model, which is a folder
            return digest(str(bundled(name).absolute()))
    path = Path(name)
    if not path.is_absolute() or not path.exists():
        return name
    files = [path] if path.is_file() else files_of(path)
    found = [(file.suffix if path.is_file() else str(file.relative_to(path)), digest_of(file)) for file in files]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def files_of(folder: Path) -> list[Path]:
    """The files that decide what a folder is used for: of a run its model and its record, of a model all but what is written about it."""
    if RunFolder(folder).recipe.is_file():
        run = RunFolder(folder)
        return [*(files_of(run.model) if run.model.is_dir() else []), *([run.metrics] if run.metrics.is_file() else [])]
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return [file for file in found if not file.name.startswith(".") and file.suffix != ".md"]


def digest_of(file: Path) -> str:
    """sha256 of a file, computed once as long as it stays as it is: models are large, and a comparison asks for every one of its runs."""
    facts = file.stat()
    return digest_as_it_is(file, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=4096)
def digest_as_it_is(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def mark(folder: RunFolder, recipe: Recipe) -> None:
    """Writes the identity of a run that is about to begin. A run that has begun keeps its own: its recipe has learned from the data."""
    if folder.read(IDENTITY) is None and folder.read("environment.json") is None:
        folder.write(IDENTITY, {"sha256": identity(recipe), "versions": {name: version(name) for name in VERSIONS}})


def identity_of(folder: RunFolder) -> str | None:
    """The identity that a run was marked with; None for one that was not."""
    found = folder.read(IDENTITY)
    return found["sha256"] if found else None
