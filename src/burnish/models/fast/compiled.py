"""Blocks through torch.compile: their many small operations become few kernels, for one or two minutes at the start."""

from __future__ import annotations

from typing import Any

import torch

from burnish.core.protocols import Anatomy


def compile_blocks(model: Any, anatomy: Anatomy) -> int:
    """Gives the blocks compiled forwards, and says how many. Those that are trimmed or give what was kept stay as they are.

    The number of tokens differs from micro-batch to micro-batch, so that shapes are symbols in what is compiled (`dynamic`). Attention
    over packed sequences is called in between, as it is.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    blocks = [block for block in map(inner.get_submodule, anatomy.block_modules) if "forward" not in vars(block)]
    for block in blocks:
        block.forward = torch.compile(block.forward, dynamic=True)
    return len(blocks)
