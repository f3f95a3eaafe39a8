"""Norms of the gradient, of the whole and by place in the model (embeddings, each block, head), from one pass over it.

Legend: P parameters that have a gradient, K places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch.nn import Parameter
from torch.utils._foreach_utils import _group_tensors_by_device_and_dtype

ALL_OF = 1000
"""Steps whose norms by place are all recorded; then every tenth of as many decades, so that the record stays small."""


class Places:
    """Where each parameter stands in a model: `names` of the places, and for each parameter the number of its own."""

    def __init__(self, groups: Sequence[Mapping[str, Any]], place_of: Callable[[str], str], order: Sequence[str]) -> None:
        """`groups` are an optimizer's, with the names of their parameters; `order` are all places that `place_of` may give, lowest first."""
        own = {p: place_of(name) for group in groups for p, name in zip(group["params"], group["names"], strict=True)}
        taken = set(own.values())
        self.names = [place for place in dict.fromkeys([*order, *own.values()]) if place in taken]
        self.number = {parameter: self.names.index(place) for parameter, place in own.items()}
        self.known: tuple[list[int], torch.Tensor] | None = None

    def norms(self, parameters: Sequence[Parameter], each: torch.Tensor) -> torch.Tensor:
        """(K,) L2 norms by place, of the norms of single parameters (P,): the root of the sum of their squares."""
        numbers = [self.number[parameter] for parameter in parameters]
        if self.known is None or self.known[0] != numbers:  # other parameters learn than at the last step
            self.known = numbers, torch.tensor(numbers, dtype=torch.long, device=each.device)
        sums = each.new_zeros(len(self.names)).index_add_(0, self.known[1], each.square())
        return sums.sqrt_()


def parameter_norms(parameters: Sequence[Parameter]) -> tuple[list[Parameter], torch.Tensor]:
    """The parameters that have a gradient, and the L2 norm of each (P,), in the order and by the kernels of torch's own total norm."""
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    if not learning:
        return [], torch.zeros(0)
    gradients: Any = [parameter.grad for parameter in learning]
    device = learning[0].device
    norms: list[torch.Tensor] = []
    order: list[int] = []
    for (tensors,), places in _group_tensors_by_device_and_dtype([gradients], with_indices=True).values():
        norms.extend(norm.to(device) for norm in torch._foreach_norm(cast(Any, tensors), 2.0))
        order.extend(places)
    return [learning[place] for place in order], torch.stack(norms)


def is_recorded(step: int) -> bool:
    """Whether the norms by place of a step (from 1) are recorded: of each of the first thousand, of every tenth up to ten thousand, ...

    A function of the step alone, so that a resumed run records the same.
    """
    every = 1
    while step > ALL_OF * every:
        every *= 10
    return step % every == 0
