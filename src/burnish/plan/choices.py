"""Ways to run a recipe, from the least change in what is learned to the greatest, and which of them fit a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.plan.machines import DRIVER, Machine
from burnish.plan.memory import Memory, memory
from burnish.plan.work import Work


@dataclass(frozen=True)
class Way:
    """A change to a recipe: what it is called, what it changes in the result (in a word), and its `KEY=VALUE`s."""

    name: str
    changes: str
    overrides: tuple[str, ...]


AS_WRITTEN = Way("as written", "", ())
WAYS = (
    AS_WRITTEN,
    Way("checkpointing", "nothing; a third more time", ("train.checkpoint_blocks=1",)),
    Way("update in backward", "nothing but clipping", ("train.in_backward=true", "train.max_grad_norm=null")),
    Way(
        "both of these",
        "nothing but clipping",
        ("train.checkpoint_blocks=1", "train.in_backward=true", "train.max_grad_norm=null"),
    ),
    Way("bf16 weights", "rounds small steps away", ("model.dtype=bfloat16",)),
    Way("8-bit optimizer", "rounds the moments", ("optimizer.name=adamw8bit",)),
    Way("LoRA", "updates of low rank", ("method=lora",)),
    Way("LoRA, checkpointing", "updates of low rank", ("method=lora", "train.checkpoint_blocks=1")),
    Way("QLoRA nf4", "low rank on 4-bit weights", ("method=lora", "model.quantize=nf4")),
    Way(
        "QLoRA nf4, checkpointing",
        "low rank on 4-bit weights",
        ("method=lora", "model.quantize=nf4", "train.checkpoint_blocks=1"),
    ),
    Way("full, fp32", "all weights learn", ("method=full", "model.quantize=null", "model.dtype=float32")),
    Way("full, bf16", "all weights learn, rounded", ("method=full", "model.quantize=null", "model.dtype=bfloat16")),
)
"""In the order of least change to what is learned; the last two are there to compare with, and are never chosen for a recipe."""

COMPARED = ("full, fp32", "full, bf16")


@dataclass(frozen=True)
class Choice:
    """A way with its numbers. `memory` is None where the recipe does not allow the way, and `reason` says why."""

    way: Way
    work: Work | None
    memory: Memory | None
    fits: bool
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Name, changes, memory by part, and whether it fits."""
        told = {"name": self.way.name, "overrides": list(self.way.overrides), "changes": self.way.changes, "fits": self.fits}
        return {**told, "memory": self.memory.to_json() if self.memory else None, "reason": self.reason}


def chosen(way: Way, work: Work, machine: Machine, process: int) -> Choice:
    """A way's memory on each device of a machine, and whether that is enough."""
    taken = memory(work, DRIVER if machine.kind == "cuda" else process, machine.devices)
    return Choice(way, work, taken, taken.peak <= machine.usable)


def first_fitting(choices: Sequence[Choice]) -> Choice | None:
    """The way of least change that fits."""
    return next((choice for choice in choices if choice.fits and choice.way.name not in COMPARED), None)


def advice(choices: Sequence[Choice], machine: Machine) -> str:
    """One sentence: what to do."""
    written = choices[0]
    if written.fits:
        return f"The recipe fits {machine.name} as it is written."
    found = first_fitting(choices)
    if found is not None:
        return f"As written it does not fit {machine.name}. The least change that does: {found.way.name} ({' '.join(found.way.overrides)})."
    return f"Nothing of this fits {machine.name}. {shortest(choices, machine)}"


def shortest(choices: Sequence[Choice], machine: Machine) -> str:
    """What would fit: the cheapest way, and what of it is too much."""
    able = [choice for choice in choices if choice.memory is not None]
    least = min(able, key=lambda choice: choice.memory.peak if choice.memory else 0)
    assert least.memory is not None and least.work is not None
    fixed = least.memory.process + least.memory.weights + least.memory.gradients + least.memory.optimizer
    passing = least.memory.activations + least.memory.logits + least.memory.passing
    if fixed > machine.usable:
        need = -(-least.memory.peak // 2**30)
        return (
            f"Even {least.way.name} holds {fixed / 1e9:.1f} GB before a single text goes through it: take a smaller model, or a machine "
            f"with {need} GB on each device."
        )
    share = (machine.usable - fixed) / max(1, passing)
    room = max(1, int(max(least.work.computed(group) for batch in least.work.batches for group in batch) * share))
    return (
        f"{least.way.name} would, with micro-batches of about {room:,} positions in place of "
        f"{least.work.computed(least.work.heaviest):,}: train.micro_batch={room}tok, and data.max_length below that."
    )


def to_json(choices: Sequence[Choice], machine: Machine) -> Mapping[str, Any]:
    """Everything, for a file."""
    return {
        "machine": {**vars(machine), "usable": machine.usable},
        "choices": [choice.to_json() for choice in choices],
        "advice": advice(choices, machine),
    }
