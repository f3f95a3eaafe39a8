"""PiSSA: LoRA that starts from the principal part of each matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.core.registry import register
from burnish.methods.folders import keep_adapter
from burnish.methods.injected import Injected
from burnish.methods.lora import low_rank

if TYPE_CHECKING:
    import torch
    from torch import nn


@register("method")
class Pissa(Injected):
    """LoRA whose B A starts as the r largest singular directions of W, and not at zero; what is left of W stays as it is.

    W = U S V^T, A = sqrt(S_r) V_r^T, B = U_r sqrt(S_r), y = (W - B0 A0) x + B A x: the same function at the start, and a faster one to
    learn, for the directions that matter most move first. Saved as plain LoRA of rank 2r on the untouched W, since
    B A - B0 A0 = [B, -B0] [A; A0]. Takes a singular value decomposition of every layer at the start.
    Meng et al. 2024, "PiSSA", arXiv:2404.02948, eq. 2 to 5.
    """

    name: Literal["pissa"] = "pissa"

    takes_quantized: ClassVar[tuple[str, ...]] = ()

    r: int = Field(default=8, ge=1)
    """Number of singular directions that learn; 4 to 128."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update; the paper has none."""

    @property
    def alpha(self) -> float:
        """Scale r / r = 1, so that B A is the part of W itself."""
        return float(self.r)

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        shared = low_rank(self, anatomy, init_lora_weights="pissa")
        for name in shared["target_modules"]:  # peft would take fewer without a word, and what it saved would not open again
            known = min(model.get_submodule(name).weight.shape)
            if self.r > known:
                raise ModelError(f"`method.r`: {self.r} singular directions are more than {name} has, {known}. Give fewer, or use lora.")
        return peft.LoraConfig(**shared)

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        """Keeps where A and B began beside them, in buffers that no checkpoint holds: a resumed run decomposes the same W again, with
        one thread, so that it gets the very same bits."""
        with one_thread():
            adapted = super().apply(model, anatomy)
        for layer in low_rank_layers(adapted):
            layer.register_buffer("first_A", layer.lora_A["default"].weight.detach().clone(), persistent=False)
            layer.register_buffer("first_B", layer.lora_B["default"].weight.detach().clone(), persistent=False)
        return adapted

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        """As LoRA of rank 2r, so that every reader of peft folders finds the function on the pretrained weights."""
        import torch

        config = model.peft_config["default"]
        before = (config.r, config.lora_alpha, config.init_lora_weights)
        state = doubled(model)
        config.r, config.lora_alpha, config.init_lora_weights = 2 * self.r, 2 * self.alpha, True
        try:
            with torch.no_grad(), whole_weights(model):
                keep_adapter(model, folder, base, state_dict=state)
        finally:
            config.r, config.lora_alpha, config.init_lora_weights = before


def low_rank_layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "lora_A") and "default" in module.lora_A]  # type: ignore[operator]


def doubled(model: Any) -> dict[str, torch.Tensor]:
    """The model's tensors with A and B replaced by [A; A0] and [B, -B0]."""
    import torch

    state = model.state_dict()
    for name, layer in model.named_modules():
        if hasattr(layer, "first_A"):
            at = f"{name}.lora_A.default.weight"
            state[at] = torch.cat([state[at], layer.first_A], dim=0)  # (2r, in)
            at = f"{name}.lora_B.default.weight"
            state[at] = torch.cat([state[at], -layer.first_B], dim=1)  # (out, 2r)
    return state


@contextmanager
def whole_weights(model: Any) -> Iterator[None]:
    """The layers hold W for a while, and not W - B0 A0."""
    kept = []
    for layer in low_rank_layers(model):
        weight, part = layer.base_layer.weight, layer.first_B @ layer.first_A  # (out, in)
        kept.append((weight, weight.detach().clone()))
        weight += (part.T if layer.fan_in_fan_out else part).to(weight.dtype)
    try:
        yield
    finally:
        for weight, before in kept:
            weight.copy_(before)


@contextmanager
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
