"""The lowest blocks, where nothing learns, are computed once for each example: training starts above them.

What a frozen block gives depends on the example alone, as long as nothing is dropped below it and its tokens stay the same. So before the
first step all examples go through the frozen blocks, without gradients and sorted by length, and what the highest of them gives is kept.

Everything is computed ahead, always in the same micro-batches, and not when an example is first met: so a run that is resumed, or that
finds what another run left, gets the same bits.

Legend: B examples in a micro-batch, T tokens of the longest.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from burnish.core import shelf
from burnish.core.errors import count
from burnish.core.modes import in_mode
from burnish.core.protocols import Anatomy, Batch
from burnish.models.fast.fingerprint import fingerprint
from burnish.models.fast.passing import Passage
from burnish.models.fast.replay import Enough, Replay
from burnish.models.fast.store import Filling, InFile, InMemory, Store, free_memory
from burnish.models.frozen import frozen_blocks

MOST_BYTES = 20 * 10**9
"""What may be kept on disk, of all models and data together; and never more than half of what is free."""

SHARE = 0.25
"""Of the free memory, where the disk has no room."""

CPU_POSITIONS, GPU_POSITIONS = 1024, 8192
"""B T of the micro-batches that are computed ahead. Fixed, for a number's last bits depend on what is computed beside it."""

CLOSE, ROUGH = {torch.float32: 1e-5, torch.float64: 1e-9}, 1e-2
"""How far the losses of the trial may be apart, by what hidden states are held in."""

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Feed:
    """How the training examples go through the model.

    `collate` gives the micro-batch of some examples, on the model's device; `forward` puts it through the model, `losses` gives what
    training makes smaller, one value an example: both in the run's precision.
    """

    examples: Any
    collate: Callable[[Sequence[int]], Batch]
    forward: Callable[[Batch], Any]
    losses: Callable[[Batch], torch.Tensor]


@dataclass(frozen=True)
class Terms:
    """What of the recipe decides whether hidden states can be kept, and which they are.

    `redrawn`: the tokens of an example change from step to step (rows in other words, hidden words). `epochs` of the run, None where
    time limits it. `form` names what the last bits depend on: precision, savings.
    """

    redrawn: bool
    epochs: float | None
    form: str


@dataclass
class Prefix:
    """The frozen blocks of a model, of which `expected` bytes are to be kept in `folder`."""

    replay: Replay
    feed: Feed
    told: str
    expected: int
    folder: Path
    before: bool = False

    def fill(self, tell: Tell = lambda what, done, total: None) -> None:
        """Computes ahead what no earlier run has left; `tell` hears how many examples are done.

        To be called before the first step. Where disk and memory turn out to have no room, the blocks are computed at each step, as ever.
        """
        if self.replay.store is None:
            found = Store.opened(self.folder)
            self.before = found is not None
            self.replay.store = found or self.kept_on_disk(tell) or self.kept_in_memory(tell)

    def kept_on_disk(self, tell: Tell) -> Store | None:
        if self.expected > room_on_disk(self.folder):
            return None
        try:
            with shelf.making(self.folder, MOST_BYTES) as aside:
                with (aside / "rows.bin").open("wb") as stream:
                    filling = self.computed(Filling(InFile(stream), len(self.feed.examples)), tell)
                filling.write_index(aside)
        except OSError:
            return None
        return Store.opened(self.folder)

    def kept_in_memory(self, tell: Tell) -> Store | None:
        room = int(SHARE * free_memory())
        if self.expected > room:
            return None
        try:
            memory = InMemory(room)
            return self.computed(Filling(memory, len(self.feed.examples)), tell).store(memory.filled)
        except MemoryError:
            return None

    def computed(self, filling: Filling, tell: Tell) -> Filling:
        """All examples through the frozen blocks, and no further."""
        replay, feed = self.replay, self.feed
        slow = next(replay.model.parameters()).device.type == "cpu"
        groups, done = cut(feed.examples.lengths, CPU_POSITIONS if slow else GPU_POSITIONS), 0
        replay.filling, replay.stopping = filling, True
        try:
            with in_mode(replay.model, training=True), torch.no_grad():
                for group in groups:
                    batch = feed.collate(group)
                    with replay.passage.of(batch, range(len(group)), (0, 0)):
                        try:
                            feed.forward(batch)
                        except Enough:
                            done += len(group)
                    tell("examples through the frozen blocks", done, len(feed.examples))
        finally:
            replay.filling, replay.stopping = None, False
        return filling

    def notes(self) -> list[str]:
        """What is saved, in a sentence for the header and the report."""
        store, blocks = self.replay.store, self.told
        if store is None:
            return [f"{blocks} do not learn, but there is no room to keep what they give: they are computed at each step"]
        how = "was kept by an earlier run" if self.before else "is computed once for each example and kept"
        return [f"{blocks} do not learn: what they give {how} ({size_of(store.bytes)})"]


