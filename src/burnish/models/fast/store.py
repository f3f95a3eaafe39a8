"""Hidden states that were computed once, example by example: a flat file that is memory-mapped, or memory where there is no disk.

    CACHE/prefixes/KEY/
      rows.bin       one row of D numbers after another
      index.npz      which rows are an example's, and of which of its tokens
      meta.json      the numbers' kind and D

The operating system holds in memory what fits and is used, so that a small store costs no reading and a large one no memory.

Legend: E examples of the data, B of a micro-batch, n rows of these, R rows of all, D width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol
from zipfile import BadZipFile

import numpy as np
import torch


@dataclass(frozen=True)
class Store:
    """`rows` (R, D); example e has `counts[e]` of them from `starts[e]` on, which are of its tokens `positions[...]`."""

    rows: torch.Tensor
    starts: np.ndarray
    counts: np.ndarray
    positions: np.ndarray

    @classmethod
    def opened(cls, folder: Path) -> Store | None:
        """The store in a folder, memory-mapped; None where there is none that can be read."""
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            with np.load(folder / "index.npz") as index:
                starts, counts, positions = index["starts"], index["counts"], index["positions"]
            kind, width = getattr(torch, meta["dtype"]), int(meta["width"])
            shape = (len(positions), width * kind.itemsize)
            # Private pages: torch wants memory that it could write to, and nobody writes.
            raw = np.memmap(folder / "rows.bin", np.uint8, "c", shape=shape)
            if (folder / "rows.bin").stat().st_size != raw.nbytes:
                return None
            os.utime(folder)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None
        return cls(torch.from_numpy(raw).view(kind), starts, counts, positions)

    @property
    def bytes(self) -> int:
        return self.rows.numel() * self.rows.element_size()

    def taken(self, examples: Sequence[int]) -> tuple[torch.Tensor, list[int], np.ndarray]:
        """(n, D) the rows of some examples, in that order; how many each has; (n,) which of its tokens they are of."""
        parts = [slice(int(self.starts[example]), int(self.starts[example] + self.counts[example])) for example in examples]
        positions = np.concatenate([self.positions[part] for part in parts])
        return torch.cat([self.rows[part] for part in parts]), [part.stop - part.start for part in parts], positions


class Sink(Protocol):
    """Where rows of bytes go, one group after another."""

    def append(self, rows: np.ndarray) -> None: ...


@dataclass(frozen=True)
class InFile:
    """Rows go to the end of a file."""

    stream: BinaryIO

    def append(self, rows: np.ndarray) -> None:
        self.stream.write(rows.data)


class InMemory:
    """Rows go into memory set aside for at most `size` bytes, of which only what is used is taken. Raises MemoryError beyond."""

    def __init__(self, size: int) -> None:
        self.array, self.used = np.empty(size, np.uint8), 0

    def append(self, rows: np.ndarray) -> None:
        end = self.used + rows.nbytes
        if end > len(self.array):
            raise MemoryError(f"the hidden states take more than {len(self.array):,} bytes")
        self.array[self.used : end] = rows.reshape(-1)
        self.used = end

    @property
    def filled(self) -> np.ndarray:
        return self.array[: self.used]


@dataclass
class Filling:
    """A store that is being filled: the rows that went to `sink`, and whose they are. `examples` belong in it.

    It was `added` to so many times; `learning` says whether a gradient would flow into what was added.
    """

    sink: Sink
    examples: int
    dtype: torch.dtype = torch.float32
    width: int = 0
    rows: int = 0
    added: int = 0
    learning: bool = False
    starts: np.ndarray = field(init=False)
    counts: np.ndarray = field(init=False)
    positions: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.starts, self.counts = np.zeros(self.examples, np.int64), np.zeros(self.examples, np.int64)

    def add(self, examples: Sequence[int], rows: torch.Tensor, counts: Sequence[int], positions: torch.Tensor) -> None:
        """`rows` (n, D) of some examples, one after another: so many each, of these tokens."""
        kept = rows.detach().contiguous().cpu()
        self.learning |= rows.requires_grad
        self.dtype, self.width = kept.dtype, kept.shape[1]
        starts = self.rows + np.cumsum(counts) - counts
        self.starts[list(examples)], self.counts[list(examples)] = starts, counts
        self.positions.append(positions.cpu().numpy().astype(np.int32))
        self.sink.append(kept.view(torch.uint8).numpy())
        self.rows, self.added = self.rows + len(kept), self.added + 1

    @property
    def bytes(self) -> int:
        return self.rows * self.width * self.dtype.itemsize

    def write_index(self, folder: Path) -> None:
        """What makes of the rows in `folder` a store."""
        np.savez(folder / "index.npz", starts=self.starts, counts=self.counts, positions=np.concatenate(self.positions))
        meta = {"dtype": str(self.dtype).removeprefix("torch."), "width": self.width}
        (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")

    def store(self, raw: np.ndarray) -> Store:
        """The store, of the bytes that its rows came to."""
        rows = torch.from_numpy(raw.reshape(self.rows, -1)).view(self.dtype)
        return Store(rows, self.starts, self.counts, np.concatenate(self.positions))


def free_memory() -> int:
    """Bytes of memory that could be taken: of the machine, and of the group of processes that this one is limited with."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # not Linux, or no limit
        pass
    return max(0, min(limits))
