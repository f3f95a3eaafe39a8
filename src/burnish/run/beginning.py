"""The values that training began with, found again at its end without a second copy of the model in memory.

Pretrained weights lie in files, from which they are read again, a piece at a time. What is in no file as the model holds it (fresh heads,
adapters, models from scratch, embeddings that grew by a token) is written to a file of its own before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from burnish import build
from burnish.core.errors import disk_errors
from burnish.core.rundir import RunFolder
from burnish.engine.checkpoint import write_tensors
from burnish.models.load import weight_files

NAME = ".beginning.safetensors"
"""The file in the run folder, which is gone when the run is finished."""
PROBED = 16
"""Rows of a large tensor that are compared, to the last bit, to know it again in a file."""
WHOLE = 1 << 16
"""Tensors of fewer numbers are compared in full."""
AT_ONCE = 1 << 20
"""Numbers that are in memory at once when values are read again."""


@dataclass(frozen=True)
class Kept:
    """Where a value lies: a safetensors file, its name in it."""

    file: Path
    key: str

    def pieces(self, dtype: torch.dtype) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, rows) of the value as the model held it, in its number format; a value without rows comes as one."""
        with safe_open(self.file, framework="pt") as stored:
            content = stored.get_slice(self.key)
            shape = content.get_shape()
            if not shape:
                yield 0, stored.get_tensor(self.key).to(dtype)[None]
                return
            rows = max(1, AT_ONCE * shape[0] // max(1, math.prod(shape)))
            for first in range(0, shape[0], rows):
                yield first, content[first : first + rows].to(dtype)


@dataclass(frozen=True)
class Beginning:
    """Where the first value of each parameter that learns lies, by the parameter's name; `own` is the file made for what was in none."""

    kept: Mapping[str, Kept]
    own: Path

    @classmethod
    def of(cls, parts: build.Parts, folder: RunFolder) -> Beginning:
        """To be called before anything is trained, and before a checkpoint is loaded. The updates of low-rank methods begin at nothing,
        and are left out."""
        model, own = parts.model, folder.path / NAME
        inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        stored = keys_of([] if parts.recipe.model.fresh else weight_files(parts.recipe.model))
        kept: dict[str, Kept] = {}
        aside: dict[str, torch.Tensor] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or ".lora_" in name:
                continue
            names = names_in_files(parts.anatomy.own_name(name), inner.base_model_prefix)
            found = next((Kept(stored[key], key) for key in names if key in stored and same(parameter, stored[key], key)), None)
            kept[name] = found or Kept(own, name)
            if found is None:
                aside[name] = parameter.detach()
        with disk_errors(f"Writing {own}"):
            own.unlink(missing_ok=True)
            if aside:
                write_tensors(aside, own)
        return cls(kept, own)

    def close(self) -> None:
        """Takes the file away again."""
        self.own.unlink(missing_ok=True)


def keys_of(files: Sequence[Path]) -> dict[str, Path]:
    """Name of each tensor in safetensors files -> its file."""
    found: dict[str, Path] = {}
    for file in files:
        if file.suffix == ".safetensors" and file.is_file():
            with safe_open(file, framework="pt") as stored:
                found |= dict.fromkeys(stored.keys(), file)
    return found


def names_in_files(name: str, prefix: str) -> list[str]:
    """What a parameter may be called in files: with or without the name of the base model, with old names of a norm's scale and shift."""
    plain = name.removeprefix(f"{prefix}.")
    names = [name, plain, f"{prefix}.{plain}"]
    old = [
        one.removesuffix(new) + before for one in names for new, before in ((".weight", ".gamma"), (".bias", ".beta")) if one.endswith(new)
    ]
    return [*names, *old]


def same(parameter: torch.Tensor, file: Path, key: str) -> bool:
    """Whether a tensor of a file is what a parameter holds: its shape and, of a large one, rows from all over it, to the last bit."""
    own = parameter.detach()
    with safe_open(file, framework="pt") as stored:
        content = stored.get_slice(key)
        if list(own.shape) != content.get_shape():
            return False
        if own.numel() <= WHOLE or own.dim() < 2:
            return torch.equal(stored.get_tensor(key).to(own.dtype), own.cpu())
        rows = sorted({place * (len(own) - 1) // (PROBED - 1) for place in range(PROBED)})
        return all(torch.equal(content[row : row + 1].to(own.dtype), own[row : row + 1].cpu()) for row in rows)
