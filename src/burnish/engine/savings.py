"""The recipe's `engine` section: work that the loss never sees, and that is left out."""

from __future__ import annotations

from typing import Literal

from burnish.core.spec import Spec


class Savings(Spec):
    """What is not computed. None of these changes a result beyond rounding (`burnish verify` shows it); each can be switched off.

    One that a model or a recipe does not allow is left out by itself, and the run's header says so.
    """

    unpadded: bool = True
    """No padding: the tokens of a micro-batch stand one after another, and attention runs within each sequence."""

    trimmed: bool = True
    """In the last block, queries, attention's output and the feed-forward part only at positions that the head or the loss reads."""

    supervised_logits: bool = True
    """A language model's scores only at positions that are supervised, in chunks, and the gradients of its tables added in place."""

    frozen_prefix: bool = True
    """What frozen blocks at the bottom give is computed once for each example, and kept."""

    sparse_embedding: bool = True
    """Gradient and optimizer state only for the tokens that occur in the training rows."""

    prefetch: bool = True
    """The next batch is prepared in a thread beside the one that trains."""


class Engine(Spec):
    """How the machine does its work: the same mathematics, whatever stands here."""

    savings: Savings = Savings()
    """Work that is left out because the loss never sees it."""

    dropout: Literal["keyed", "torch"] = "keyed"
    """What draws dropout: a hash of (seed, step, place, example, position), fast and the same however a batch is cut, or torch's generator."""

    prepacked: bool = True
    """On a CPU, weights that do not learn (all, in prediction) are laid out once as its matrix products want them (held twice, up to 1 GB), and LoRA is added within them."""

    compile: bool = False
    """Blocks go through torch.compile: minutes at the start, faster steps on GPUs."""

    forecast: bool = True
    """Before the first step, time and memory of the run are foretold, from a few steps that leave no trace; seconds at the start."""
