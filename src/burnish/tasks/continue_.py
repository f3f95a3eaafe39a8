"""Causal language modeling: a decoder learns to go on with a text, token by token (continued pretraining).

Legend: N examples, B examples in a micro-batch, T tokens, R rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from burnish.core.errors import DataError, count, listing
from burnish.core.evaluation import Evaluation
from burnish.core.generation import Generation
from burnish.core.passage import Change
from burnish.core.protocols import Batch, Choices, Chosen, Inference, Key, Row
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.core.view import View
from burnish.data.encode import Encoded
from burnish.metrics import language
from burnish.tasks import causal, prose, rewording

if TYPE_CHECKING:
    import torch
    from torch import nn

LEAST_ROOM = 8


@register("task")
class Continue(Spec):
    """Goes on with texts, by a causal language model: continued pretraining on documents, or training from scratch.

    Each row is a document. One longer than the model reads is read in consecutive windows, so that nothing is lost; no window holds
    parts of two documents.
    """

    name: Literal["continue"] = "continue"

    word_for_word: ClassVar[bool] = False

    chooses: ClassVar[Chosen] = "token"

    text: str = "text"
    """Column that holds the text."""

    overlap: int = Field(default=0, ge=0)
    """Tokens of a long document that a window reads again from the one before it, as context that is not learned; at least one is."""

    end: bool = True
    """Put the tokenizer's end token behind each document, so that the model learns to end; without it, it never does."""

    prompt_tokens: int = Field(default=16, ge=1)
    """Tokens of a row's beginning that are given when texts are written in an evaluation, at most half of the row."""

    generation: Generation = Generation(samples=4, max_new_tokens=48)
    """How texts are written, in evaluation and in the saved model."""

    @classmethod
    def guess(cls, rows: Sequence[Row]) -> Continue:
        """The column with most text."""
        return cls(text=prose.column(rows))

    @property
    def metrics(self) -> Mapping[str, bool]:
        return language.LANGUAGE

    def columns(self, labelled: bool) -> list[str]:
        return [self.text]

    def fault(self, row: Row, labelled: bool) -> str | None:
        return prose.fault(row, self.text)

    def stratum(self, row: Row) -> str:
        return ""

    def reworded(self, row: Row, change: Change) -> Row:
        return rewording.columns(row, [self.text], change)

    def bind(self, train: Sequence[Row], watched: Sequence[Row], tokenizer: Any) -> Continuer:
        """Teaches the tokenizer to begin each text with its beginning token, where it has one of its own.

        So the saved tokenizer gives what the model was trained on. Left as they are: tokenizers whose beginning is also their end
        (GPT-2), or a mark of their chat template. Raises DataError for a tokenizer without the end token that the task asks for.
        """
        prose.require_fast(tokenizer)
        if self.end and tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no end token to put behind each document: say task.end=false, or use another model.")
        own = tokenizer.bos_token is not None and tokenizer.bos_token_id != tokenizer.eos_token_id
        if own and not beginning(tokenizer) and tokenizer.bos_token not in str(tokenizer.chat_template):
            tokenizer.add_bos_token = True
        return Continuer(self, tokenizer)


def beginning(tokenizer: Any) -> list[int]:
    """The tokens that a tokenizer puts in front of every text."""
    whole, text = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    return next(whole[:start] for start in range(len(whole) + 1) if whole[start : start + len(text)] == text)


def windows(length: int, limit: int, overlap: int) -> Iterator[tuple[slice, int]]:
    """Windows of at most `limit` tokens over a document of `length`, and how many tokens of each are context only.

    Each token but the document's first is foretold in exactly one window, from at least max(1, overlap) tokens before it.
    """
    context = max(1, overlap)
    yield slice(0, min(length, limit)), 1
    done = limit
    while done < length:
        start = done - context
        done = min(start + limit, length)
        yield slice(start, done), context


