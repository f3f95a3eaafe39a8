"""(IA)3: three vectors a block scale keys, values and the inside of the feed-forward part."""

from __future__ import annotations

import re
from typing import Any, Literal

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.core.registry import register
from burnish.methods.injected import Injected, fresh_heads, require_no_new_tokens

SCALED = re.compile(r"(?:^|\.)(?:key|value|[kv](?:_proj|_lin|_proj_lin)?|key_proj|value_proj|c_attn|query_key_value|qkv_proj|Wqkv|qkv)$")
"""Layers that make keys or values, under the names that transformers gives them; where one layer makes queries too, all of it."""


@register("method")
class IA3(Injected):
    """Keys, values and the input of the last feed-forward layer are scaled by learned vectors that start at one: y = l * (W x).

    A hundredth of LoRA's parameters; wants a high learning rate (1e-3 to 1e-2). Liu et al. 2022, arXiv:2205.05638, section 3.3.
    """

    name: Literal["ia3"] = "ia3"

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        require_no_new_tokens(self.name, anatomy)
        inner = list(anatomy.feed_forward_outputs)
        usual = [name for name in anatomy.linears if SCALED.search(name)]
        if self.target is None and not usual:
            raise ModelError(
                f"`method`: which layers of {type(model).__name__} make keys and values cannot be told: name them in method.target."
            )
        targets = self.targets(anatomy, [*usual, *inner])
        return peft.IA3Config(
            target_modules=targets,
            feedforward_modules=[name for name in targets if name in set(inner)],
            modules_to_save=fresh_heads(anatomy),
        )
