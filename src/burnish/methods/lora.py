"""Low-rank adaptation and its kin, through peft: W stays, and a matrix of low rank beside it learns."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from burnish.core.protocols import Anatomy
from burnish.core.registry import register
from burnish.methods.folders import BASE
from burnish.methods.injected import Injected, fresh_heads


def low_rank(method: Any, anatomy: Anatomy, **further: Any) -> dict[str, Any]:
    """What the configurations of the family share. The embeddings of tokens that the task added learn too."""
    return {
        "r": method.r,
        "lora_alpha": method.alpha,
        "lora_dropout": method.dropout,
        "target_modules": method.targets(anatomy),
        "modules_to_save": fresh_heads(anatomy),
        "trainable_token_indices": list(anatomy.new_tokens) or None,
        **further,
    }


@register("method")
class Lora(Injected):
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

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        return peft.LoraConfig(**low_rank(self, anatomy))


@register("method")
class Dora(Injected):
    """LoRA on the direction of each column of W, and a learned length m beside it: W' = m (W + (alpha / r) B A) / ||W + (alpha / r) B A||.

    Nearer to full fine-tuning than LoRA at the same r, most of all at small r; a step is about half as slow again.
    Liu et al. 2024, "DoRA", arXiv:2402.09353, eq. 5.
    """

    name: Literal["dora"] = "dora"

    takes_quantized: ClassVar[tuple[str, ...]] = (
        "nf4",
    )  # for the lengths peft asks for the weights, and loses the scales of int8 on a CPU

    opens_quantized: ClassVar[tuple[str, ...]] = takes_quantized

    within: ClassVar[str] = BASE  # opened by transformers alone, the lengths would silently be those of W

    r: int = Field(default=8, ge=1)
    """Rank of the update; 4 to 32."""

    alpha: float = Field(default=16.0, gt=0)
    """Scale of the update, divided by r; commonly once or twice r."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update; 0 to 0.1."""

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        return peft.LoraConfig(**low_rank(self, anatomy, use_dora=True))


@register("method")
class RsLora(Injected):
    """LoRA scaled by alpha / sqrt(r) in place of alpha / r, so that what the update adds does not shrink as r grows.

    For high ranks (32 and more), which otherwise learn no better than low ones. Kalajdzievski 2023, arXiv:2312.03732, eq. 4.
    """

    name: Literal["rslora"] = "rslora"

    r: int = Field(default=32, ge=1)
    """Rank of the update; 16 to 256."""

    alpha: float = Field(default=16.0, gt=0)
    """Scale of the update, divided by the root of r; 8 to 32."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update; 0 to 0.1."""

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        return peft.LoraConfig(**low_rank(self, anatomy, use_rslora=True))
