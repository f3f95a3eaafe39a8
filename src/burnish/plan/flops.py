"""Floating-point operations of training and of reading, by formula.

A matrix of n numbers that T positions go through costs 2 n T operations forward, and as much again for each of the two gradients that
backward may ask for: that of the matrix (where it learns), and that of what went in (where something below learns). Attention over
sequences of lengths l costs 4 A sum(l^2) forward, A being heads times their width: scores and weighed values, two operations each; its
backward takes 2.5 times that in kernels that compute the scores again (torch's own), 2 times where the weights are kept (with dropout).

    step = forward + backward + what is computed again (train.checkpoint_blocks)

Norms, activations, dropout and the optimizer are left out: they cost memory traffic, not operations. Kaplan et al. 2020,
arXiv:2001.08361, section 2.1, count the same, as 6 N a token for a model that learns whole, without attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

PRODUCT = 2
"""Operations of a number of a matrix and a position: a product and a sum."""

AGAIN, KEPT = 2.5, 2.0
"""Backward of attention in multiples of its forward: with the scores computed again, or kept."""


@dataclass(frozen=True)
class Block:
    """Numbers in the matrices of a block. `own` are the architecture's, `learning` those of them that learn, `added` the method's;
    `entry` and `added_entry` those that the block's input goes through first (queries, keys, values) and nothing that learns before them,
    `keys` and `added_keys` those of keys and values alone, `exit` those of `own` whose result backward asks for nowhere, `crossed` those
    that an encoder's output goes through (a decoder's keys and values of it, which are not among `own`)."""

    own: int
    learning: int
    added: int = 0
    entry: int = 0
    keys: int = 0
    added_entry: int = 0
    added_keys: int = 0
    exit: int = 0
    crossed: int = 0
    crossed_learning: int = 0
    decoder: bool = False

    @property
    def learns(self) -> bool:
        return bool(self.learning or self.added or self.crossed_learning)


@dataclass(frozen=True)
class Network:
    """A model as operations see it: its blocks from the lowest, `width` (A) of attention over all heads, and its `head`.

    `head_rows` says whether the head goes over every position that is read (a vocabulary) or once over each text; `below` whether what
    stands below the blocks learns; `trimmed` whether the last block is computed for the rows that are read alone; `dropped` whether
    attention's weights are dropped; `packed` whether texts stand one after another without padding; `again` is n where every n-th
    block is computed again in backward; `ahead` how many of the lowest blocks are computed once, before the first step.
    """

    blocks: Sequence[Block]
    width: int
    head: int
    head_learning: int
    head_rows: bool = True
    below: bool = True
    trimmed: bool = False
    dropped: bool = False
    packed: bool = True
    again: int | None = None
    ahead: int = 0

    @cached_property
    def two_sided(self) -> bool:
        """Whether a decoder stands above an encoder; asked for every block of every text, and so looked up once."""
        return any(block.decoder for block in self.blocks)


@dataclass(frozen=True)
class Texts:
    """A micro-batch: `lengths` of its texts (a decoder's where there are two stacks, and `sources` its encoder's), and how many of its
    positions are `read`."""

    lengths: Sequence[int]
    read: float
    sources: Sequence[int] = field(default=())


def padded(lengths: Sequence[int], packed: bool) -> Sequence[int]:
    """Lengths as they are computed."""
    return lengths if packed or not lengths else [max(lengths)] * len(lengths)


def forward(network: Network, texts: Texts, training: bool = False) -> float:
    """Operations of a forward pass over a micro-batch; in `training` without the blocks that were computed ahead."""
    blocks = sum(block_forward(network, place, texts) for place in range(network.ahead if training else 0, len(network.blocks)))
    return blocks + PRODUCT * network.head * head_positions(network, texts)


def block_forward(network: Network, place: int, texts: Texts) -> float:
    """Operations of a block's forward pass."""
    block, lengths = network.blocks[place], side(network, place, texts)
    positions, pairs = sum(lengths), sum(length**2 for length in lengths)
    crossing = PRODUCT * block.crossed * sum(padded(texts.sources, network.packed)) if block.decoder else 0
    if trimmed(network, place):
        read = min(texts.read, positions)
        first = PRODUCT * (block.keys + block.added_keys) * positions
        return first + PRODUCT * (block.own + block.added) * read + scores(network, pairs * read / max(positions, 1))
    return PRODUCT * (block.own + block.added) * positions + crossing + scores(network, pairs + crossed_pairs(network, block, texts))


def backward(network: Network, texts: Texts) -> float:
    """Operations of the backward pass over a micro-batch."""
    blocks = sum(block_backward(network, place, texts) for place in range(network.ahead, len(network.blocks)))
    passed_on = network.head if reaches_down(network) else 0
    return blocks + PRODUCT * head_positions(network, texts) * (network.head_learning + passed_on)


def block_backward(network: Network, place: int, texts: Texts) -> float:
    """Operations of a block's backward pass, and of its second forward where it has one; none where no gradient comes to it."""
    block, lengths = network.blocks[place], side(network, place, texts)
    lower = network.below or any(other.learns for other in network.blocks[:place])
    if not lower and not block.learns:
        return 0.0
    numbers: float = block.own + block.learning + 2 * block.added - (0 if lower else block.entry + block.added_entry)
    positions, pairs = sum(lengths), float(sum(length**2 for length in lengths)) + crossed_pairs(network, block, texts)
    total, read = 0.0, float(positions)
    if trimmed(network, place):
        read = min(texts.read, positions)
        inward = lower or not block.entry
        of_keys = block.keys * (inward + block.learning / max(block.own, 1)) + 2 * block.added_keys
        numbers, pairs = numbers - of_keys, pairs * read / max(positions, 1)
        total += PRODUCT * of_keys * positions
    total += PRODUCT * numbers * read + scores(network, pairs) * (KEPT if network.dropped else AGAIN)
    if block.decoder:
        total += PRODUCT * (block.crossed + block.crossed_learning) * sum(padded(texts.sources, network.packed))
    recomputed = network.again is not None and place % network.again == 0
    return total + (block_forward(network, place, texts) - PRODUCT * block.exit * read if recomputed else 0.0)


def step(network: Network, groups: Sequence[Texts]) -> float:
    """Operations of an update over micro-batches."""
    return sum(forward(network, texts, training=True) + backward(network, texts) for texts in groups)


def side(network: Network, place: int, texts: Texts) -> Sequence[int]:
    """The lengths that a block computes: an encoder's or a decoder's."""
    return padded(texts.sources if network.two_sided and not network.blocks[place].decoder else texts.lengths, network.packed)


def trimmed(network: Network, place: int) -> bool:
    return network.trimmed and place == len(network.blocks) - 1


def scores(network: Network, pairs: float) -> float:
    """Operations of attention over so many pairs of positions."""
    return 2 * PRODUCT * network.width * pairs


def crossed_pairs(network: Network, block: Block, texts: Texts) -> float:
    """Pairs of a decoder's positions with its encoder's."""
    if not block.decoder:
        return 0.0
    pairs = zip(padded(texts.lengths, network.packed), padded(texts.sources, network.packed), strict=True)
    return float(sum(own * source for own, source in pairs))


def head_positions(network: Network, texts: Texts) -> float:
    """Positions that go through the head."""
    return texts.read if network.head_rows else len(texts.lengths)


def reaches_down(network: Network) -> bool:
    """Whether a gradient leaves the head downwards."""
    return network.below or any(block.learns for block in network.blocks)
