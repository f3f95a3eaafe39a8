"""Dropout that is drawn by the hash of `masks.py`, put in front of torch's own on the modules of a model.

A mask depends on (seed, step), on the place in the model, and on the token (its example's slot in the global batch and its position in
it): however a batch is cut into micro-batches, padded or packed, whole or trimmed, the same values are dropped, and a block that is
computed again in backward drops them again. Nothing has to be restored when a run is resumed.

Legend: B examples, T positions, N tokens without padding, n rows, D features, H heads, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from burnish.models.dropout import NAMED, Dropping, reads
from burnish.models.fast.layout import Rows
from burnish.models.fast.masks import attention_kept, head_keys, kept, masked, row_keys, scale
from burnish.models.fast.passing import Passage, Passing

__all__ = ["Keyed", "attention_kept", "drop", "key_dropouts", "keys_of"]


@dataclass(eq=False)
class Keyed:
    """The forward of a dropout module. Its probability and its mode stay where they were, and are read at every call."""

    module: nn.Dropout
    place: int
    passage: Passage

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        return drop(input, self.module.p, self.place, self.passage) if self.module.training else input


def key_dropouts(model: nn.Module, passage: Passage) -> tuple[int, int]:
    """Lets every dropout module of `model`, peft's too, and every hook that drops (`dropout.Dropping`) draw by key while a pass is on.

    Gives how many sites that now drop something are keyed, and how many there are: those that are not are plain numbers that an
    architecture hands to a function (its attention may draw them by `attention_kept`) and other kinds of dropout. A site's place is its
    number among the model's modules (`place` of each, beside `passage`); hooks come after them, and have to be there already
    (`dropout.place_dropout`).
    """
    passage.keyed = True
    modules = numbered(model)
    hooks = list(droppings(modules))
    probabilities = [hook.p for hook in hooks]
    for place, module in enumerate(modules):
        vars(module).update(passage=passage, place=place)  # where attention and blocks that are computed again find them
        if plain(module):
            module.forward = Keyed(module, place, passage)
            probabilities.append(module.p)
    for place, hook in enumerate(hooks, start=len(modules)):
        hook.draw = partial(drop, place=place, passage=passage)
    keyed = sum(p > 0 for p in probabilities)
    return keyed, keyed + sum(p > 0 for p in others(modules))


def numbered(model: Any) -> list[Any]:
    """The modules of a model in their order, those of what a method wrapped before the method's own."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return list(dict.fromkeys([*inner.modules(), *model.modules()]))


def plain(module: nn.Module) -> bool:
    """Whether a module is torch's dropout of single values, and not of whole channels, nor a class that goes its own way."""
    return isinstance(module, nn.Dropout) and type(module).forward is nn.Dropout.forward


def droppings(modules: Sequence[nn.Module]) -> Iterator[Dropping]:
    """The hooks that drop where an architecture has no dropout of its own, module by module."""
    for module in modules:
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            owner = getattr(hook, "__self__", hook)
            if isinstance(owner, Dropping):
                yield owner


def others(modules: Sequence[nn.Module]) -> Iterator[float]:
    """Probabilities of dropout that no module of torch's draws for."""
    for module in modules:
        if isinstance(module, nn.modules.dropout._DropoutNd):
            if not plain(module):
                yield module.p
            continue
        for name, value in vars(module).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and NAMED.search(name) and reads(module, name):
                yield value


@torch.compiler.disable
def drop(x: torch.Tensor, p: float, place: int, passage: Passage) -> torch.Tensor:
    """`x` with values dropped by key where a pass is on and its rows are known to be tokens, by torch's generator otherwise.

    In training alone, for it knows no mode. The gradient is that of x * mask * scale; backward keeps one byte an element.
    """
    if p <= 0:
        return x
    keys = None if passage.now is None or p >= 1 else keys_of(x, place, passage.now)
    if keys is None:
        return F.dropout(x, p)
    return masked(x, kept(keys, x.shape[-1], p).view(x.shape), scale(p))


def keys_of(x: torch.Tensor, place: int, now: Passing) -> torch.Tensor | None:
    """A key for each row of `x`, in order; None where it is not known of which tokens they are.

    Packed rows, such as (1, N, D), are known by their number. Padded are (B, T, D), and (B, D), which counts as position 0. Of attention's
    probabilities (B, H, Q, K) a row is a query of a head.
    """
    if x.dim() < 2:
        return None
    rows = now.rows_of(x.shape[:-1].numel(), place)
    if rows is not None and x.dim() < 4:
        return row_keys(rows, place, now.key_at(place))
    if len(x) != len(now.slots) or x.dim() > 4:
        return None
    slots = torch.tensor(list(now.slots), device=x.device)
    positions = torch.arange(1 if x.dim() == 2 else x.shape[-2], device=x.device).expand(len(slots), -1)  # (B, T)
    if x.dim() == 4:
        return head_keys(slots, positions, x.shape[1], place, now.key_at(place))
    return row_keys(Rows(slots[:, None], positions), place, now.key_at(place))