def frozen_prefix(model: nn.Module, anatomy: Anatomy, passage: Passage, feed: Feed, terms: Terms) -> Prefix | str:
    """Lets training start above the frozen blocks, once the prefix is filled; or why it cannot, to be put after "for".

    Takes the forwards of the blocks as it finds them: what else is to be put on them (a trimmed last block) comes before. Two short
    examples go through the model, with the frozen blocks and with what they gave, and their losses must be the same.
    """
    blocks = frozen_blocks(model, anatomy)
    if reason := refusal(model, anatomy, blocks, terms):
        return reason
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    modules = [inner.get_submodule(name) for name in anatomy.block_modules[:blocks]]
    total = len(anatomy.block_modules)
    replay = Replay(model, modules, blocks == total, passage)
    expected = tried(replay, feed)
    if isinstance(expected, str):
        replay.remove()
        return expected
    folder = shelf.root("prefixes") / fingerprint(model, anatomy, blocks, feed.examples, terms.form)
    prefix = Prefix(replay, feed, "all blocks" if blocks == total else f"blocks 1 to {blocks} of {total}", expected, folder)
    if reason := useless(prefix, terms):
        replay.remove()
        return reason
    return prefix


def refusal(model: nn.Module, anatomy: Anatomy, blocks: int, terms: Terms) -> str | None:
    """Why what the lowest blocks give is not the same each time."""
    if not blocks:
        return "no block at the bottom is frozen"
    if terms.redrawn:
        return "the tokens of an example change from step to step"
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    with in_mode(model, training=True):
        if any(inner.get_submodule(name).training for name in anatomy.block_modules[:blocks]):
            return "`dropout.frozen` lets the frozen blocks drop values"
    if any(getattr(inner.config, name, None) for name in ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")):
        return "the model leaves out blocks at random (layerdrop)"
    return None


def useless(prefix: Prefix, terms: Terms) -> str | None:
    """Why it is not worth while, or not possible, to keep what the frozen blocks give."""
    if (prefix.folder / "meta.json").exists():
        return None
    if terms.epochs is not None and terms.epochs < 1:
        return "the run reads less than all rows once"
    room = max(room_on_disk(prefix.folder), int(SHARE * free_memory()))
    if prefix.expected > room:
        return f"what the frozen blocks give would take about {size_of(prefix.expected)}, and there is room for {size_of(room)}"
    return None


def tried(replay: Replay, feed: Feed) -> int | str:
    """Bytes that all examples will take, going by two short ones; or why the blocks cannot be replaced by what they gave.

    Asked are what the blocks give under two draws, and the loss with them and without.
    """
    pair = two_short(feed.examples)
    batch = feed.collate(pair)
    found: list[Store] = []
    for seed in (0, 1):
        memory = BytesIO()
        replay.filling = filling = Filling(InFile(memory), len(feed.examples))
        try:
            live = measured(replay, feed, batch, seed)
        finally:
            replay.filling = None
        if filling.added != 1:
            return f"its blocks do not run one after another (one of them ran {count(filling.added, 'time')})"
        if filling.learning:
            return "something learns below them"
        found.append(filling.store(np.frombuffer(memory.getbuffer(), np.uint8)))
    if not torch.equal(found[0].rows, found[1].rows):
        return "something is drawn at random in the frozen blocks or below"
    if reason := differing(replay, feed, batch, found[1], live):
        return reason
    lengths = feed.examples.inputs["input_ids"].lengths
    return math.ceil(filling.bytes * lengths.sum() / max(1, lengths[pair].sum()))


def differing(replay: Replay, feed: Feed, batch: Batch, store: Store, live: torch.Tensor) -> str | None:
    """How the losses come out otherwise where the blocks only give what they gave; None where they do not."""
    replay.store = store
    try:
        again = measured(replay, feed, batch, 1)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        return f"its blocks hand on more than a hidden state ({type(error).__name__})"
    finally:
        replay.store = None
    close = CLOSE.get(store.rows.dtype, ROUGH)
    if torch.allclose(live, again, rtol=close, atol=close):
        return None
    return f"the loss looks at more than they give (that of two short rows differs by {float((live - again).abs().max()):.1e})"


def measured(replay: Replay, feed: Feed, batch: Batch, seed: int) -> torch.Tensor:
    """(B,) losses in training, with the same draws for the same seed."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with (
        in_mode(replay.model, training=True),
        torch.random.fork_rng(devices=devices),
        replay.passage.of(batch, range(len(batch.examples)), (seed, 0)),
    ):
        torch.manual_seed(seed)
        return feed.losses(batch).detach().float()


def two_short(examples: Any) -> list[int]:
    """The shortest example of which something is learned, and the next that is longer (or as long)."""
    lengths = np.asarray(examples.lengths)
    order = [int(index) for index in np.argsort(lengths, kind="stable") if examples.weights[index]]
    longer = [index for index in order if lengths[index] > lengths[order[0]]]
    return [order[0], *(longer or order[1:])[:1]]


def cut(lengths: np.ndarray, positions: int) -> list[list[int]]:
    """All examples in groups, longest first, each within so many positions (or a single example)."""
    groups: list[list[int]] = []
    for index in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        if groups and (len(groups[-1]) + 1) * int(lengths[groups[-1][0]]) <= positions:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def room_on_disk(folder: Path) -> int:
    """Bytes that may be written to where `folder` is to be."""
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    return min(MOST_BYTES, shutil.disk_usage(there).free // 2)


def size_of(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
