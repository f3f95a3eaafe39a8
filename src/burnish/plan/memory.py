"""Memory of a run by part and by moment, from the numbers of its work.

    training    weights + gradients + optimizer + activations + logits + passing
    evaluation  weights + optimizer + what one pass without gradients holds
    writing     weights + optimizer + keys and values of all texts
    saving      weights + optimizer + tables put together to be written
    asking      weights + a teacher + what one pass of it holds, before the first step; one that is asked anew is there at every moment

The peak is the largest of these, with the process beneath it. On a GPU that is all: torch asks for what is listed, in blocks of 2 MiB. On
a CPU the C library scatters what comes and goes, and keeps the holes until the work is of another kind; and oneDNN keeps a kernel for
every number of rows that it has met. Both are counted with what was measured of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.core.deferred import CHUNK, FEWEST, KEPT, MOST
from burnish.plan.work import LARGE, Shape, Work

FLOAT = 4
"""Bytes of a number in float32, in which scores and losses are computed."""

SCORES = 3
"""Copies of a chunk's logits that are there at once: themselves, their logarithms, and their gradient."""

EVALUATED = 4
"""Positions that an evaluation takes at once, in multiples of training's; texts that are written take as many times more."""

UNPACKED = 4
"""Copies in float32 of the largest parameter that an 8-bit optimizer makes on a CPU to move it: gradient, two moments, update."""

ROUNDED = 2 * 2**20
"""Bytes in which torch's allocator asks a GPU for memory."""

SAVED = 2
"""Copies of the input embeddings that are there while they are put together of the rows that learn and the others."""

KERNEL, KERNELS = 9 * 2**16, 64
"""Bytes of a kernel that oneDNN keeps of a product with a weight laid out for it (600 took 326 MiB), and how many it keeps."""

SCATTERED = 2
"""What a pass of an evaluation takes with the holes that glibc keeps of it, in multiples of what it needs at once (92 to 150 MiB for 45)."""

BESIDE = 3
"""Tensors as wide as the feed-forward part that an update beside a layer takes in an evaluation: itself, scaled, and added."""

HOLES, CUTS, READ_HOLES = 2, 3, 3
"""Holes of matrices that are unpacked from 4 bits for one product each, in multiples of all of them: for each micro-batch of a step, up to
`CUTS` of them, forward and backward each, and for a pass of an evaluation (a BERT of 22.7M, whose matrices come to 42 MB, took 170 MB with
one micro-batch a step and 394 with 2.35)."""

MADE_ANEW, BETWEEN = 1, 2
"""Holes of gradients, in multiples of those of less than 32 MiB: which are let go after every step and made anew where activations of
another size have been (46 to 84 MiB where these are 41 to 45); and which lie, from the second micro-batch on, where activations of the
one before have been, so that the next's do not fit in between (70 to 140 MiB more where they are 44 to 57, in six recipes)."""

RECOMPUTED = 0.5
"""The same of activations that are computed again: 149 MiB where 308 were not kept."""


@dataclass(frozen=True)
class Memory:
    """Bytes by part, while training, and by moment; `peak` is the largest moment, process included. `process` is what is there before
    any of it: the program, its libraries and the rows (on a GPU, what its driver keeps for the program)."""

    process: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    passing: int
    evaluation: int
    writing: int
    saving: int
    teacher: int = 0
    asking: int = 0

    @property
    def training(self) -> int:
        """Everything in a step of training."""
        fixed = self.process + self.weights + self.gradients + self.optimizer + self.teacher
        return fixed + self.activations + self.logits + self.passing

    @property
    def moments(self) -> dict[str, int]:
        """What is in memory at each of the moments of a run."""
        found = {"training": self.training, "evaluation": self.evaluation, "writing": self.writing, "saving": self.saving}
        return {**found, **({"asking": self.asking} if self.asking else {})}

    @property
    def peak(self) -> int:
        return max(self.moments.values())

    def to_json(self) -> dict[str, int]:
        """Every part in bytes."""
        return {**vars(self), "training": self.training, "peak": self.peak}


