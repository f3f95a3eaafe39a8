"""Encodes many rows in several processes, in their order, and says how far it is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from burnish.core.errors import DataError
from burnish.core.protocols import Row
from burnish.data.encode import Encoded

CHUNK_CHARACTERS = 1_000_000
CHUNK_ROWS = 4_000
WORTH_PROCESSES = 4
"""Fewer chunks than this are encoded where they are: processes would take longer to start than they save."""

Encode = Callable[[Sequence[Row]], Encoded]
_task: tuple[Encode, Sequence[Row]] | None = None


def encode(rows: Sequence[Row], make: Encode, processes: int | None, progress: Callable[[int, int], None]) -> Encoded:
    """What `make` gives for all rows. `make` must treat each row for itself; `progress` is told rows done and rows in all.

    Processes are forked, so that neither rows nor tokenizer are copied to them; where forking is not safe (macOS, Windows) there
    is one process, whose tokenizer still uses all cores.
    """
    cuts = list(chunks(rows))
    number = processes or os.cpu_count() or 1
    if number > 1 and len(cuts) >= WORTH_PROCESSES and sys.platform == "linux":
        parts = list(told(in_processes(rows, make, cuts, number), cuts, progress))
    else:
        parts = list(told((make(rows[cut]) for cut in cuts), cuts, progress))
    return Encoded.joined(parts, [cut.stop - cut.start for cut in cuts])


def chunks(rows: Sequence[Row]) -> Iterator[slice]:
    """Stretches of rows of about equal work."""
    start = characters = 0
    for index, row in enumerate(rows, start=1):
        characters += sum(len(value) if isinstance(value, (str, list)) else 1 for value in row.values.values())
        if characters >= CHUNK_CHARACTERS or index - start >= CHUNK_ROWS or index == len(rows):
            yield slice(start, index)
            start, characters = index, 0


def told(parts: Iterator[Encoded], cuts: Sequence[slice], progress: Callable[[int, int], None]) -> Iterator[Encoded]:
    for cut, part in zip(cuts, parts, strict=True):
        progress(cut.stop, cuts[-1].stop)
        yield part


def in_processes(rows: Sequence[Row], make: Encode, cuts: Sequence[slice], number: int) -> Iterator[Encoded]:
    """The parts in order. Whatever happens to this process meanwhile, the others end with it."""
    global _task
    _task = (make, rows)  # what forked processes find in their copy of the memory
    pool = ProcessPoolExecutor(min(number, len(cuts)), multiprocessing.get_context("fork"), initializer=prepare)
    try:
        yield from pool.map(encode_chunk, cuts)
    except BrokenProcessPool as error:
        raise DataError("a process that tokenized was killed (out of memory?): try data.processes=1.") from error
    finally:
        _task = None
        pool.shutdown(wait=True, cancel_futures=True)


def prepare() -> None:
    """Leaves the handling of Ctrl-C to the parent, and the cores to the other processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def encode_chunk(cut: slice) -> Encoded:
    assert _task is not None
    make, rows = _task
    return make(rows[cut])
