"""Systems that take turns: each in a fresh process of its own, never two computing at once.

A process says that it is ready, waits, computes for a turn, tells how long that took and what came of it, and waits again. So whatever
else the machine does falls on all alike, and each system has its own memory, threads and allocator, as its users have them.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SETTLING = 0.1
"""Seconds between two turns, in which threads that still spin or prepare a batch come to rest."""


@dataclass(frozen=True)
class Turn:
    """What a system did in one turn. `loss` and `grad_norm` are means over its steps, None where a system has none."""

    seconds: float
    steps: int
    examples: int
    tokens: int
    loss: float | None
    grad_norm: float | None
    peak_memory: int


@dataclass
class Seat:
    """A system's side: it calls `ready` once, and `stepped` after every step; both wait until it is its turn.

    The steps are divided evenly over `rounds` turns, after a first turn of `warm` steps that is not counted.
    """

    pipe: Connection
    rounds: int
    warm: int
    quotas: list[int] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)
    began: float = 0.0

    def ready(self, steps: int) -> None:
        """`steps` is how many there will be in all. Raises ValueError where they are too few for so many turns."""
        each = (steps - self.warm) // self.rounds
        if each < 1:
            raise ValueError(f"{steps} steps are too few for {self.rounds} turns after {self.warm} steps of warm-up")
        self.quotas = [*([self.warm] if self.warm else []), *[each] * self.rounds]
        self.pipe.send(memory("VmRSS"))
        self.wait()

    def stepped(self, examples: int, tokens: int, loss: float | None = None, grad_norm: float | None = None) -> None:
        self.found.append({"examples": examples, "tokens": tokens, "loss": loss, "grad_norm": grad_norm})
        if len(self.found) < self.quotas[0]:
            return
        seconds = time.perf_counter() - self.began
        examples, tokens = (sum(step[name] for step in self.found) for name in ("examples", "tokens"))
        loss, grad_norm = (mean([step[name] for step in self.found]) for name in ("loss", "grad_norm"))
        self.pipe.send(Turn(seconds, len(self.found), examples, tokens, loss, grad_norm, memory("VmHWM")))
        self.found, self.quotas = [], self.quotas[1:]
        self.wait()

    def wait(self) -> None:
        """Until the next turn; where there is none any more the process ends, for what follows training is not measured."""
        try:
            self.pipe.recv()
        except EOFError:
            raise SystemExit(0) from None
        self.began = time.perf_counter()


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def memory(which: str) -> int:
    """Bytes that this process holds (VmRSS) or held at most (VmHWM); where the system does not tell, at most."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith(which))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Worker:
    """The harness's side of a system: its process. What it prints goes to `log`, which is shown where it fails."""

    def __init__(self, name: str, play: Callable[..., None], log: Path, rounds: int, warm: int, *arguments: Any) -> None:
        self.name, self.log = name, log
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=played, args=(play, log, Seat(theirs, rounds, warm), *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def heard(self) -> Any:
        """What the process says next. Raises RuntimeError with its last words where it has ended."""
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join(timeout=10)
            words = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{self.name} ended before its turns were over:\n{words}") from None

    def turn(self) -> Turn:
        time.sleep(SETTLING)
        self.pipe.send(True)
        found: Turn = self.heard()
        return found

    def end(self) -> None:
        self.pipe.close()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()


def played(play: Callable[..., None], log: Path, seat: Seat, *arguments: Any) -> None:
    """What the process of a system does, its output in a file."""
    printing_to(log)
    play(seat, *arguments)


def printing_to(log: Path) -> None:
    """Whatever this process prints from now on goes to a file."""
    with log.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)


def in_turns(workers: Sequence[Worker], rounds: int, warm: int, tell: Callable[[str], None]) -> list[dict[str, Turn]]:
    """A B C, A B C, ...: the turns of each round, after those of the warm-up."""
    started = {worker.name: worker.heard() for worker in workers}
    tell("ready, holding " + ", ".join(f"{name} {held / 1e6:,.0f} MB" for name, held in started.items()))
    found = [{worker.name: worker.turn() for worker in workers} for _ in range(rounds + bool(warm))]
    return found[bool(warm) :]