def memory(work: Work, process: int = 0, devices: int = 1) -> Memory:
    """What a run takes on each of `devices`, among which weights, gradients, optimizer's state and examples are divided (ZeRO, stage 3:
    Rajbhandari et al. 2020, arXiv:1910.02054): of a block, all of it is there while it is computed."""
    weights = work.weights
    gathered = 0 if devices == 1 else 2 * weights.held // max(1, len(work.kept.blocks))
    moments = 0 if work.moments_on_host else weights.moments
    average = weights.gradients if work.average else 0
    share = min(1.0, work.micro_batches / devices) if devices > 1 else 1.0
    fixed = [math.ceil(part / devices) for part in (weights_bytes(work), gradient_bytes(work), moments + average)]
    moving = [math.ceil(part * share) for part in (activation_bytes(work), logit_bytes(work))]
    parts = [rounded(part, work) for part in (fixed[0] + gathered, *fixed[1:], *moving, passing_bytes(work))]
    below = process + kernel_bytes(work)
    beside = math.ceil(resident_teacher(work) / devices)
    standing = below + parts[0] + parts[2] + beside
    names = ("weights", "gradients", "optimizer", "activations", "logits", "passing")
    return Memory(
        process=below,
        **dict(zip(names, parts, strict=True)),
        evaluation=standing + evaluation_bytes(work),
        writing=standing + writing_bytes(work),
        saving=standing + SAVED * weights.table,
        teacher=beside + answering_bytes(work),
        asking=below + parts[0] + asking_bytes(work) if work.teacher is not None and not work.teacher.anew else 0,
    )


def rounded(size: int, work: Work) -> int:
    """Bytes as the device gives them out."""
    return size if work.device == "cpu" else math.ceil(size / ROUNDED) * ROUNDED


def weights_bytes(work: Work) -> int:
    """Weights as they are held, and what lies beside them."""
    return work.weights.held + work.weights.copied + work.weights.prepacked


def gradient_bytes(work: Work) -> int:
    """All gradients, or, where weights move within backward, the largest that is there at once."""
    return min(work.weights.gradients, (1 + work.weights.shared) * work.weights.largest) if work.in_backward else work.weights.gradients


def activation_bytes(work: Work) -> int:
    """What the heaviest micro-batch keeps for backward, by policy: kept, computed again, waiting on the host."""
    if work.activations_on_host:
        return max(work.kept.blocks)
    kept = list(work.kept.blocks)
    if work.trimmed:
        kept[-1] = trimmed(work, kept[-1], work.kept.inputs[-1])
    above = work.kept.above * (work.read_share if work.deferred else 1)
    again = 0
    if work.checkpoint_every is not None:
        chosen = range(0, len(kept), work.checkpoint_every)
        again = max(kept[block] for block in chosen)
        kept = [work.kept.inputs[block] if block in chosen else size for block, size in enumerate(kept)]
    return work.kept.below + sum(kept) + math.ceil(above) + again


def trimmed(work: Work, kept: int, entered: int) -> int:
    """What a last block keeps of whose rows only those that are read are computed: its input, keys and values whole, the rest in part."""
    whole = min(kept, entered + 2 * work.shape.key_value_width * work.kept.positions * work.itemsize)
    return whole + math.ceil((kept - whole) * work.read_share)


def logit_bytes(work: Work) -> int:
    """A vocabulary's scores in training: of a chunk of rows where they are computed in chunks."""
    if not work.vocabulary_scores:
        return 0
    rows, size = work.kept.positions, work.shape.vocabulary
    if work.deferred:
        rows = math.ceil(work.read_share * decoded(work))
        rows = chunk(rows, size) if rows * size > KEPT else rows
    return SCORES * rows * size * FLOAT


def resident_teacher(work: Work) -> int:
    """Weights of a teacher that is asked at every step, and so there at every moment; one whose answers are kept is let go before."""
    return work.teacher.held if work.teacher is not None and work.teacher.anew else 0


def answering_bytes(work: Work) -> int:
    """What a teacher that is asked anew holds of the heaviest micro-batch: a pass without gradients, its scores, and what it shows of its
    insides, the hidden states of every block or their attention maps, H l^2 a block for a text of length l."""
    teacher = work.teacher
    if teacher is None or not teacher.anew:
        return 0
    shape, positions = teacher.shape, work.kept.positions
    blocks = shape.layers + shape.decoder_layers
    shown = (blocks + 1) * positions * shape.width if teacher.hidden else 0
    shown += blocks * shape.heads * sum(length**2 for length in work.heaviest) if teacher.attention else 0
    scores = logit_bytes(work) // SCORES if work.vocabulary_scores else 0
    return pass_bytes(shape, positions, work.itemsize) + shown * work.itemsize + scores


def asking_bytes(work: Work) -> int:
    """A teacher and a pass of it, while it answers all rows before the first step; nothing of the student has moments yet."""
    if work.teacher is None:
        return 0
    positions = min(EVALUATED * work.budget, work.parts["train"].tokens)
    holes = SCATTERED if work.device == "cpu" else 1
    return work.teacher.held + holes * pass_bytes(work.teacher.shape, positions, work.itemsize)


def pass_bytes(shape: Shape, positions: int, itemsize: int) -> int:
    """What a pass without gradients holds at once: two layers' worth of a block."""
    return positions * (2 * shape.inner + 4 * shape.width + 3 * shape.attention_width) * itemsize


