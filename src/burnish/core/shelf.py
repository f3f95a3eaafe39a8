"""Entries on disk that were made once and are keyed by content: whole or not there at all, and bounded.

    CACHE/KIND/KEY/      a folder for each entry

An entry is filled aside and renamed into place, so that no other process ever reads half of one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def root(kind: str) -> Path:
    """Where entries of a kind are: in `$BURNISH_CACHE`, else in `burnish` in the user's cache folder."""
    chosen = os.environ.get("BURNISH_CACHE")
    if chosen:
        return Path(chosen).expanduser() / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "burnish" / kind


@contextmanager
def making(folder: Path, most: int) -> Iterator[Path]:
    """A folder to fill, which becomes the entry `folder` when all went well; entries of its kind are then kept within `most` bytes.

    Raises OSError where the disk refuses; nothing half is left then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    drop_leftovers(folder.parent)
    aside = Path(tempfile.mkdtemp(prefix=f".{os.getpid()}-", dir=folder.parent))
    try:
        yield aside
        for path in aside.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        if folder.exists():  # unreadable, or another process was faster
            shutil.rmtree(folder)
        os.rename(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    bound(folder, most)


def drop_leftovers(parent: Path) -> None:
    """Removes what processes that were killed while writing have left."""
    for path in parent.glob(".*-*"):
        owner = path.name[1:].partition("-")[0]
        if owner.isdigit() and not running(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def bound(newest: Path, most: int) -> None:
    """Drops the entries that have not been used for longest, never the newest, until their kind takes at most `most` bytes."""
    entries = sorted((path for path in newest.parent.iterdir() if not path.name.startswith(".")), key=lambda path: -path.stat().st_mtime)
    total = 0
    for path in [newest, *(path for path in entries if path != newest)]:
        total += sum(file.stat().st_size for file in path.iterdir())
        if total > most and path != newest:
            shutil.rmtree(path, ignore_errors=True)
