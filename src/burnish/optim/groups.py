"""Puts every parameter that learns into exactly one group of the optimizer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)


def parameter_groups(model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights, which decay, and biases and norms, which do not (decay on them only moves the output's scale).

    Each group carries the names of its parameters, by which a checkpoint finds them again.
    """
    norms = {
        f"{name}.{inner}" if name else inner
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for inner, _ in module.named_parameters(recurse=False)
    }
    decayed: dict[str, Any] = {"params": [], "names": [], "weight_decay": weight_decay, "lr": lr, "initial_lr": lr}
    others: dict[str, Any] = {"params": [], "names": [], "weight_decay": 0.0, "lr": lr, "initial_lr": lr}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = others if name in norms or UNDECAYED.search(name) else decayed
            group["params"].append(parameter)
            group["names"].append(name)
    return [group for group in (decayed, others) if group["params"]]
