"""A decoder that can be asked for the next token of texts whose rows change.

Legend: B texts, T columns (texts are padded on the left), V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from burnish.core.generation import Generation
from burnish.engine.generation.draws import drawn
from burnish.engine.generation.room import Room
from burnish.engine.generation.whole import aligned, settings_of

# Processors that look at a text's own tokens and scores, not at how many columns the batch has.
ANYWHERE = {
    "EpsilonLogitsWarper",
    "EtaLogitsWarper",
    "InfNanRemoveLogitsProcessor",
    "LogitNormalization",
    "MinPLogitsWarper",
    "RepetitionPenaltyLogitsProcessor",
    "SuppressTokensLogitsProcessor",
    "TemperatureLogitsWarper",
    "TopHLogitsWarper",
    "TopKLogitsWarper",
    "TopPLogitsWarper",
    "TypicalLogitsWarper",
}
STOPS = {"EosTokenCriteria", "MaxLengthCriteria"}
INPUTS = {"attention_mask", "logits_to_keep", "past_key_values", "position_ids", "use_cache"}


@dataclass(frozen=True)
class Decoder:
    """A model, transformers' processors of its scores, its cache's number of layers, and the inputs that its forward pass takes."""

    model: Any
    processors: Sequence[Any]
    layers: int
    inputs: frozenset[str]

    def cache(self) -> Any:
        from transformers import Cache

        return Cache(layers=[Room() for _ in range(self.layers)])

    def scores(self, ids: torch.Tensor, padding: torch.Tensor | None, cache: Any, last: int) -> torch.Tensor:
        """(B, V) after the last of `ids` (B, T), of which the cache holds all but some at the end.

        `padding` (B,) columns precede each text; `last` is the highest position of one that is still read.
        """
        held = cache.get_seq_length()
        columns = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)  # (B, T)
        positions = columns if padding is None else columns - padding[:, None]
        offered = {
            "attention_mask": None if padding is None else (positions >= 0).long(),
            "position_ids": positions[:, held:].clamp(0, last),
            "logits_to_keep": 1,
            "use_cache": True,
        }
        known = {name: value for name, value in offered.items() if name in self.inputs}
        found = self.model(input_ids=ids[:, held:], past_key_values=cache, return_dict=True, **known)
        # A copy, for a view would hold the logits of all positions where the model gives those.
        return found.logits[:, -1].to(dtype=torch.float32, copy=True)

    def choose(self, ids: torch.Tensor, padding: torch.Tensor | None, scores: torch.Tensor, uniform: np.ndarray | None) -> torch.Tensor:
        """(B,) the likeliest tokens, or those that the random numbers `uniform` (B,) draw."""
        for processor in self.processors:
            if hasattr(processor, "prompt_ignore_length"):
                processor.prompt_ignore_length = padding
            scores = processor(ids, scores)
        return scores.argmax(dim=-1) if uniform is None else drawn(scores, torch.from_numpy(uniform).to(scores.device))


def decoder_of(model: Any, generation: Generation) -> Decoder | None:
    """The model as a decoder whose rows may change, or None where only `generate` knows how to write with it.

    That is: beams; an encoder; virtual tokens; a cache that does not hold a key and a value for each column (windows, states);
    settings that count the batch's columns; inputs of the architecture's own. `generate` itself is asked, and stopped where it
    would begin to write: so the processors and the cache are those that it would use.
    """
    from transformers import GenerationMixin
    from transformers.cache_utils import DynamicLayer

    prompted = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    if generation.beams > 1 or model.config.is_encoder_decoder or prompted:
        return None

    def found(inner: Any, input_ids: Any, logits_processor: Any, stopping_criteria: Any, generation_config: Any, **given: Any) -> Any:
        layers = getattr(given.get("past_key_values"), "layers", [])
        plain = (
            given.keys() <= INPUTS
            and given.get("use_cache") is True
            and layers
            and all(type(layer) is DynamicLayer for layer in layers)
            and names_of(logits_processor) <= ANYWHERE
            and names_of(stopping_criteria) <= STOPS
            and type(inner).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
            and generation_config.prefill_chunk_size is None
        )
        # Of the class, for the instance's own forward may have been put before it.
        accepted = INPUTS & inspect.signature(type(inner).forward).parameters.keys()
        return Decoder(inner, logits_processor, len(layers), frozenset(accepted)) if plain else None

    ids, mask = aligned([[0], [0, 0]], 0, left=True)
    device = next(model.parameters()).device
    asked: Decoder | None = model.generate(
        input_ids=ids.to(device), attention_mask=mask.to(device), custom_generate=found, **settings_of(model, generation)
    )
    return asked


def names_of(parts: Sequence[Any]) -> set[str]:
    return {type(part).__name__ for part in parts}
