"""What the savings leave out on this data, counted on its first batches: sentences for the header and the report."""

from __future__ import annotations

from collections.abc import Iterator

from burnish import build
from burnish.core.protocols import Batch
from burnish.engine.batches import Order, positions
from burnish.engine.step import Step

LOOKED_AT = 100
"""Batches whose lengths are counted."""

TAKEN_APART = 8
"""Batches that are made, to see which positions are read."""


def saving_notes(parts: build.Parts, order: Order, step: Step) -> list[str]:
    """A sentence for each saving: how much it leaves out, or why it is not used."""
    fast = parts.fast
    dropped = "dropout drawn by key at {} of {} places".format(*fast.keyed)
    return [
        padding_note(parts, order, step),
        *reading_notes(parts, order),
        *([dropped] if fast.keyed[1] else []),
        *parts.savings,
    ]


def padding_note(parts: build.Parts, order: Order, step: Step) -> str:
    """How many positions of whole padded batches are not computed."""
    batches = [order.batch(number) for number in range(min(order.steps_per_epoch, LOOKED_AT))]
    lengths = [[int(step.examples.lengths[index]) for index in batch] for batch in batches]
    whole = sum(len(batch) * max(batch) for batch in lengths)
    left = 1 - sum(positions(batch, step.budget) for batch in lengths) / whole
    if parts.fast.unpadded:
        return f"unpadded: {left:.0%} fewer positions computed than in whole padded batches"
    reason = parts.fast.reasons.get("unpadded", "the recipe says so")
    return f"padded, for {reason}; micro-batches of like length: {left:.0%} fewer positions computed than in whole padded batches"


def reading_notes(parts: build.Parts, order: Order) -> Iterator[str]:
    """At which share of the positions the last block is whole, and scores over the vocabulary are computed."""
    fast, savings = parts.fast, parts.recipe.engine.savings
    share = read_share(parts, order)
    if fast.trimmed:
        yield f"last block: queries and feed-forward at {share:.0%} of the positions, the others are read by nothing"
    elif savings.trimmed and "trimmed" in fast.reasons and fast.unpadded:
        yield f"last block whole, for {fast.reasons['trimmed']}"
    if fast.deferred:
        yield f"scores over the vocabulary at {share:.0%} of the positions, in chunks"
    elif reason := fast.reasons.get("supervised_logits"):
        yield f"scores over the vocabulary at all positions, for {reason}"


def read_share(parts: build.Parts, order: Order) -> float:
    """The share of real positions (of a decoder's, where there are two sides) whose outputs are read."""
    batches: list[Batch] = [
        parts.learner.collate(parts.examples["train"], order.batch(step), (parts.recipe.train.seed, step))
        for step in range(min(order.steps_per_epoch, TAKEN_APART))
    ]
    read = sum(len(batch.examples) if batch.read is None else int(batch.read.sum()) for batch in batches)
    if parts.fast.reading == "all" and any(batch.read is None for batch in batches):
        return 1.0
    return read / max(1, sum(positions_of(batch) for batch in batches))


def positions_of(batch: Batch) -> int:
    """Real positions of a micro-batch; of an encoder-decoder those of its decoder, padding included."""
    if batch.read is not None and "decoder_input_ids" in batch.inputs:
        return batch.read.numel()
    return int(batch.inputs["attention_mask"].sum())
