"""A layer of a KV cache with room for tokens to come, whose rows leave and join.

Legend: B texts, H heads, T columns that are filled, D size of a head. All texts end at the last filled column; what stands before
the first token of a shorter one is padding, which the attention mask hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

# Columns added at once: what is there is copied every so many tokens instead of at each.
ROOM = 64


class Room(DynamicLayer):
    """transformers' growing layer, but that tokens are written in place: `keys` and `values` (B, H, T, D) are views of more than they show."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds (B, H, t, D) for t tokens more, and gives all there are."""
        filled = self.get_seq_length()
        end = filled + key_states.shape[2]
        if filled == 0:
            self.lazy_initialization(key_states, value_states)
            self.held = (key_states, value_states)
        else:
            if end > self.held[0].shape[2]:
                self.held = (roomy([self.keys], end), roomy([self.values], end))
            self.held[0][:, :, filled:end] = key_states
            self.held[1][:, :, filled:end] = value_states
        self.show(end)
        return self.keys, self.values

    def turn(self, staying: torch.Tensor, unused: int, joining: Room | None, owners: torch.Tensor) -> None:
        """Keeps the rows `staying` without their first `unused` columns, and puts `joining`'s rows `owners` below them."""
        keys, values = [], []
        if len(staying):
            keys.append(self.keys[staying, :, unused:])
            values.append(self.values[staying, :, unused:])
        if joining is not None:
            if not self.is_initialized:
                self.lazy_initialization(joining.keys, joining.values)
            keys.append(joining.keys[owners])
            values.append(joining.values[owners])
        width = max(part.shape[2] for part in keys)
        self.held = (roomy(keys, width), roomy(values, width))
        self.show(width)

    def show(self, width: int) -> None:
        self.keys, self.values = self.held[0][:, :, :width], self.held[1][:, :, :width]


def roomy(parts: Sequence[torch.Tensor], width: int) -> torch.Tensor:
    """The parts (b, H, t, D) one below the other in `width` + ROOM columns: the first starts at column 0 where it is alone, all end at the same.

    The rest is zeros: what is not a number would go through attention's zero weights.
    """
    longest = max(part.shape[2] for part in parts)
    _, heads, _, dim = parts[0].shape
    whole = parts[0].new_zeros(sum(map(len, parts)), heads, width + ROOM, dim)  # (B, H, T + ROOM, D)
    top = 0
    for part in parts:
        whole[top : top + len(part), :, longest - part.shape[2] : longest] = part
        top += len(part)
    return whole