@dataclass(frozen=True)
class Continuer:
    """The continuation task with its tokenizer."""

    task: Continue
    tokenizer: Any
    auto_class = "AutoModelForCausalLM"
    config: ClassVar[Mapping[str, Any]] = {}
    foretold = True
    redrawn = False

    @property
    def generation(self) -> Mapping[str, Any]:
        return causal.saved(self.task.generation, self.tokenizer.eos_token_id)

    @cached_property
    def beginning(self) -> list[int]:
        return beginning(self.tokenizer)

    def begun(self, ids: Sequence[int]) -> list[int]:
        """A text's tokens with the beginning in front, once."""
        start = self.beginning
        return list(ids) if start and list(ids[: len(start)]) == start else [*start, *ids]

    def ended(self, ids: Sequence[int]) -> list[int]:
        """A text's tokens with the end behind them, once."""
        end = self.tokenizer.eos_token_id
        return [*ids, end] if self.task.end and list(ids[-1:]) != [end] else list(ids)

    def tokens(self, texts: Sequence[str]) -> Any:
        return self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)

    def encode(self, rows: Sequence[Row], labelled: bool = True) -> Encoded:
        """Windows of the documents. The target `bytes` counts, at each document's first window, the bytes of text that are foretold.

        Raises DataError where the overlap leaves no room for anything else.
        """
        limit = int(self.tokenizer.model_max_length)
        if self.task.overlap >= limit:
            raise DataError(
                f"`task.overlap`: {self.task.overlap} tokens of context leave nothing to learn in windows of {limit} tokens: a quarter is plenty."
            )
        texts = [str(row.values[self.task.text]) for row in rows]
        found = self.tokens(texts)
        ids, masks, owners, sizes, long = list[list[int]](), list[list[bool]](), list[int](), list[int](), 0
        for owner, text in enumerate(texts):
            document = self.ended(self.begun(found["input_ids"][owner]))
            size = len(text.encode())
            if not self.beginning and found["input_ids"][owner]:
                size -= len(text[: found.token_to_chars(owner, 0).end].encode())
            long += len(document) > limit
            for part, context in windows(len(document), limit, self.task.overlap):
                ids.append(document[part])
                masks.append([place >= context for place in range(len(ids[-1]))])
                owners.append(owner)
                sizes.append(size)
                size = 0
        examples = causal.encoded(ids, masks, owners, {"read in consecutive windows, nothing is lost": long} if long else {})
        return replace(examples, targets={**examples.targets, "bytes": np.array(sizes, dtype=np.int64)})

    def collate(self, examples: Encoded, indices: Sequence[int], key: Key) -> Batch:
        return causal.collate(examples, indices, self.tokenizer.pad_token_id)

    def forward(self, model: nn.Module, batch: Batch, **wanted: Any) -> Any:
        return causal.forward(model, batch, **wanted)

    def choices(self, output: Any, batch: Batch) -> list[Choices]:
        return causal.choices(output, batch)

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return causal.losses(model, batch)

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B, 3): nats over each example's supervised tokens, how many these are, and those of the nats that end tokens cost."""
        import torch

        from burnish.losses.likelihood import cross_entropy

        (tokens,) = self.choices(self.forward(model, batch), batch)
        nats = tokens.costs(cross_entropy)  # (S,)
        ends = nats * (tokens.targets == self.tokenizer.eos_token_id) if self.task.end else torch.zeros_like(nats)
        found = torch.stack([nats, torch.ones_like(nats), ends], dim=1)  # (S, 3)
        return found.new_zeros(len(batch.examples), 3).index_add(0, tokens.owners, found)

    def evaluate(self, inference: Inference, examples: Encoded, rows: Sequence[Row]) -> Evaluation:
        """Loss and perplexity are means over tokens, ends included. Bits per byte are those of the text alone: without the ends, and
        without a first token that nothing stands before, so that models with any tokenizer can be compared.
        """
        sums = causal.by_row(inference.outputs(examples), examples, rows)  # (R, 3)
        sizes = np.bincount(examples.rows, weights=examples.targets["bytes"], minlength=len(rows))  # type: ignore[arg-type]  # (R,)
        bits = [language.bits_per_byte(nats - ends, size) for (nats, _, ends), size in zip(sums, sizes, strict=True)]
        records = [
            {
                "row": row.number,
                "file": row.file,
                "loss": nats / max(tokens, 1),
                "tokens": int(tokens),
                "bits_per_byte": float(bit),
                "bytes": int(size),
            }
            for row, (nats, tokens, _), bit, size in zip(rows, sums, bits, sizes, strict=True)
        ]
        asked = rows[: self.task.generation.samples]
        pairs = self.openings(asked)
        prompts, references = [prompt for prompt, _ in pairs], [reference for _, reference in pairs]
        written, sections, answers = causal.answered(inference, self.tokenizer, self.task.generation, prompts, asked, references)
        for record, answer, reference in zip(records, answers, references, strict=False):
            record |= {"continuation": answer, "reference": reference}
        whole = language.bits_per_byte(float((sums[:, 0] - sums[:, 2]).sum()), int(sizes.sum()))
        return Evaluation({**causal.perplexities(sums), "bits_per_byte": whole, **written}, sections, records)

    def openings(self, rows: Sequence[Row]) -> list[tuple[list[int], str]]:
        """The beginning of each row's text as a prompt, and how the text goes on, for as long as a text is written."""
        pairs = []
        for ids in self.tokens([str(row.values[self.task.text]) for row in rows])["input_ids"] if rows else []:
            given = min(self.task.prompt_tokens, (len(ids) + 1) // 2)
            rest = ids[given : given + self.task.generation.max_new_tokens]
            pairs.append((self.shortened(self.begun(ids[:given])), self.tokenizer.decode(rest, skip_special_tokens=True).strip()))
        return pairs

    def shortened(self, prompt: list[int]) -> list[int]:
        """The end of a prompt that leaves no room for what is to be written."""
        room = max(self.tokenizer.model_max_length - self.task.generation.max_new_tokens, LEAST_ROOM)
        return prompt[-room:]

    def predict(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """How each text goes on, with the space between them, and whether it came to an end by itself.

        Raises DataError naming texts without a token.
        """
        found = self.tokens([str(row.values[self.task.text]) for row in rows])["input_ids"]
        prompts = [self.shortened(self.begun(ids)) for ids in found]
        empty = [row.place for row, prompt in zip(rows, prompts, strict=True) if not prompt]
        if empty:
            raise DataError(listing(f"{count(len(empty), 'text')} of which the tokenizer leaves nothing to go on from", empty))
        written = inference.generate(prompts, self.task.generation)
        texts = [self.continuation(prompt, one.ids) for prompt, one in zip(prompts, written, strict=True)]
        return [{"continuation": text, "ended": one.ended} for text, one in zip(texts, written, strict=True)]

    def continuation(self, prompt: Sequence[int], ids: Sequence[int]) -> str:
        """What the tokens add to the prompt. Read alone, some tokenizers would drop the space before them."""
        given = self.tokenizer.decode(prompt, skip_special_tokens=True)
        whole = self.tokenizer.decode([*prompt, *ids], skip_special_tokens=True)
        return whole[len(given) :] if whole.startswith(given) else self.tokenizer.decode(ids, skip_special_tokens=True)

    def view(self, examples: Encoded, index: int) -> View:
        return causal.view(examples, index)
