"""Scores of language models, causal and masked, as functions of their loss."""

from __future__ import annotations

import math

LANGUAGE = {"loss": False, "perplexity": False, "bits_per_byte": False}
MASKED = {"loss": False, "perplexity": False, "masked_accuracy": True}


def perplexity(loss: float) -> float:
    """exp(loss), for a mean loss in nats a token: among how many equally likely tokens the model is in doubt, on average.

    It counts tokens, so only models with the same tokenizer can be compared by it; `bits_per_byte` has no such limit.
    Infinite where it exceeds the largest double (loss above 709).
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """nats / (ln 2 * bytes): how many bits the model needs for a byte of UTF-8 text.

    `nats` is the loss summed over the tokens of a text (not their mean) and `num_bytes` the size of what those tokens stand for.
    The text is the same whatever the tokenizer, so models of any kind can be compared. NaN for no bytes.
    """
    return nats / math.log(2) / num_bytes if num_bytes else math.nan
