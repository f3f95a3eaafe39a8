"""The operations of a piece of work, on the model without numbers that its memory is traced on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from burnish.core.protocols import Anatomy
from burnish.plan import flops
from burnish.plan.work import Part, Work
from burnish.run.blueprint import blueprint

SAMPLED = 256
"""Texts of a part whose operations stand for all."""


def counted(model: Any, place: Anatomy, work: Work) -> Work:
    """The work with its `operations` of an update, on average over the first batches, and those of `reading` the validation rows once."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    each_text = not work.vocabulary_scores and type(inner).__name__.endswith("ForSequenceClassification")
    network = blueprint(
        model,
        place,
        {
            "head_rows": not each_text,
            "trimmed": work.trimmed,
            "packed": work.packed,
            "again": work.checkpoint_every,
            "ahead": work.frozen_blocks,
        },
    )
    sources = sources_of(work.parts["train"])
    steps = [flops.step(network, [texts(work, group, sources) for group in batch]) for batch in work.batches]
    return replace(work, operations=float(np.mean(steps)), reading=reading(network, work))


def reading(network: flops.Network, work: Work, name: str = "validation") -> float:
    """Operations of reading a part of the rows once, by some of them."""
    part = work.parts.get(name)
    if part is None:
        return 0.0
    sources = sources_of(part)
    chosen = np.sort(part.lengths)[np.linspace(0, len(part.lengths) - 1, min(SAMPLED, len(part.lengths))).astype(int)]
    return float(np.mean([flops.forward(network, texts(work, [int(length)], sources)) for length in chosen])) * len(part.lengths)


def sources_of(part: Part) -> dict[int, int]:
    """Length of a text of both sides -> its encoder's, where there are two."""
    return {} if part.sources is None else dict(zip(part.lengths.tolist(), part.sources.tolist(), strict=True))


def texts(work: Work, group: Sequence[int], sources: dict[int, int]) -> flops.Texts:
    """A micro-batch as operations see it."""
    if not sources:
        return flops.Texts(group, work.read_share * sum(group))
    first = [sources[length] for length in group]
    own = [both - source for both, source in zip(group, first, strict=True)]
    return flops.Texts(own, work.read_share * sum(own), first)
