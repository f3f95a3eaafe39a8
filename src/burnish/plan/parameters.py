"""Counts parameters by role."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from burnish.core.protocols import Anatomy


def by_role(named: Iterable[tuple[str, Any]], anatomy: Anatomy) -> list[tuple[str, int, int]]:
    """(role, parameters, those that learn), from embeddings up to the head.

    peft's names are understood: its prefix is dropped, and the idle copies that it keeps of replaced modules do not count.
    """
    roles = ["embeddings", *(f"block {number}" for number in range(1, len(anatomy.blocks) + 1)), "head"]
    total, learning = dict.fromkeys(roles, 0), dict.fromkeys(roles, 0)
    for name, parameter in named:
        if ".original_module." in name:
            continue
        role = anatomy.role(name)
        total[role] += elements(parameter)
        learning[role] += elements(parameter) if parameter.requires_grad else 0
    return [(role, total[role], learning[role]) for role in roles]


def elements(parameter: Any) -> int:
    """How many numbers a parameter stands for: where two are packed into a byte (nf4), its own shape does not tell."""
    packed = getattr(parameter, "quant_state", None)
    return int(parameter.numel()) if packed is None else math.prod(packed.shape)
