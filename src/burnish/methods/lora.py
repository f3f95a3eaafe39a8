"""Low-rank adaptation through peft."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from burnish.core.errors import ModelError, nearest
from burnish.core.protocols import Anatomy, Course, Technique
from burnish.core.registry import register
from burnish.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import nn


@register("method")
class Lora(Spec):
    """Every chosen linear layer W learns a low-rank update, y = W x + (alpha / r) B A x, with B starting at zero; W stays.

    A head that starts at random learns in full, and so do the embeddings of tokens that the task added. Saved as a small peft folder. Hu et al. 2021, "LoRA", arXiv:2106.09685, eq. 3.
    """

    name: Literal["lora"] = "lora"

    r: int = Field(default=8, ge=1)
    """Rank of the update; 4 to 64, more for harder tasks."""

    alpha: float = Field(default=16.0, gt=0)
    """Scale of the update, divided by r; commonly once or twice r."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update; 0 to 0.1."""

    target: list[str] | None = None
    """Names of linear layers (or their last parts, such as query) to adapt; by default every one in the blocks."""

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        import peft

        return peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=self.r,
                lora_alpha=self.alpha,
                lora_dropout=self.dropout,
                target_modules=self.targets(anatomy),
                modules_to_save=list(anatomy.head_modules) if set(anatomy.fresh) & set(anatomy.head) else None,
                trainable_token_indices=list(anatomy.new_tokens) or None,
            ),
        )

    def techniques(self, model: nn.Module, anatomy: Anatomy, course: Course) -> list[Technique]:
        return []

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        """The adapter as peft saves it, with the configuration and a link to the pretrained weights beside it, so that
        transformers opens the folder like any model. Weights that are in no file are written out."""
        if base is None:  # no other file holds the base: peft, too, is to look here, once the folder is in its place
            model.peft_config["default"].base_model_name_or_path = str(
                folder.with_name(folder.name.removeprefix(".").removesuffix(".part"))
            )
        model.save_pretrained(folder, save_embedding_layers=False)
        whole = model.get_base_model()
        whole.config.save_pretrained(folder)
        if whole.can_generate():
            whole.generation_config.save_pretrained(folder)
        if base is not None:
            for file in base:
                (folder / file.name).symlink_to(file)
            return
        from safetensors.torch import save_file

        save_file(base_weights(whole), folder / "model.safetensors", metadata={"format": "pt"})

    def targets(self, anatomy: Anatomy) -> list[str]:
        """Full names of the layers to adapt. Raises ModelError where a wanted name is not in the model."""
        if self.target is None:
            return list(anatomy.linears)
        chosen = [name for name in anatomy.linears if any(name == want or name.endswith("." + want) for want in self.target)]
        known = {name.rpartition(".")[2] for name in anatomy.linears}
        for want in self.target:
            if not any(name == want or name.endswith("." + want) for name in anatomy.linears):
                raise ModelError(
                    f"`method.target`: no linear layer is named {want!r}{nearest(want, known)} (known: {', '.join(sorted(known))})"
                )
        return chosen


def base_weights(model: Any) -> dict[str, torch.Tensor]:
    """The weights under the adapter, by the names that they have without it. Of tied weights only one is kept, as transformers does."""
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        added = "lora_" in name or "modules_to_save" in name or "trainable_tokens" in name
        if added or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        for wrapped in (".token_adapter.", ".base_layer.", ".original_module."):
            name = name.replace(wrapped, ".")
        found[name] = tensor.contiguous()
    return found
