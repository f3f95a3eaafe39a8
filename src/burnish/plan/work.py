"""The numbers of a piece of work: everything that memory and time of a run are computed from, without the run.

`run/planning.py` makes one from a recipe, on a model without its numbers. Lengths are those of the recipe's own rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LARGE = 32 * 2**20
"""Bytes from which the C library asks the system for a block of its own, and gives it back at once (glibc's largest mmap threshold)."""


@dataclass(frozen=True)
class Shape:
    """Dimensions of a transformer: L blocks (and `decoder_layers` of a second stack), D width, F inner width of the feed-forward part,
    H heads, G key-value heads, `head_width` of each, V tokens of the vocabulary. `gated` says whether the feed-forward part has three
    matrices in place of two."""

    layers: int
    decoder_layers: int
    width: int
    inner: int
    heads: int
    key_value_heads: int
    head_width: int
    vocabulary: int
    gated: bool = False

    @property
    def attention_width(self) -> int:
        """A = H times the width of a head."""
        return self.heads * self.head_width

    @property
    def key_value_width(self) -> int:
        """B = G times the width of a head."""
        return self.key_value_heads * self.head_width

    @property
    def two_sided(self) -> bool:
        """Whether an encoder's output is read by a decoder."""
        return self.decoder_layers > 0


@dataclass(frozen=True)
class Weights:
    """Parameters and their bytes.

    `learning` counts the numbers that the optimizer moves (of a sparse embedding the rows that occur), `trainable` those that could.
    `held` are bytes of the weights, `prepacked` what is laid out a second time for a CPU's products, `gradients` and `moments` bytes of
    all gradients and of the optimizer's state; `largest` those of the largest gradient, of which two are added up where it is `shared`
    by embeddings and output; `large` are all gradients of 32 MiB and more. `table` are input embeddings that are put together again
    whenever the model is written down (0 where they are whole), `copied` those of them that stay in memory a second time, as part of the
    file that is mapped. `widest` is the largest matrix in few bits once it is unpacked for a product, `unpacked` all of them, `cast` the
    matrices in the 16 bits of autocast, which last from forward to backward. `shapes` counts the different shapes of what is prepacked.
    """

    total: int
    trainable: int
    learning: int
    held: int
    gradients: int
    moments: int
    prepacked: int = 0
    largest: int = 0
    shared: bool = False
    large: int = 0
    table: int = 0
    copied: int = 0
    widest: int = 0
    unpacked: int = 0
    cast: int = 0
    shapes: int = 0


@dataclass(frozen=True)
class Kept:
    """Bytes that the forward pass of one micro-batch keeps for backward, as autograd itself counts them on a model without numbers:
    `below` the blocks, each of the `blocks`, `above` them; and each block's input, which is all that stays of one that is computed again.
    `positions` are the token positions of that micro-batch; `large` is what of all that lies in tensors of 32 MiB and more."""

    positions: int
    below: int
    blocks: tuple[int, ...]
    inputs: tuple[int, ...]
    above: int
    large: int = 0


@dataclass(frozen=True)
class Part:
    """Examples of a part of the data. `lengths` (N,) tokens of each that the model reads (of encoder and decoder together), `sources`
    (N,) of the encoder's alone where there are two stacks."""

    rows: int
    lengths: np.ndarray
    sources: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())


@dataclass(frozen=True)
class Writing:
    """Texts that an evaluation writes: how many, of how many new tokens at most, after prompts of `prompt` tokens; `beams` of each."""

    texts: int
    new_tokens: int
    prompt: int
    beams: int = 1


@dataclass(frozen=True)
class Teacher:
    """A model that a student learns from: bytes of its weights, its dimensions, whether it is asked `anew` at every step or once before the
    first, and the operations of that: of an update, or of all training rows. `hidden` and `attention` say what else it shows."""

    held: int
    shape: Shape
    anew: bool
    operations: float
    hidden: bool = False
    attention: bool = False


@dataclass(frozen=True)
class Work:
    """What a run has to do and to hold.

    `batches` are the first steps of an epoch, each cut into micro-batches, each of which is the list of its examples' lengths (packed, or
    padded to its longest); `steps` all updates of the run (None where time limits it). `read_share` is the share of positions that head and
    loss look at; `row_counts` how many numbers of positions micro-batches come to over the run; `budget` the positions of a micro-batch
    that the machine takes where the recipe says nothing. `frozen_blocks` are computed once before the first step, where that saves
    anything; `checkpoint_every` n-th block is computed again; `injected` says that a method hangs updates beside layers. `moments_on_host`
    and `activations_on_host` wait beside the GPU. `operations` are those of an update (a teacher's, asked anew, among
    them), `reading` those of the validation rows; `limit` are
    seconds after which the run ends, where time limits it.
    """

    shape: Shape
    weights: Weights
    kept: Kept
    parts: Mapping[str, Part]
    batches: Sequence[Sequence[Sequence[int]]]
    batch_size: int
    steps: int | None
    steps_per_epoch: int
    evaluations: int
    saves: int
    architecture: str
    task: str
    method: str
    optimizer: str
    precision: str
    itemsize: int
    budget: int
    max_length: int
    device: str
    packed: bool
    trimmed: bool
    deferred: bool
    read_share: float
    frozen_blocks: int = 0
    checkpoint_every: int | None = None
    in_backward: bool = False
    average: bool = False
    injected: bool = False
    moments_on_host: bool = False
    activations_on_host: bool = False
    quantized: str | None = None
    vocabulary_scores: bool = False
    row_counts: int = 0
    writing: Writing | None = None
    teacher: Teacher | None = None
    operations: float = 0.0
    reading: float = 0.0
    limit: float | None = None

    def computed(self, group: Sequence[int]) -> int:
        """Token positions that a micro-batch of these lengths takes."""
        return sum(group) if self.packed else len(group) * max(group)

    @property
    def micro_batches(self) -> float:
        """Micro-batches of a step, on average."""
        return float(np.mean([len(batch) for batch in self.batches]))

    @property
    def heaviest(self) -> Sequence[int]:
        """The micro-batch that keeps most: the one of most positions, and of those the one of the longest texts."""
        groups = [group for batch in self.batches for group in batch]
        return max(groups, key=lambda group: (self.computed(group), sum(length**2 for length in group)))
