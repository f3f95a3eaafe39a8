"""Saving and opening what a method left beside weights that it did not change.

model/
  config.json              of the whole model
  adapter_config.json      what the adapter is
  adapter_model.safetensors
  model.safetensors        the pretrained weights: a link, or written out where they are in no file
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BASE = "base"
"""The folder of the pretrained model, within that of an adapter which transformers cannot open by itself."""

ADAPTER = "adapter_"
"""How the names of peft's files begin."""


def keep_adapter(model: Any, folder: Path, base: Sequence[Path] | None, within: str = "", **options: Any) -> None:
    """The adapter as peft saves it, and the weights under it in the folder `within` this one (or in this one)."""
    if base is None or within:  # no other file that peft could read holds the base: it is to look here, once the folder is in its place
        model.peft_config["default"].base_model_name_or_path = str(final_place(folder) / within)
    model.save_pretrained(folder, save_embedding_layers=False, **options)
    whole = model.get_base_model()
    keep_base(whole, folder / within, base)
    if within:  # so that transformers looks for the weights here, where they are not, and does not open the adapter in its own way
        whole.config.save_pretrained(folder)


def keep_base(whole: Any, folder: Path, base: Sequence[Path] | None) -> None:
    """Writes the configuration of the model under an adapter, and links to the files of its weights, or writes those out where
    `base` is None. The link lets transformers open the folder without the weights being there twice."""
    folder.mkdir(parents=True, exist_ok=True)
    whole.config.save_pretrained(folder)
    if whole.can_generate():
        whole.generation_config.save_pretrained(folder)
    if base is not None:
        for file in base:
            (folder / file.name).symlink_to(file)
        return
    from safetensors.torch import save_file

    save_file(base_weights(whole), folder / "model.safetensors", metadata={"format": "pt"})


def base_weights(model: Any) -> dict[str, torch.Tensor]:
    """The weights under an adapter, by the names that they have without it. Of tied weights only one is kept, as transformers does."""
    import torch

    with torch.device("meta"):
        own = type(model)(model.config).state_dict().keys()
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        for wrapped in (".token_adapter.", ".base_layer.", ".original_module."):
            name = name.replace(wrapped, ".")
        shared = tensor.data_ptr() in seen
        if owner(name) in own and not (shared and name in own):
            seen.add(tensor.data_ptr())
            found[name] = tensor.clone() if shared else tensor.contiguous()
    return found


def owner(name: str) -> str:
    """The weight that a tensor belongs to: quantised ones have their scales in others beside them (`w.weight.absmax`, `w.SCB`)."""
    layer, dot, last = name.rpartition(".")
    if last in ("SCB", "weight_format"):
        return layer + dot + "weight"
    return re.sub(r"\.weight\..+", ".weight", name)


def final_place(folder: Path) -> Path:
    """Where a folder that is being filled aside will stand (`core.rundir` renames it)."""
    return folder.with_name(folder.name.removeprefix(".").removesuffix(".part"))


@contextmanager
def base_of(folder: Path) -> Iterator[Path]:
    """The folder of the weights under an adapter, for as long as it takes to read them: where they stand beside the adapter, a folder
    of links to all but it."""
    if (folder / BASE).is_dir():
        yield folder / BASE
        return
    with tempfile.TemporaryDirectory(prefix="burnish-base-") as place:
        for entry in folder.iterdir():
            if not entry.name.startswith(ADAPTER):
                (Path(place) / entry.name).symlink_to(entry.absolute())
        yield Path(place)
