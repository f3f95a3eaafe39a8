"""How many bytes an optimizer keeps beside a parameter.

Bytes = elements * values a weight * bytes of a value. AdamW keeps a running mean and a running square in the parameter's own format,
8-bit optimizers a byte a value and a float32 scale for each 256, Adafactor sums over rows and over columns alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

VALUES = {"adamw": 2, "adam": 2, "lion": 1, "adamw8bit": 2, "lion8bit": 1}
"""Values an optimizer keeps of each weight, where that depends on nothing else."""

BLOCK, SCALE = 256, 4
"""Values that share a scale in 8 bits, and bytes of a scale."""


def state_bytes(optimizer: Any, shape: Sequence[int], itemsize: int) -> int | None:
    """What `optimizer`, a recipe's section, keeps of a parameter of this shape and so many bytes an element; None for an unknown one."""
    elements = math.prod(shape)
    if optimizer.name in ("adamw8bit", "lion8bit"):
        values = VALUES[optimizer.name]
        if elements < optimizer.min_8bit_size:
            return values * 4 * elements
        return values * (elements + SCALE * math.ceil(elements / BLOCK))
    if optimizer.name in VALUES:
        return VALUES[optimizer.name] * elements * itemsize
    if optimizer.name == "sgd":
        return elements * itemsize if optimizer.momentum else 0
    if optimizer.name == "rmsprop":
        return (1 + bool(optimizer.momentum) + bool(optimizer.centered)) * elements * itemsize
    if optimizer.name == "adafactor":
        if len(shape) < 2:
            return elements * itemsize
        return (elements // shape[-1] + elements // shape[-2]) * itemsize
    return None
