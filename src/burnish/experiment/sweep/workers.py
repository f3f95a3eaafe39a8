"""Who works on a trial, and whether that process is still there: what tells a trial that was killed from one that is computed elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.core.errors import disk_errors

BEAT_SECONDS = 60
STALE_SECONDS = 600
"""A trial of another machine that gave no sign of life for so long is taken as lost."""


def this_worker() -> dict[str, Any]:
    """This process: the machine (within it the space in which processes are numbered), the number, and when it began."""
    return {"machine": machine(), "process": os.getpid(), "began": began(os.getpid())}


def machine() -> str:
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def began(process: int) -> str | None:
    """When a process of this machine began, in the kernel's ticks since it started; None where that is not told, or it has ended and
    only its parent has not asked yet how (a zombie)."""
    with contextlib.suppress(OSError, IndexError):
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    return None


def gone(worker: Mapping[str, Any] | None) -> bool:
    """Whether a worker of this machine has ended, however it did; of other machines nothing is known here."""
    if worker is None or worker["machine"] != machine():
        return False
    try:
        os.kill(worker["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return began(worker["process"]) != worker["began"]


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock of this file, and holds it. The system drops it when the process ends."""
    with disk_errors(f"Locking {path}"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def beating(storage: Any, trial_id: int) -> Iterator[None]:
    """Tells a study's storage every minute that the trial is alive, where the storage keeps such signs."""
    if not hasattr(storage, "record_heartbeat"):
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            storage.record_heartbeat(trial_id)

    storage.record_heartbeat(trial_id)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
