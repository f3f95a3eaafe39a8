"""The dimensions of a model, read off its configuration and its parts."""

from __future__ import annotations

from typing import Any

from burnish.core.protocols import Anatomy
from burnish.plan.formulas import letters
from burnish.plan.work import Shape


def shape_of(config: Any, place: Anatomy) -> Shape:
    """The dimensions of a model, by its configuration; those that it does not tell are 0."""
    text = config.get_text_config() if not config.is_encoder_decoder else config
    found = letters(text)
    stacks = [name.rpartition(".")[0] for name in place.block_modules]
    first = sum(stack == stacks[0] for stack in stacks)
    gated = any(word in " ".join(place.linears) for word in ("gate", "wi_1"))
    second = len(stacks) - first if config.is_encoder_decoder else 0
    return Shape(
        layers=getattr(text, "num_hidden_layers", 0) or first if len(stacks) == first else first,
        decoder_layers=second,
        width=found.get("D", 0),
        inner=found.get("F", 0),
        heads=found.get("H", 0),
        key_value_heads=found.get("G", 0),
        head_width=found.get("W", 0),
        vocabulary=int(getattr(text, "vocab_size", 0)),
        gated=gated,
    )
