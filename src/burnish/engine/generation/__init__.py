"""Writing texts: a whole batch through transformers' `generate`, or one that is refilled, where a text that ends gives its place to the next."""

from burnish.engine.generation.decoder import decoder_of
from burnish.engine.generation.refilled import Refilled
from burnish.engine.generation.whole import write

__all__ = ["Refilled", "decoder_of", "write"]
