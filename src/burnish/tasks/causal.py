"""What the tasks of a causal language model share: batches, the loss of the next token, texts written after prompts.

Legend: B examples in a micro-batch, T tokens, V vocabulary, N examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.core.evaluation import Sample, Samples
from burnish.core.generation import Generation
from burnish.core.protocols import IGNORED, Batch, Choices, Inference, Row
from burnish.core.view import Strip, View
from burnish.data.encode import Encoded, Ragged, padded, stacked
from burnish.metrics import language, text

DRAWING = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
SEARCHING = ("early_stopping", "length_penalty")

if TYPE_CHECKING:
    import torch
    from torch import nn


def encoded(ids: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]], rows: Sequence[int], cut: dict[str, int]) -> Encoded:
    """Examples of `ids`, supervised where their mask says so. An example's first token has nothing before it that could foretell it."""
    labels = [[token if learned else IGNORED for token, learned in zip(*pair, strict=True)] for pair in zip(ids, masks, strict=True)]
    weights = np.array([float(sum(mask[1:])) for mask in masks])
    return Encoded({"input_ids": Ragged.of(ids)}, {"labels": Ragged.of(labels)}, weights, np.array(rows, dtype=np.int64), cut)


def collate(examples: Encoded, indices: Sequence[int], pad_id: int) -> Batch:
    """The chosen examples; a position's label is the token that follows it."""
    from burnish.losses.likelihood import next_tokens

    chosen = list(indices)
    labels = next_tokens(stacked(examples.targets["labels"], chosen, IGNORED))  # type: ignore[arg-type]  # (B, T)
    supervised = labels != IGNORED
    return Batch(
        inputs=padded(examples.inputs, chosen, pad_id),
        targets={"labels": labels},
        examples=chosen,
        weight=float(supervised.sum()),
        tokens=int(examples.lengths[chosen].sum()),
        read=supervised,
    )


def forward(model: nn.Module, batch: Batch, **wanted: Any) -> Any:
    return model(**batch.inputs, **wanted)


def choices(output: Any, batch: Batch) -> list[Choices]:
    from burnish.losses.likelihood import of_tokens

    return [of_tokens(output.logits, batch.targets["labels"], batch.read)]


def losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    """(B,) nats over each example's supervised tokens."""
    from burnish.losses.likelihood import by_example

    return by_example(choices(forward(model, batch), batch), len(batch.examples))


def outputs(model: nn.Module, batch: Batch) -> torch.Tensor:
    """(B, 2): nats over each example's supervised tokens, and how many these are."""
    import torch

    supervised = (batch.targets["labels"] != IGNORED).sum(dim=1)  # (B,)
    return torch.stack([losses(model, batch), supervised.float()], dim=1)


def by_row(found: Sequence[np.ndarray], examples: Encoded, rows: Sequence[Row]) -> np.ndarray:
    """(R, C) of (C,) sums of each example, such as nats and supervised tokens: the same of each row, over all its examples."""
    values = np.stack(found).astype(np.float64)  # (N, C)
    sums = np.zeros((len(rows), values.shape[1]))
    np.add.at(sums, np.asarray(examples.rows), values)
    return sums


def saved(generation: Generation, ends: int | Sequence[int] | None) -> dict[str, Any]:
    """What a model is to keep of its generation settings: those of the task, and the tokens that end a text.

    What else the pretrained model said about drawing tokens and searching with beams is unset, for transformers refuses to save a
    temperature with greedy choice.
    """
    return {**dict.fromkeys((*DRAWING, *SEARCHING)), **generation.settings(), "eos_token_id": ends}


def view(examples: Encoded, index: int, name: str = "text") -> View:
    ids, labels = examples.inputs["input_ids"][index].tolist(), np.asarray(examples.targets["labels"][index])
    return View([Strip(name, ids, [False, *(labels[1:] != IGNORED).tolist()])])


def perplexities(sums: np.ndarray) -> dict[str, float]:
    """Mean loss in nats a supervised token, and exp of it."""
    loss = float(sums[:, 0].sum() / sums[:, 1].sum())
    return {"loss": loss, "perplexity": language.perplexity(loss)}


def answered(
    inference: Inference,
    tokenizer: Any,
    generation: Generation,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    references: Sequence[str],
) -> tuple[dict[str, float], list[Samples], list[str]]:
    """Writes after each prompt: how the texts are (ended, repetitive, long, near the reference), the samples, and the texts."""
    if not prompts:
        return {}, [], []
    written = inference.generate(prompts, generation)
    texts = [tokenizer.decode(one.ids, skip_special_tokens=True).strip() for one in written]
    ended = [one.ended for one in written]
    scores = {f"written_{name}": value for name, value in text.shape(texts, ended).items()}
    if any(references):
        scores["written_rougeL"] = text.score(texts, [[reference] for reference in references])["rougeL"]
    samples = [
        Sample(row.number, tokenizer.decode(prompt), answer, reference, one.ended)
        for row, prompt, answer, reference, one in zip(rows, prompts, texts, references, written, strict=True)
    ]
    note = f"{sum(ended)} of {len(ended)} ended by themselves within {generation.max_new_tokens} tokens."
    return scores, [Samples("Written texts", samples, note)], texts
