"""A model's body and its head apart: the body over packed tokens, the head over the rows that are read.

The body is what gives hidden states (BERT's encoder, a decoder without its output matrix). Whatever the class of the model makes of
them is its head, and is computed by the class's own forward, to which the body then only hands what was computed before. So no
architecture's head is written again here.

Legend: B examples, T tokens of the longest, N tokens of all, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

from burnish.models.fast import attention
from burnish.models.fast.passing import Passing


def signed(forward: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` with the signature of `own`, by which `generate` decides what it hands to a model."""

    @wraps(own)
    def called(*args: Any, **inputs: Any) -> Any:
        return forward(*args, **inputs)

    return called


def configs_of(module: Any) -> list[Any]:
    """Each configuration by which modules choose how they attend, once."""
    configs: Iterator[Any] = (getattr(one, "config", None) for one in module.modules())
    return list({id(config): config for config in configs if hasattr(config, "_attn_implementation")}.values())


def attend_packed(configs: Sequence[Any], now: Passing) -> None:
    """Attention goes through our function until the pass is over: blocks may be computed again in backward."""
    for config in configs:
        if (own := config._attn_implementation) != attention.NAME:
            config._attn_implementation_internal = attention.NAME
            now.closing.callback(setattr, config, "_attn_implementation_internal", own)


class Reached(Exception):
    """The body has given its hidden states: what its model makes of them is not wanted in this pass."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.hidden = hidden


class Handed:
    """What a body gives, made of hidden states that are there: by number or name, None for whatever else is asked."""

    def __init__(self, hidden: torch.Tensor, pooled: torch.Tensor | None) -> None:
        self.parts = (hidden,) if pooled is None else (hidden, pooled)
        self.last_hidden_state, self.pooler_output = hidden, pooled

    def __getitem__(self, place: Any) -> Any:
        return self.parts[place]

    def __getattr__(self, name: str) -> None:
        return None


class Body:
    """The part of a model that gives hidden states: computes them, or hands out what is given.

    `offset` is the position of a first token (RoBERTa counts from 2).
    """

    def __init__(self, module: Any, offset: int = 0) -> None:
        self.module, self.offset = module, offset
        self.own: Callable[..., Any] = module.forward
        self.given: torch.Tensor | None = None
        self.reaching = False
        self.configs = configs_of(module)
        module.forward = signed(self.forward, self.own)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        if self.given is not None:
            return Handed(self.given, self.pooled(self.given))
        found = self.own(*args, **inputs)
        if self.reaching:
            raise Reached(found[0])
        return found

    def pooled(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """(B, D) what the body's pooler makes of (B, T, D): it reads the first token of each example. None without a pooler."""
        pooler = getattr(self.module, "pooler", None)
        activation = getattr(self.module, "pooler_activation", None)  # ALBERT's stands beside its pooler
        if pooler is None or activation is None:
            return None if pooler is None else pooler(hidden)
        pooled: torch.Tensor = activation(pooler(hidden[:, 0]))
        return pooled

    def padded(self, model: Callable[..., Any], inputs: Mapping[str, Any]) -> torch.Tensor:
        """(B, T, D) hidden states as the model computes them by itself."""
        self.reaching = True
        try:
            model(**inputs)
        except Reached as found:
            return found.hidden
        finally:
            self.reaching = False
        raise RuntimeError("the model does not ask its body")

    def packed(self, inputs: Mapping[str, Any], now: Passing) -> torch.Tensor:
        """(N, D) hidden states of all tokens, without any padding; (S, D) where the last block computes those that are read."""
        layout = now.layout
        assert layout is not None, "the tokens are laid out before they go through"
        size, mask = inputs["input_ids"].shape, inputs["attention_mask"]
        taken = {
            name: value.reshape(-1)[layout.source][None] if isinstance(value, torch.Tensor) and value.shape == size else value
            for name, value in inputs.items()
            if value is not mask
        }
        attend_packed(self.configs, now)
        hidden: torch.Tensor = self.own(**taken, attention_mask=None, position_ids=layout.positions[None] + self.offset)[0][0]
        return hidden if layout.read is None or len(hidden) == len(layout.read) else hidden.index_select(0, layout.read)

    @contextmanager
    def handing_out(self, hidden: torch.Tensor) -> Iterator[None]:
        """Within, the body gives these hidden states (B, T, D) and computes nothing."""
        self.given = hidden
        try:
            yield
        finally:
            self.given = None
