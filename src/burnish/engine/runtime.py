"""The machine under the loop: device, number format, seeds, memory. The only module that names a device."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch

from burnish.core.errors import BurnishError
from burnish.core.modes import in_mode
from burnish.core.protocols import Batch
from burnish.engine.batches import Budget

# Small on a CPU: 512 positions already fill its cores, and groups of like length hold little padding.
CPU_BUDGET = 512
GPU_BUDGET = 16384

KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""How many kernels oneDNN, and torch's layer above it, keep. Each is made for one number of rows, and packed micro-batches hardly ever have
the same: of 1,024, which both keep by default, 600 took 326 MiB and were no faster than made anew (64: 28 MiB)."""


class Runtime:
    """Places tensors and models, and knows when the memory is used up."""

    def __init__(self, device: str = "auto", precision: str = "fp32") -> None:
        for name, number in KERNELS.items():
            os.environ.setdefault(name, number)  # both are read at the first product that goes through oneDNN
        self.device = torch.device(choose(device))
        self.precision = precision

    @property
    def budget(self) -> Budget:
        """The micro-batch to begin with where the recipe says `auto`."""
        return Budget(CPU_BUDGET if self.device.type == "cpu" else GPU_BUDGET)

    def pin(self, batch: Batch) -> Batch:
        """The batch in memory from which a GPU copies by itself, so that nobody waits for the copy; where there is none, as it is."""
        if self.device.type == "cuda":
            batch.inputs = {name: tensor.pin_memory() for name, tensor in batch.inputs.items()}
            batch.targets = {name: tensor.pin_memory() for name, tensor in batch.targets.items()}
            batch.read = None if batch.read is None else batch.read.pin_memory()
        return batch

    def place(self, batch: Batch) -> Batch:
        batch.inputs = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.inputs.items()}
        batch.targets = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.targets.items()}
        batch.read = None if batch.read is None else batch.read.to(self.device, non_blocking=True)
        return batch

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.float16 if self.precision == "fp16" else torch.bfloat16)

    def seed(self, seed: int, step: int) -> None:
        """Sets every generator as a function of (seed, step), so that a step draws the same however the run came to it."""
        words = np.random.SeedSequence([seed, step]).generate_state(4)
        # On a CPU not torch.manual_seed, which keeps a stack trace for every kind of device that is not there: half a millisecond.
        (torch.default_generator if self.device.type == "cpu" else torch).manual_seed(int(words[0]) << 32 | int(words[1]))
        random.seed(int(words[2]))
        np.random.seed(int(words[3]))

    def use_threads(self, number: int) -> bool:
        """Computes with `number` threads from now on; whether that is a change."""
        changed = torch.get_num_threads() != number
        if changed:
            torch.set_num_threads(number)
        return changed

    def peak_memory(self) -> int:
        """Bytes at the highest point so far: of the GPU where one computes, else of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def wait(self) -> None:
        """Until everything that was begun has been computed."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def release(self) -> None:
        """Gives cached memory back after a failed attempt."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextlib.contextmanager
    def tidied(self) -> Iterator[None]:
        """Around work of another kind than training (evaluating, saving): a CPU's memory that was freed before it, and after it, goes back.

        Tensors of one kind of work leave holes into which those of another do not fit, and glibc keeps the holes: a tenth of a run's
        peak for full fine-tuning, a third with weights in few bits. Giving them back takes some milliseconds.
        """
        give_back = trimming() if self.device.type == "cpu" else None
        try:
            if give_back is not None:
                give_back(0)
            yield
        finally:
            if give_back is not None:
                give_back(0)


@lru_cache(maxsize=1)
def trimming() -> Callable[[int], int] | None:
    """glibc's malloc_trim, which gives whole pages of freed memory back to the system; None where the C library is another."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return found


def choose(device: str) -> str:
    """The device that `auto` means here. Raises BurnishError where a named one is not there."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        raise BurnishError(f"train.device={device}: this machine has no such device, or this torch cannot use it. Say auto or cpu.")
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a smaller micro-batch might fit."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


@contextlib.contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module's mode and every generator is as it was."""
    python, legacy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with in_mode(model, training=False), torch.random.fork_rng(devices=devices), torch.no_grad():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
