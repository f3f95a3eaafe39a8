"""Memory from the numbers of a piece of work: what each setting saves, moments, devices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from burnish.plan.choices import AS_WRITTEN, WAYS, Choice, advice, chosen, first_fitting
from burnish.plan.machines import DRIVER, Machine, named
from burnish.plan.memory import ROUNDED, memory
from burnish.plan.work import Kept, Part, Shape, Weights, Work, Writing

MIB = 2**20
WEIGHTS = Weights(total=10**7, trainable=10**7, learning=10**7, held=40 * MIB, gradients=40 * MIB, moments=80 * MIB, largest=4 * MIB)
KEPT = Kept(positions=512, below=MIB, blocks=(10 * MIB,) * 4, inputs=(MIB,) * 4, above=MIB)


def work(**changes: Any) -> Work:
    lengths = np.full(100, 64)
    made = Work(
        shape=Shape(4, 0, 256, 1024, 4, 4, 64, 1000),
        weights=WEIGHTS,
        kept=KEPT,
        parts={"train": Part(100, lengths), "validation": Part(20, lengths[:20])},
        batches=[[[64] * 8, [64] * 8]] * 5,
        batch_size=16,
        steps=20,
        steps_per_epoch=7,
        evaluations=3,
        saves=3,
        architecture="bert",
        task="classify",
        method="full",
        optimizer="adamw",
        precision="fp32",
        itemsize=4,
        budget=512,
        max_length=64,
        device="cuda",
        packed=True,
        trimmed=False,
        deferred=False,
        read_share=0.1,
    )
    return replace(made, **changes)


def test_each_part_is_what_it_is() -> None:
    found = memory(work())
    assert (found.weights, found.gradients, found.optimizer, found.activations) == (40 * MIB, 40 * MIB, 80 * MIB, 42 * MIB)
    assert (
        found.peak
        == found.training
        == sum(getattr(found, name) for name in ("weights", "gradients", "optimizer", "activations", "passing"))
    )
    assert found.evaluation < found.training and found.saving == found.weights + found.optimizer


def test_what_each_setting_saves() -> None:
    plain = memory(work())
    assert memory(work(checkpoint_every=1)).activations == (4 + 1 + 1 + 10) * MIB
    assert memory(work(checkpoint_every=2)).activations == (2 + 20 + 1 + 1 + 10) * MIB
    assert memory(work(in_backward=True)).gradients == 4 * MIB
    assert memory(work(moments_on_host=True)).optimizer == 0
    assert memory(work(activations_on_host=True)).activations < plain.activations
    assert memory(work(average=True)).optimizer == plain.optimizer + 40 * MIB
    assert memory(work(trimmed=True)).activations < plain.activations


def test_scores_of_a_vocabulary_whole_and_in_chunks() -> None:
    shape = replace(work().shape, vocabulary=128_000)
    whole = memory(work(shape=shape, vocabulary_scores=True)).logits
    chunks = memory(work(shape=shape, vocabulary_scores=True, deferred=True, read_share=1.0)).logits
    few = memory(work(shape=shape, vocabulary_scores=True, deferred=True, read_share=0.05)).logits
    assert whole == 3 * 512 * 128_000 * 4 and whole > chunks > few > 0


def test_texts_that_are_written_hold_keys_and_values() -> None:
    written = memory(work(writing=Writing(texts=8, new_tokens=64, prompt=64)))
    cache = 2 * 5 * 256 * 8 * 128 * 4
    assert written.writing == written.weights + written.optimizer + cache + 2 * 8 * 1000 * 4
    assert memory(work(writing=Writing(10**6, 64, 64))).writing < 10 * written.writing


def test_devices_share_weights_gradients_moments_and_examples() -> None:
    one, eight = memory(work()), memory(work(), devices=8)
    assert (eight.gradients, eight.optimizer) == (one.gradients // 8 + -(one.gradients // 8) % ROUNDED, one.optimizer // 8)
    assert one.weights // 8 < eight.weights < one.weights
    assert eight.activations < one.activations


def test_a_gpu_gives_memory_in_blocks_and_its_driver_takes_some() -> None:
    odd = replace(WEIGHTS, held=40 * MIB + 1)
    assert memory(work(weights=odd)).weights == 42 * MIB and memory(work(weights=odd, device="cpu")).weights == 40 * MIB + 1
    assert chosen(AS_WRITTEN, work(), named("1x24GB"), 0).memory.process == DRIVER  # type: ignore[union-attr]


def test_what_a_cpu_keeps_beside() -> None:
    packed = replace(WEIGHTS, prepacked=20 * MIB, shapes=3)
    assert 2 * MIB < memory(work(device="cpu", weights=packed, row_counts=2)).process < 6 * MIB
    assert memory(work(device="cpu", weights=packed, row_counts=10**6)).process < 40 * MIB
    assert memory(work(device="cpu"), process=500 * MIB).peak == memory(work(device="cpu")).peak + 500 * MIB


def choices(sizes: dict[str, int], machine: Machine) -> list[Choice]:
    """A choice for each way by name, with weights of so many MiB."""
    ways = {way.name: way for way in WAYS}
    return [chosen(ways[name], work(weights=replace(WEIGHTS, held=size * MIB)), machine, 0) for name, size in sizes.items()]


def test_the_first_that_fits_in_the_order_of_least_change() -> None:
    machine = named("1x1GB")
    found = choices({"as written": 2000, "bf16 weights": 900, "LoRA": 100, "QLoRA nf4": 50, "full, bf16": 10}, machine)
    assert [choice.fits for choice in found] == [False, False, True, True, True]
    first = first_fitting(found)
    assert first is not None and first.way.name == "LoRA"
    assert "LoRA (method=lora)" in advice(found, machine)
    assert advice(choices({"as written": 10}, machine), machine) == "The recipe fits 1x1GB as it is written."


def test_where_nothing_fits_what_would_is_said() -> None:
    machine = named("1x1GB")
    found = choices({"as written": 9000, "LoRA": 5000}, machine)
    assert first_fitting(found) is None
    assert "Nothing of this fits 1x1GB. Even LoRA holds" in advice(found, machine)
    tight = Machine("small", 1, memory(work()).peak + DRIVER - 4 * MIB)
    assert "micro-batches of about" in advice([chosen(AS_WRITTEN, work(), tight, 0)], tight)
    assert "train.micro_batch=" in advice([chosen(AS_WRITTEN, work(), tight, 0)], tight)


def test_on_a_cpu_gradients_between_micro_batches_leave_holes() -> None:
    """Measured: 287 MB of a step beside weights and moments where gradients are 48, activations 77 and micro-batches 2.35."""
    one, two = ([[[64] * 8]] * 5, [[[64] * 8, [64] * 8]] * 5)
    found = [memory(work(device="cpu", batches=batches)).passing for batches in (one, two)]
    assert found[1] - found[0] == 2 * WEIGHTS.gradients + WEIGHTS.largest
    apart = [memory(work(device="cpu", batches=batches, in_backward=True)).passing for batches in (one, two)]
    assert apart[1] - apart[0] == WEIGHTS.largest


def test_on_a_cpu_matrices_of_four_bits_leave_holes_in_every_micro_batch() -> None:
    """Measured: 170 MB of holes with one micro-batch a step, 394 with 2.35, where the matrices come to 42."""
    weights = replace(WEIGHTS, unpacked=42, widest=2, gradients=0, largest=0)
    without = replace(weights, unpacked=0)
    found = []
    for share in (1, 2, 3, 4):
        batches = [[[64] * 8] * share] * 5
        one, other = (memory(work(device="cpu", batches=batches, weights=each)).passing for each in (weights, without))
        found.append(one - other + 2 * 2)
    assert found == [168, 336, 504, 504]
