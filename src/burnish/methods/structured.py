"""Updates of other forms than B A, through peft: shared vectors, products, frequencies, a bank of vectors."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from burnish.core.protocols import Anatomy
from burnish.core.registry import register
from burnish.methods.folders import BASE
from burnish.methods.injected import Injected, chosen, fresh_heads, require_no_new_tokens


def learned(method: Any, anatomy: Anatomy) -> dict[str, Any]:
    """What the configurations share: the layers, and a fresh head. Raises ModelError where new tokens could not learn."""
    require_no_new_tokens(method.name, anatomy)
    return {"target_modules": method.targets(anatomy), "modules_to_save": fresh_heads(anatomy)}


@register("method")
class Vera(Injected):
    """LoRA with A and B random, frozen and the same for all layers; only two vectors a layer learn: y = W x + b * B (d * A x).

    A tenth of LoRA's parameters at far higher rank; wants a learning rate of 1e-3 to 1e-2. Kopiczko et al. 2024, arXiv:2310.11454, eq. 2.
    """

    name: Literal["vera"] = "vera"

    within: ClassVar[str] = BASE  # transformers cannot share matrices between layers

    r: int = Field(default=64, ge=1)
    """Rank of the shared matrices; 64 to 1024."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update; 0 to 0.1."""

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        return peft.VeraConfig(r=self.r, vera_dropout=self.dropout, **learned(self, anatomy))


@register("method")
class LoHa(Injected):
    """A Hadamard product of two low-rank updates, (B1 A1) * (B2 A2): rank up to r^2 for twice LoRA's parameters.

    Hyeon-Woo et al. 2022, "FedPara", arXiv:2108.06098.
    """

    name: Literal["loha"] = "loha"

    takes_quantized: ClassVar[tuple[str, ...]] = ("int8",)  # peft gives the update the shape of the weight, which nf4 packs

    opens_quantized: ClassVar[tuple[str, ...]] = takes_quantized

    r: int = Field(default=8, ge=1)
    """Rank of each of the two factors; 4 to 32."""

    alpha: float = Field(default=8.0, gt=0)
    """Scale of the update, divided by r; commonly r."""

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        return peft.LoHaConfig(r=self.r, alpha=self.alpha, **learned(self, anatomy))


@register("method")
class LoKr(Injected):
    """A Kronecker product as update, C x (B A): few parameters, and a rank that products do not lose.

    Edalati et al. 2022, "KronA", arXiv:2212.10650; Yeh et al. 2024, arXiv:2309.14859.
    """

    name: Literal["lokr"] = "lokr"

    takes_quantized: ClassVar[tuple[str, ...]] = ("int8",)  # peft gives the update the shape of the weight, which nf4 packs

    opens_quantized: ClassVar[tuple[str, ...]] = takes_quantized

    r: int = Field(default=8, ge=1)
    """Rank of the second factor; 4 to 32."""

    alpha: float = Field(default=8.0, gt=0)
    """Scale of the update, divided by r; commonly r."""

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        return peft.LoKrConfig(r=self.r, alpha=self.alpha, **learned(self, anatomy))


@register("method")
class FourierFT(Injected):
    """The update is a matrix of which only n frequencies learn: W' = W + scaling * real(inverse DFT of them).

    Gao et al. 2024, arXiv:2405.03003, eq. 2 to 4.
    """

    name: Literal["fourierft"] = "fourierft"

    frequencies: int = Field(default=1000, ge=1)
    """Frequencies that learn in each layer; 200 to 3000, and no more than the layer has weights."""

    scaling: float = Field(default=150.0, gt=0)
    """Scale of the update; 100 to 300."""

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        return peft.FourierFTConfig(n_frequency=self.frequencies, scaling=self.scaling, init_weights=True, **learned(self, anatomy))


@register("method")
class LayerNormTuning(Injected):
    """The norms of the blocks learn, as copies that peft saves by themselves; `norms` trains the model's own.

    Zhao et al. 2023, arXiv:2312.11420.
    """

    name: Literal["ln_tuning"] = "ln_tuning"

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        require_no_new_tokens(self.name, anatomy)
        within = tuple(f"{block}." for block in anatomy.block_modules)
        norms = [name for name, module in model.named_modules() if name.startswith(within) and "norm" in type(module).__name__.lower()]
        return peft.LNTuningConfig(
            target_modules=norms if self.target is None else chosen(self.target, norms, "norm"), modules_to_save=fresh_heads(anatomy)
        )
