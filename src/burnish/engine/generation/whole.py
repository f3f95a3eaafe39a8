"""Writes texts after a whole batch of prompts, through transformers' `generate`: what every model can do, and what is compared with.

Legend: B prompts, T tokens of the longest prompt, W tokens written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from burnish.core.generation import Generation
from burnish.core.protocols import Written
from burnish.engine.generation.draws import Drawn, matrix_of


def write(
    model: Any,
    prompts: Sequence[Sequence[int]],
    generation: Generation,
    device: torch.device,
    check: Callable[[], None],
    indices: Sequence[int] | None = None,
) -> list[Written]:
    """What the model writes after each prompt, until one of its end tokens or `max_new_tokens`.

    A decoder's prompts are padded on the left, so that the first token written follows the prompt's last; an encoder's sources
    on the right. `check` is called at every token and may raise. The mask is made of lengths, so that a padding token that is also
    an end token stays visible within a prompt. `indices` are the prompts' numbers: where tokens are drawn, without beams, a text
    is a function of the seed, its prompt and this number, whatever else is in the batch.
    """
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Check(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **options: Any) -> torch.Tensor:
            check()
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    two_sided = bool(model.config.is_encoder_decoder)
    ids, mask = aligned(prompts, pad_token(model), left=not two_sided)  # (B, T) each
    drawing = generation.temperature > 0 and generation.beams == 1
    chosen = range(len(prompts)) if indices is None else indices
    with torch.no_grad():
        whole = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            stopping_criteria=StoppingCriteriaList([Check()]),
            custom_generate=drawing_from(matrix_of(generation.seed, chosen, generation.max_new_tokens)) if drawing else None,
            **settings_of(model, generation),
        )
    written = whole[:, 1:] if two_sided else whole[:, ids.shape[1] :]  # (B, W)
    return [until_end(row, end_tokens(model)) for row in written.tolist()]


def drawing_from(draws: np.ndarray) -> Callable[..., torch.Tensor]:
    """transformers' own loop, but that each token is drawn by the text's random number in `draws` (B, W)."""

    def decode(model: Any, input_ids: torch.Tensor, logits_processor: Any, generation_config: Any, **given: Any) -> torch.Tensor:
        generation_config.do_sample = False
        processors = [*logits_processor, Drawn(draws, input_ids.shape[1])]
        found: torch.Tensor = model._sample(
            input_ids, logits_processor=type(logits_processor)(processors), generation_config=generation_config, **given
        )
        return found

    return decode


def settings_of(model: Any, generation: Generation) -> dict[str, Any]:
    """What `generate` is told; all else is as the model's own generation settings say."""
    return {"pad_token_id": pad_token(model), "eos_token_id": end_tokens(model) or None, "max_length": None, **generation.settings()}


def aligned(prompts: Sequence[Sequence[int]], pad: int, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) token ids and mask, padded on one side."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(longest - len(prompt), longest) if left else slice(0, len(prompt))
        ids[row, place] = torch.tensor(list(prompt), dtype=torch.long)
        mask[row, place] = 1
    return ids, mask


def until_end(tokens: Sequence[int], ends: Sequence[int]) -> Written:
    """The tokens before the first end token, and whether there was one (padding only ever follows an end)."""
    for position, token in enumerate(tokens):
        if token in ends:
            return Written(list(tokens[:position]), True)
    return Written(list(tokens), False)


def end_tokens(model: Any) -> list[int]:
    """The model's own end and stop tokens, as its generation settings name them."""
    ends = model.generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def pad_token(model: Any) -> int:
    for config in (model.generation_config, model.config):
        if getattr(config, "pad_token_id", None) is not None:
            return int(config.pad_token_id)
    return next(iter(end_tokens(model)), 0)
