"""Only the embeddings of tokens that the task added learn."""

from __future__ import annotations

from typing import Any, Literal

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.core.registry import register
from burnish.methods.injected import Injected


@register("method")
class Tokens(Injected):
    """Only the embeddings of tokens that the task added to the vocabulary learn (such as those around the turns of a chat).

    A first stage before lora or full, or a way to teach a frozen model a format. Nothing else moves, not even by weight decay: the
    rows learn apart from their table. Through peft's trainable tokens.
    """

    name: Literal["tokens"] = "tokens"

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        import peft

        if not anatomy.new_tokens:
            raise ModelError("`method`: tokens trains what the task adds to the vocabulary, and this task adds nothing. Use head or lora.")
        if set(anatomy.fresh) & set(anatomy.head):
            raise ModelError(
                "`method`: tokens leaves the head as it is, and this one starts at random: it would stay noise. Use lora or full."
            )
        if self.target is not None:
            raise ModelError("`method.target`: tokens has no layers to choose; the embeddings of the added tokens learn.")
        table = next(name for name, module in model.named_modules() if module is model.get_input_embeddings())
        return peft.TrainableTokensConfig(token_indices=list(anatomy.new_tokens), target_modules=[table])