def decoded(work: Work) -> int:
    """Positions of the side that writes."""
    train = work.parts["train"]
    if train.sources is None:
        return work.kept.positions
    return round(work.kept.positions * (1 - float(train.sources.sum()) / max(1, train.tokens)))


def chunk(rows: int, size: int) -> int:
    """Rows of a chunk of logits, as `core.deferred.Deferred.chunk` cuts them."""
    least = max(math.ceil(CHUNK / size), FEWEST, math.ceil(rows / MOST))
    return max(1, math.ceil(rows / max(1, rows // least)))


def passing_bytes(work: Work) -> int:
    """What comes and goes within a step: gradients of a block's hidden states, a second gradient of the largest parameter before it is
    added, matrices unpacked from few bits or cast to 16; and on a CPU the holes that these leave."""
    shape, weights = work.shape, work.weights
    block = work.kept.positions * (2 * shape.inner + 4 * shape.width) * work.itemsize
    again = weights.largest * (1 + weights.shared) if work.micro_batches > 1 or weights.shared else 0
    if work.device != "cpu":
        return block + again + weights.widest + weights.cast
    moved = UNPACKED * weights.largest if work.optimizer.endswith("8bit") else 0
    unpacked = 2 * unpacked_bytes(work, HOLES * min(CUTS, work.micro_batches))
    return block + max(again, moved) + weights.cast + anew_bytes(work) + unpacked + recomputed_bytes(work)


def anew_bytes(work: Work) -> int:
    """Holes that gradients leave on a CPU, where they stay until the end of a step."""
    if work.in_backward:
        return 0
    several = min(1.0, work.micro_batches - 1)
    return math.ceil((MADE_ANEW + BETWEEN * several) * (work.weights.gradients - work.weights.large))


def unpacked_bytes(work: Work, holes: float) -> int:
    """What matrices in few bits take on a CPU as they are unpacked one after another: each leaves `holes` that smaller pieces fill, but
    for those that are so large that the system gets them back."""
    weights = work.weights
    return weights.widest if weights.widest >= LARGE else max(weights.widest, math.ceil(holes * weights.unpacked))


def recomputed_bytes(work: Work) -> int:
    """Holes of activations that are computed again on a CPU."""
    if work.checkpoint_every is None:
        return 0
    chosen = range(0, len(work.kept.blocks), work.checkpoint_every)
    dropped = sum(work.kept.blocks[block] - work.kept.inputs[block] for block in chosen) - work.kept.large
    return math.ceil(RECOMPUTED * max(0, dropped))


def kernel_bytes(work: Work) -> int:
    """What oneDNN keeps of products with weights that are laid out for it: a kernel for each number of rows and each shape of a weight."""
    if work.device != "cpu" or not work.weights.prepacked:
        return 0
    return KERNEL * min(KERNELS, work.weights.shapes * work.row_counts)


def evaluation_bytes(work: Work) -> int:
    """What a pass without gradients holds of its largest micro-batch: two layers' worth of a block, and a chunk of scores."""
    positions = read_at_once(work, [int(part.lengths.max()) for name, part in work.parts.items() if name != "train"])
    shape, here = work.shape, work.device == "cpu"
    passing = pass_bytes(shape, positions, work.itemsize)
    passing += BESIDE * positions * shape.inner * work.itemsize if work.injected else 0
    passing = (SCATTERED if here else 1) * passing + (unpacked_bytes(work, READ_HOLES) if here else work.weights.widest)
    if not work.vocabulary_scores:
        return passing
    rows = chunk(math.ceil(work.read_share * positions), shape.vocabulary) if work.deferred else positions
    return passing + 2 * rows * shape.vocabulary * FLOAT


def read_at_once(work: Work, longest: Sequence[int]) -> int:
    """Positions of an evaluation's largest micro-batch."""
    most = max((part.tokens for name, part in work.parts.items() if name != "train"), default=0)
    return min(most, max([EVALUATED * work.budget, *longest])) if most else 0


def writing_bytes(work: Work) -> int:
    """Keys and values of the texts that are written together, and their scores: 2 L B bytes a token, for each block its keys and values;
    those of one block a second time, while texts come and go."""
    if work.writing is None:
        return 0
    shape, texts = work.shape, work.writing
    length = texts.prompt + texts.new_tokens
    room = EVALUATED * EVALUATED * work.budget // texts.beams
    together = max(1, min(texts.texts, room // length)) * texts.beams
    blocks = shape.decoder_layers or shape.layers
    cache = 2 * (blocks + 1) * shape.key_value_width * together * length * work.itemsize
    return cache + 2 * together * shape.vocabulary * FLOAT
