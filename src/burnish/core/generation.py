"""How a model writes: the settings of generation, the same in evaluation, in prediction and in the saved model."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from burnish.core.spec import Spec


class Generation(Spec):
    """How texts are written, and on how many rows that is looked at."""

    samples: int | None = Field(default=16, ge=0)
    """Rows of a part for which texts are written at each evaluation and before training; 0 for none, null for all."""

    max_new_tokens: int = Field(default=64, ge=1)
    """Tokens after which a text is broken off where the model has not ended it."""

    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token each time; above, tokens are drawn from softmax(logits / temperature), 0.7 is usual."""

    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw only from the likeliest tokens that together have this probability (Holtzman et al. 2020); 0.9 is usual."""

    beams: int = Field(default=1, ge=1)
    """Beams of a beam search; 4 is usual for translation and summaries, 1 is greedy."""

    repetition_penalty: float = Field(default=1.0, gt=0)
    """Divides the scores of tokens that were written already (Keskar et al. 2019, eq. 1); 1 changes nothing, 1.2 is strong."""

    seed: int = Field(default=0, ge=0)
    """Seed of drawn tokens."""

    def settings(self) -> dict[str, Any]:
        """The same in the names of transformers' generation configuration."""
        drawn = {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0} if self.temperature else {}
        return {
            "max_new_tokens": self.max_new_tokens,
            "do_sample": self.temperature > 0,
            "num_beams": self.beams,
            "repetition_penalty": self.repetition_penalty,
            **drawn,
        }
