"""A name for what frozen blocks give of some examples: equal names, equal numbers, whichever run computed them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.core.protocols import Anatomy

PASSING = ("_name_or_path", "name_or_path", "transformers_version")
"""What a configuration says of where it came from, and not of what is computed."""


def fingerprint(model: Any, anatomy: Anatomy, blocks: int, examples: Any, form: str) -> str:
    """A digest of all that the output of the lowest `blocks` depends on: code, configuration, weights, tokens, and `form` (precision and
    the like). About a second for a gigabyte of weights."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = {name: value for name, value in inner.config.to_dict().items() if name not in PASSING}
    device = next(model.parameters()).device.type
    facts = [code(), version("torch"), version("transformers"), type(inner).__name__, config, device, blocks, form]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    above = {f"block {number}" for number in range(blocks + 1, len(anatomy.blocks) + 1)}
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, value in model.state_dict().items():
        if name not in learning and anatomy.role(name) not in above:
            digest.update(f"{name} {getattr(value, 'dtype', None)} {getattr(value, 'shape', None)}".encode())
            digest.update(bytes_of(value))
    # Which rows a head reads may depend on what is supervised.
    columns = {**examples.inputs, **(examples.targets if blocks == len(anatomy.blocks) else {})}
    for name in sorted(columns):
        digest.update(name.encode())
        for array in arrays(columns[name]):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def bytes_of(value: Any) -> Any:
    """What a tensor holds; quantised layers also keep facts that are none."""
    if not isinstance(value, torch.Tensor):
        return repr(value).encode()
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def arrays(column: Any) -> Iterator[np.ndarray]:
    """A column, or the two arrays of a ragged one."""
    if isinstance(column, np.ndarray):
        yield column
    else:
        yield from (column.values, column.offsets)


@cache
def code() -> str:
    """A digest of the modules that put tokens through a model, so that a newer version never reads what an older one made."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[2]
    for part in ("models", "tasks"):
        for path in sorted((package / part).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
