"""The run folder: everything that a run leaves, written so that a kill at any moment leaves nothing half.

recipe.yaml        the recipe with every default, paths absolute
environment.json   versions, machine, the exact command
data.json          fingerprints of the files, rows, labels, warnings
plan.json          parameters, tokens, steps: what the header of the run says
metrics.jsonl      a line for each step and each evaluation
checkpoints/       step-00000200/ ...
model/             the trained model, as transformers or peft save it
evaluations/       validation.json, test.json and their predictions
movement.json      how far the weights moved, and the spectrum of low-rank updates
uncertainty.json   standard errors over rows of every metric
summary.json       written last: the run is finished when it exists
report/index.html
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.core.errors import RunError, disk_errors, nearest


class RunFolder:
    """Names of a run's files, and the only way in which they are written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.recipe = self.path / "recipe.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.evaluations = self.path / "evaluations"
        self.report = self.path / "report" / "index.html"

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run. Raises RunError where `path` is none, with the nearest run beside it."""
        folder = cls(path)
        if folder.recipe.is_file():
            return folder
        beside = [entry.parent.name for entry in folder.path.parent.glob("*/recipe.yaml")] if folder.path.parent.is_dir() else []
        state = "there is no recipe.yaml in it" if folder.path.is_dir() else "there is no such folder"
        raise RunError(f"{path} is not a run: {state}{nearest(folder.path.name, beside)}")

    @classmethod
    def create(cls, path: str | Path, recipe_yaml: str, overwrite: bool = False) -> RunFolder:
        """A new run folder that holds its recipe from the first moment: made aside, then renamed into place."""
        folder = cls(path)
        parent = folder.path.parent
        with disk_errors(f"Making the run folder {folder.path}", "Choose another with run=FOLDER."):
            if folder.path.exists() and not (folder.path.is_dir() and not any(folder.path.iterdir())):
                folder.make_way(overwrite)
            parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.path.name}-", dir=parent))
            try:
                aside.chmod(0o755)
                write_text(aside / "recipe.yaml", recipe_yaml)
                os.rename(aside, folder.path)
            except OSError:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            sync_folder(parent)
        return folder

    def make_way(self, overwrite: bool) -> None:
        if not self.recipe.is_file():
            raise RunError(f"{self.path} exists and is not a run: it is left alone. Choose another with run=FOLDER.")
        if not overwrite:
            raise RunError(
                f"{self.path} already holds a run. Go on with it: `burnish resume {self.path}`; "
                "or start anew with --overwrite, or with run=ANOTHER_FOLDER."
            )
        with self.lock():
            shutil.rmtree(self.path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second process out. The system drops the lock when the process ends, however it ends."""
        with disk_errors(f"Locking {self.path}"):
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
                raise RunError(f"{self.path} is in use by process {holder}: wait for it or stop it (kill -INT {holder}).") from None
            with disk_errors(f"Locking {self.path}"):
                os.truncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            yield
        finally:
            os.close(descriptor)

    @property
    def finished(self) -> bool:
        return (self.path / "summary.json").is_file()

    def write(self, name: str, content: Any) -> Path:
        """Writes a JSON file of the run, whole or not at all."""
        return self.write_text(name, json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Writes a text file of the run, whole or not at all."""
        path = self.path / name
        with disk_errors(f"Writing {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        return path

    def write_lines(self, name: str, records: Iterable[Any]) -> Path:
        """Writes a JSON Lines file of the run, whole or not at all."""
        return self.write_text(name, "".join(json.dumps(finite(record), ensure_ascii=False) + "\n" for record in records))

    def read(self, name: str) -> Any:
        """A JSON file of the run, or None where it is not there."""
        path = self.path / name
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The whole lines of metrics.jsonl; a line cut off by a kill is left out."""
        lines = []
        if self.metrics.is_file():
            for text in self.metrics.read_text(encoding="utf-8", errors="replace").split("\n"):
                with contextlib.suppress(ValueError):
                    line = json.loads(text)
                    if isinstance(line, dict) and "step" in line:
                        lines.append(line)
        return lines

    def rewind_metrics(self, step: int, evaluated: int | None = None) -> None:
        """Drops what was recorded after `step`, and evaluations after `evaluated`: a resumed run will record them again."""
        # What was seen after `step` updates is moved, and told, as the next step begins: after the checkpoint of that step.
        limits = {"evaluation": step if evaluated is None else max(evaluated, 0), "move": step - 1}
        lines = [line for line in self.read_metrics() if line["step"] <= limits.get(line.get("kind", ""), step)]
        kept = [json.dumps(line, ensure_ascii=False) for line in lines]
        with disk_errors(f"Writing {self.metrics}"):
            write_text(self.metrics, "".join(line + "\n" for line in kept))

    def replace_folder(self, target: Path, fill: Callable[[Path], None]) -> None:
        """Fills a folder aside, makes it durable, then puts it in the place of `target`."""
        with disk_errors(f"Writing {target}", "Free some space, then `burnish resume` this run."):
            aside = target.with_name(f".{target.name}.part")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            try:
                fill(aside)
                sync_tree(aside)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            shutil.rmtree(target, ignore_errors=True)
            os.rename(aside, target)
            sync_folder(target.parent)


def finite(content: Any) -> Any:
    """The same content with null for NaN and infinity, which JSON does not know."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return content


def write_text(path: Path, text: str) -> None:
    """Writes a file aside, makes it durable, renames it into place."""
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Makes every file and folder below `folder` durable."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    for path in [*(entry for entry in folder.rglob("*") if entry.is_dir()), folder]:
        sync_folder(path)


def next_free(parent: Path, name: str) -> Path:
    """`parent/name-1`, or the first number that is not taken."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"
