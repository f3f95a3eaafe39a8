"""How large a parameter is, whatever form it is held in."""

from __future__ import annotations

import math
from typing import Any


def elements(parameter: Any) -> int:
    """How many numbers a parameter stands for: where two are packed into a byte (nf4), or a table holds only the rows that occur, its own
    shape does not tell."""
    packed = getattr(parameter, "quant_state", None)
    return math.prod(getattr(parameter, "whole_shape", parameter.shape) if packed is None else packed.shape)
