"""Methods that turn the weights, through peft: the angles between the neurons of a layer stay as pretraining made them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.core.registry import register
from burnish.methods.injected import Injected
from burnish.methods.structured import learned


@register("method")
class Oft(Injected):
    """W' = W R, with R orthogonal and made of blocks on its diagonal, R = (I + Q)(I - Q)^-1, Q skew-symmetric and zero at the start.

    Keeps what the model knows better than an added update does; steadier at high learning rates. Qiu et al. 2023, arXiv:2306.07280.
    """

    name: Literal["oft"] = "oft"

    block: int = Field(default=32, ge=2)
    """Width of a block of R, a divisor of every layer's input; 16 to 64, more turns more."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a block is the identity in a step; 0 to 0.1."""

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        shared = learned(self, anatomy)
        for name in shared["target_modules"]:  # peft would take another width without a word
            width = int(getattr(model.get_submodule(name), "in_features", self.block))
            if width % self.block:
                raise ModelError(f"`method.block`: {self.block} does not divide {width}, the width of what {name} reads. Try 16 or 32.")
        # The exact Cayley transform; peft's series in its place would leave R not quite orthogonal.
        return peft.OFTConfig(r=0, oft_block_size=self.block, module_dropout=self.dropout, use_cayley_neumann=False, **shared)
