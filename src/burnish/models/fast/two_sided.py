"""Encoders and decoders that stand side by side, both packed: the decoder's tokens look at their own text of the encoder's alone.

The class's own forward runs. When it asks its encoder or its decoder while a pass is packed, these get the tokens of all texts in one
row; positions are counted anew for each text, and T5's table of relative positions is made for the longest text and not for all together.

Legend: B examples, S source tokens, T target tokens of the longest, N packed tokens, H heads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from burnish.models.fast.body import configs_of, signed
from burnish.models.fast.layout import Layout
from burnish.models.fast.passing import Passage

UNPACKED = ("attention_mask", "encoder_attention_mask")
"""What a stack is told of padding, of which there is none."""


class Stack:
    """The forward of an encoder or a decoder: its texts packed, where the pass is."""

    def __init__(self, module: Any, passage: Passage) -> None:
        self.module, self.passage = module, passage
        self.own: Callable[..., Any] = module.forward
        module.forward = signed(self.forward, self.own)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        now, ids = self.passage.now, inputs.get("input_ids")
        layout = None if now is None else now.layout_at(self.module.place)
        if layout is None or ids is None or ids.shape != (len(layout.lengths), layout.width):
            return self.own(*args, **inputs)
        told = {name: None for name in UNPACKED if name in inputs}
        return self.own(*args, **{**inputs, **told, "input_ids": ids.reshape(-1)[layout.source][None]})

    def remove(self) -> None:
        self.module.forward = self.own


class Positioned:
    """The forward of a table of positions, which counts the tokens of a row: told where each packed token stands in its text."""

    def __init__(self, module: Any, passage: Passage) -> None:
        self.module, self.passage = module, passage
        self.own: Callable[..., Any] = module.forward
        module.forward = signed(self.forward, self.own)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        now = self.passage.now
        layout = None if now is None or now.source is None else now.layout_at(self.module.place)
        return self.own(*args, **inputs) if layout is None else self.own(*args, **{**inputs, "position_ids": layout.positions})

    def remove(self) -> None:
        self.module.forward = self.own


class Biased:
    """Attention that adds a table (1, H, T, T) by relative position: one for the longest text serves all of them.

    Attention without a table of its own (a decoder's over its encoder) would make zeros for every pair of packed tokens, and gets one.
    """

    def __init__(self, module: Any, passage: Passage) -> None:
        self.module, self.passage = module, passage
        self.own, self.table = module.forward, module.compute_bias
        self.handed = "position_bias" in inspect.signature(self.own).parameters
        module.forward, module.compute_bias = signed(self.forward, self.own), self.compute_bias

    @property
    def layout(self) -> Layout | None:
        now = self.passage.now
        return None if now is None or now.source is None else now.layout_at(self.module.place)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        tableless = self.handed and not self.module.has_relative_attention_bias
        if tableless and self.layout is not None and inputs.get("position_bias") is None:
            inputs["position_bias"] = next(self.module.parameters()).new_zeros(1, 1, 1, 1)
        return self.own(*args, **inputs)

    def compute_bias(self, *lengths: int, **said: Any) -> torch.Tensor:
        longest = lengths if self.layout is None else [max(self.layout.lengths)] * len(lengths)
        table: torch.Tensor = self.table(*longest, **said)
        return table

    def remove(self) -> None:
        self.module.forward, self.module.compute_bias = self.own, self.table


class TwoSided:
    """Encoder and decoder of a model, ready to go packed. `remove` puts everything back."""

    def __init__(self, model: Any, passage: Passage) -> None:
        encoder, decoder = model.get_encoder(), model.get_decoder()
        self.passage, self.configs = passage, [*configs_of(encoder), *configs_of(decoder)]
        self.wrapped: list[Stack | Positioned | Biased] = [Stack(stack, passage) for stack in (encoder, decoder)]
        inner: list[nn.Module] = [module for stack in (encoder, decoder) for module in stack.modules() if module is not stack]
        self.wrapped += [Positioned(module, passage) for module in inner if counts_positions(module)]
        self.wrapped += [Biased(module, passage) for module in inner if hasattr(module, "compute_bias")]
        passage.encoder = frozenset(module.place for module in encoder.modules())
        passage.crossing = frozenset(module.place for name, module in decoder.named_modules() if name.rpartition(".")[2] in CROSSING)

    def remove(self) -> None:
        for one in reversed(self.wrapped):
            one.remove()
        self.passage.encoder = self.passage.crossing = frozenset()


CROSSING = ("encoder_attn", "EncDecAttention")
"""What architectures call a decoder's attention to its encoder."""


def counts_positions(module: nn.Module) -> bool:
    """Whether a module looks positions up, and can be told which."""
    return isinstance(module, nn.Embedding) and "position_ids" in inspect.signature(type(module).forward).parameters
