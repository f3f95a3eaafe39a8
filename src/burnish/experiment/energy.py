"""Energy that the machine took while something ran, where it counts it: Intel's and AMD's RAPL counters, and NVIDIA's of the GPU.

The counters are of whole chips, whoever uses them: what runs beside is counted too.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
EVERY_SECONDS = 60.0
"""How often counters are read on the way: one that wraps around (RAPL's do, after minutes to hours) is seen to do so."""


@dataclass(frozen=True)
class Counter:
    """A counter of a chip in joules, which begins anew at `wraps` (None: never)."""

    name: str
    joules: float
    wraps: float | None = None


@dataclass
class Energy:
    """What was counted: `joules` is None where nothing counts; `sources` are the chips."""

    joules: float | None = None
    sources: tuple[str, ...] = ()


@contextmanager
def counted(gpu: bool = False) -> Iterator[Energy]:
    """Counts from here to the end of the block; with `gpu`, that of the first GPU too. The result is there after the block."""
    found, total, over = Energy(), Total(gpu), threading.Event()

    def watch() -> None:
        while not over.wait(EVERY_SECONDS):
            total.read()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
        total.read()
        if total.last:
            found.joules, found.sources = total.joules, tuple(sorted(total.last))


class Total:
    """The sum of what all counters have risen since the first reading."""

    def __init__(self, gpu: bool) -> None:
        self.gpu, self.joules = gpu, 0.0
        self.last = {counter.name: counter for counter in counters(gpu)}

    def read(self) -> None:
        for counter in counters(self.gpu):
            before = self.last.get(counter.name, counter)
            risen = counter.joules - before.joules
            self.joules += risen if risen >= 0 else risen + (counter.wraps or 0.0)
            self.last[counter.name] = counter


def counters(gpu: bool) -> list[Counter]:
    """Every counter that can be read: packages of processors (in which cores are contained), and the GPU's."""
    found = [counter for counter in map(package, sorted(POWERCAP.glob("intel-rapl:?")) if POWERCAP.is_dir() else []) if counter]
    joules = nvidia() if gpu else None
    return [*found, *([Counter("GPU 0", joules)] if joules is not None else [])]


def package(folder: Path) -> Counter | None:
    """A processor's counter; None where only the administrator may read it, as is usual."""
    with suppress(OSError, ValueError):
        microjoules = [int((folder / name).read_text()) for name in ("energy_uj", "max_energy_range_uj")]
        return Counter(f"{(folder / 'name').read_text().strip()} ({folder.name})", microjoules[0] / 1e6, microjoules[1] / 1e6)
    return None


def nvidia() -> float | None:
    """Joules of the first GPU since its driver was loaded (NVML, from Volta on); None where there is no such counter."""
    with suppress(OSError, AttributeError):
        library, device, millijoules = ctypes.CDLL(NVML), ctypes.c_void_p(), ctypes.c_ulonglong()
        found = library.nvmlInit_v2() == 0 and library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0
        if found and library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules)) == 0:
            return millijoules.value / 1000
    return None
