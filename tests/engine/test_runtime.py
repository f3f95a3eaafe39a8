"""Seeds, devices, and what counts as memory running out."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from burnish.core.errors import BurnishError
from burnish.core.protocols import Batch
from burnish.engine.runtime import Runtime, is_out_of_memory

Draw = tuple[float, float, float]


def draw(seed: int, step: int) -> Draw:
    Runtime("cpu").seed(seed, step)
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def test_every_generator_is_a_function_of_seed_and_step() -> None:
    first = draw(3, 5)
    torch.rand(7), np.random.rand(7), random.random()
    assert draw(3, 5) == first
    others = [draw(seed, step) for seed in range(4) for step in range(8)]
    for generator in range(3):
        assert len({found[generator] for found in others}) == len(others)


def test_seeds_do_not_meet_in_their_steps() -> None:
    """Step 1 of seed 0 is not step 0 of seed 1, as it would be were the two added."""
    assert draw(0, 1) != draw(1, 0) and draw(2**40, 0) != draw(0, 0)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_recognized(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("out of memory"), KeyError("x"), OSError("No space left")])
def test_other_errors_are_not_out_of_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_out_of_memory_of_this_machine_is_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.float32)
    assert is_out_of_memory(caught.value)


def test_a_device_that_is_not_here_is_refused() -> None:
    missing = next(name for name, here in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if not here)
    with pytest.raises(BurnishError, match=f"train.device={missing}"):
        Runtime(missing)
    assert Runtime("auto").device.type in ("cpu", "cuda", "mps")


def test_autocast_is_on_for_bf16_only() -> None:
    product = torch.ones(2, 2)
    with Runtime("cpu", "bf16").autocast():
        assert (product @ product).dtype == torch.bfloat16
    with Runtime("cpu", "fp32").autocast():
        assert (product @ product).dtype == torch.float32


def test_place_moves_inputs_and_targets_and_memory_is_measured() -> None:
    runtime = Runtime("cpu")
    batch = runtime.place(Batch({"input_ids": torch.ones(2, 3)}, {"labels": torch.ones(2)}, [0, 1], 2.0, 5))
    assert batch.inputs["input_ids"].device == batch.targets["labels"].device == runtime.device and batch.slots == 6
    assert runtime.peak_memory() > 50e6
    runtime.release()


def test_pinning_leaves_batches_as_they_are_where_no_gpu_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch() -> Batch:
        return Batch({"input_ids": torch.ones(2, 3)}, {"labels": torch.ones(2)}, [0, 1], 2.0, 5, torch.ones(2, 3))

    runtime, pinned = Runtime("cpu"), list[torch.Tensor]()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor + 1)
    assert torch.equal(runtime.pin(batch()).inputs["input_ids"], torch.ones(2, 3)) and not pinned
    runtime.device = torch.device("cuda")
    found = runtime.pin(batch())
    assert found.read is not None and len(pinned) == 3
    assert all(tensor.flatten()[0] == 2 for tensor in (found.inputs["input_ids"], found.targets["labels"], found.read))


def test_on_a_cpu_the_seed_is_that_of_torch() -> None:
    Runtime("cpu").seed(3, 5)
    seed = torch.initial_seed()
    drawn = torch.rand(4)
    torch.manual_seed(seed)
    assert torch.equal(torch.rand(4), drawn)
