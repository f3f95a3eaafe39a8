"""Sequence to sequence: a text becomes another text (summary, translation, normal form), by an encoder-decoder model.

Legend: B examples in a micro-batch, S source tokens, T target tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from burnish.core.errors import DataError, ModelError
from burnish.core.evaluation import Evaluation, Sample, Samples
from burnish.core.generation import Generation
from burnish.core.passage import Change
from burnish.core.protocols import IGNORED, Batch, Choices, Chosen, Inference, Key, Row
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.core.view import Strip, View
from burnish.data.encode import Encoded, Ragged, padded, stacked
from burnish.metrics import text as scores
from burnish.tasks import causal, prose, rewording
from burnish.tasks.documents import chunks, portions, shares

if TYPE_CHECKING:
    import torch
    from torch import nn

USUAL = (
    ("source", "target"),
    ("document", "summary"),
    ("article", "highlights"),
    ("article", "summary"),
    ("dialogue", "summary"),
    ("text", "summary"),
    ("request", "order"),
    ("input", "output"),
)
LEAST_ROOM = 16
ENOUGH = 0.9
"""A round of writing that leaves more than this share of the text is the last: another would not make it shorter."""
SHOWN = 64
LIMITS = ("min_length", "min_new_tokens", "max_length", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "forced_eos_token_id")
"""What pretrained summarizers say of their own data: how long a text is, what may not occur twice, that every text ends in time."""


@register("task")
class Rewrite(Spec):
    """Turns a text into another: summaries, translations, text to text; documents longer than the model reads in chunks."""

    name: Literal["rewrite"] = "rewrite"

    word_for_word: ClassVar[bool] = False

    chooses: ClassVar[Chosen] = "token"

    source: str = "source"
    """Column of the text to read."""

    target: str = "target"
    """Column of the text to write."""

    query: str | None = None
    """Column of a question that the text to write is to answer; it stands before the source, and before every chunk of it."""

    prefix: str = ""
    """What stands before every source, such as T5's `summarize: `."""

    target_length: int = Field(default=128, ge=2)
    """Tokens that a target may have in training; longer ones are cut at the end and their end is not learned."""

    long: Literal["reduce", "join", "cut"] = "reduce"
    """Sources longer than the model reads: in chunks, whose texts are written again as one (summaries) or joined (translations), or cut."""

    generation: Generation = Generation(samples=None, max_new_tokens=128)
    """How texts are written, in evaluation and in the saved model."""

    @classmethod
    def guess(cls, rows: Sequence[Row]) -> Rewrite:
        """The columns by their usual names, else the longest text becomes the next longest."""
        names = [name for name, value in rows[0].values.items() if isinstance(value, str)]
        for source, target in USUAL:
            if source in names and target in names:
                return cls(source=source, target=target)
        by_length = sorted(names, key=lambda name: -sum(len(str(row.values.get(name))) for row in rows))
        if len(by_length) < 2:
            raise DataError(
                f"{rows[0].file}: two columns of text are needed, a source and a target (its columns: {', '.join(rows[0].values)})."
            )
        return cls(source=by_length[0], target=by_length[1])

    @property
    def metrics(self) -> Mapping[str, bool]:
        return scores.TEXT if self.generation.samples != 0 else {"loss": False}

    def columns(self, labelled: bool) -> list[str]:
        given = [self.source, *([self.query] if self.query else [])]
        return [*given, self.target] if labelled else given

    def fault(self, row: Row, labelled: bool) -> str | None:
        columns = self.columns(labelled)
        missing = next((f"the text in `{column}` is missing" for column in columns if is_nan(row.values.get(column))), None)
        return missing or next((found for column in columns if (found := prose.fault(row, column))), None)

    def stratum(self, row: Row) -> str:
        return ""

    def reworded(self, row: Row, change: Change) -> Row:
        """The source alone: the target is what is learned."""
        return rewording.columns(row, [self.source, self.query], change)

    def bind(self, train: Sequence[Row], watched: Sequence[Row], tokenizer: Any) -> Rewriter:
        if tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no end token, so that a text could never end: use another model, or model.tokenizer.")
        return Rewriter(self, tokenizer)


def is_nan(value: Any) -> bool:
    """What tables of numbers write where there is nothing."""
    return isinstance(value, float) and math.isnan(value)


@dataclass(frozen=True)
class Piece:
    """A source, or a chunk of one: its text and, with what stands before it, its tokens; and whether its end was cut off."""

    text: str
    ids: Sequence[int]
    cut: bool = False


@dataclass(frozen=True)
class Rewriter:
    """The rewriting task with its tokenizer."""

    task: Rewrite
    tokenizer: Any
    auto_class = "AutoModelForSeq2SeqLM"
    config: ClassVar[Mapping[str, Any]] = {}
    foretold = True
    redrawn = False

    @property
    def generation(self) -> Mapping[str, Any]:
        """The task's settings, and the tokens that texts begin and end with; nothing stays of what the pretrained model was made for.

        A tokenizer that puts a token before every target (BART's <s>, a language) has the model begin with it. The end is not
        forced on a text that is broken off, so that `ended` says whether the model ended it.
        """
        end = self.tokenizer.eos_token_id
        first = self.target_ids(["a"])[0][0]
        begins = first in self.tokenizer(text_target="", verbose=False)["input_ids"] and first != end
        return {**dict.fromkeys(LIMITS), **causal.saved(self.task.generation, end), "forced_bos_token_id": first if begins else None}

    def encode(self, rows: Sequence[Row], labelled: bool = True) -> Encoded:
        """Sources and targets; a source in chunks gives an example for each chunk that a part of the target belongs to.

        Rows without a target are no examples: predicting writes for them.
        """
        read = self.read(rows, [str(row.values[self.task.source]) for row in rows])
        kept = [
            (number, piece, part)
            for number, (row, pieces) in enumerate(zip(rows, read, strict=True))
            for piece, part in zip(pieces, self.parts(str(row.values[self.task.target]), pieces), strict=True)
            if part
        ]
        targets, most = self.target_ids([part for _, _, part in kept]), self.task.target_length
        owners = [number for number, _, _ in kept]
        cut = {
            "read in chunks, nothing is lost": sum(len(pieces) > 1 for pieces in read),
            "the end of the source is cut": sum(piece.cut for pieces in read for piece in pieces),
            "the end of the target is cut and not learned": len({at for at, ids in zip(owners, targets, strict=True) if len(ids) > most}),
        }
        columns = {"labels": Ragged.of([ids[:most] for ids in targets])}
        inputs = {"input_ids": Ragged.of([piece.ids for _, piece, _ in kept]), "decoder_input_ids": columns["labels"]}
        told = {how: number for how, number in cut.items() if number}
        return Encoded(inputs, columns, columns["labels"].lengths.astype(np.float64), np.array(owners, dtype=np.int64), told)

    def parts(self, target: str, pieces: Sequence[Piece]) -> list[str]:
        """What of a target each piece of its source is to become; nothing for some."""
        if len(pieces) == 1:
            return [target]
        return (portions if self.task.long == "join" else shares)(target, [piece.text for piece in pieces])

    def read(self, rows: Sequence[Row], texts: Sequence[str]) -> list[list[Piece]]:
        """A text for each row as the model reads it: whole, in chunks that fit, or cut at its end."""
        limit, cutting = int(self.tokenizer.model_max_length), self.task.long == "cut"
        before = [self.before(row) for row in rows]
        whole = self.source_ids([front + text for front, text in zip(before, texts, strict=True)])
        found = []
        for row, front, text, ids in zip(rows, before, texts, whole, strict=True):
            if len(ids) <= limit:
                found.append([Piece(text, ids)])
            elif cutting:
                found.append([Piece(text, self.source_ids([front + text], truncation=True, max_length=limit)[0], cut=True)])
            else:
                found.append(self.chunked(row, front, text, limit))
        return found

    def chunked(self, row: Row, front: str, text: str, limit: int) -> list[Piece]:
        """A long text in chunks, each behind what stands before it. Raises DataError where that leaves no room."""
        taken = len(self.source_ids([front])[0])
        if limit - taken < LEAST_ROOM:
            raise DataError(
                f"{row.place}: what stands before the text takes {taken} of {limit} tokens: "
                "shorten it, or raise data.max_length as far as the model allows."
            )
        found = chunks(text, lambda part: len(self.source_ids([front + part])[0]) - taken, limit - taken)
        return [Piece(part, ids) for part, ids in zip(found, self.source_ids([front + part for part in found]), strict=True)]

    def before(self, row: Row) -> str:
        return self.task.prefix + (f"{row.values[self.task.query]}\n" if self.task.query else "")

    def source_ids(self, texts: Sequence[str], **limits: Any) -> list[list[int]]:
        """Sources as their tokenizer makes them, so that whoever opens the saved model gives it what it learned from.

        A text of which no token is left is the end token, for an encoder has to read something.
        """
        found = self.tokenizer(list(texts), return_attention_mask=False, verbose=False, **limits)["input_ids"]
        return [list(ids) or [self.tokenizer.eos_token_id] for ids in found]

    def target_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Targets as their tokenizer makes them, with the end token behind them where it puts none there itself."""
        end = self.tokenizer.eos_token_id
        found = self.tokenizer(text_target=list(texts), return_attention_mask=False, verbose=False)["input_ids"]
        own = end in self.tokenizer(text_target="", verbose=False)["input_ids"]
        return [list(ids) if own else [*ids, end] for ids in found]

    def collate(self, examples: Encoded, indices: Sequence[int], key: Key) -> Batch:
        """Sources and targets. What the decoder reads stands where its labels do: `losses` moves it to the right as the model does."""
        chosen, pad = list(indices), self.tokenizer.pad_token_id
        labels = stacked(examples.targets["labels"], chosen, IGNORED)  # type: ignore[arg-type]  # (B, T)
        written = labels != IGNORED
        inputs = padded({"input_ids": examples.inputs["input_ids"]}, chosen, pad)  # (B, S)
        return Batch(
            inputs={**inputs, "decoder_input_ids": labels.masked_fill(~written, pad)},
            targets={"labels": labels},
            examples=chosen,
            weight=float(written.sum()),
            tokens=int(examples.lengths[chosen].sum()),
            read=written,
        )

    def forward(self, model: nn.Module, batch: Batch, **wanted: Any) -> Any:
        self.require_fit(model)
        read = moved_right(model, batch.targets["labels"])
        return model(**{**batch.inputs, "decoder_input_ids": read}, **wanted)

    def choices(self, output: Any, batch: Batch) -> list[Choices]:
        from burnish.losses.likelihood import of_tokens

        return [of_tokens(output.logits, batch.targets["labels"], batch.read)]

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        from burnish.losses.likelihood import by_example

        return by_example(self.choices(self.forward(model, batch), batch), len(batch.examples))  # (B,)

    def require_fit(self, model: Any) -> None:
        """Raises ModelError where the model cannot begin a text, or has no place for texts as long as the task has."""
        for config in (model.config, model.generation_config):
            if getattr(config, "decoder_start_token_id", None) is None:
                raise ModelError(
                    "the model's configuration says no `decoder_start_token_id`, the token that its decoder begins every text with: "
                    "set it in config.json and generation_config.json (T5 and Marian begin with the padding token, BART with the end)."
                )
        names = ("max_decoder_position_embeddings", "max_position_embeddings")
        places = next((found for name in names if (found := getattr(model.config, name, None))), None)
        wanted = {"task.target_length": self.task.target_length, "task.generation.max_new_tokens": self.task.generation.max_new_tokens}
        for name, tokens in wanted.items():
            if places is not None and tokens > places:
                raise ModelError(f"`{name}`: {tokens} tokens are more than the model can write, {places}.")

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B, 2): nats over each example's target tokens, and how many these are."""
        import torch

        return torch.stack([self.losses(model, batch), (batch.targets["labels"] != IGNORED).sum(dim=1).float()], dim=1)

    def evaluate(self, inference: Inference, examples: Encoded, rows: Sequence[Row]) -> Evaluation:
        """The mean loss of a target token, and how near the texts that are written come to the targets."""
        sums = causal.by_row(inference.outputs(examples), examples, rows)
        records: list[dict[str, Any]] = [
            {"row": row.number, "file": row.file, "loss": nats / tokens, "tokens": int(tokens)}
            for row, (nats, tokens) in zip(rows, sums, strict=True)
        ]
        metrics = {"loss": float(sums[:, 0].sum() / sums[:, 1].sum())}
        asked = rows[: self.task.generation.samples]
        if not asked:
            return Evaluation(metrics, [], records)
        written = self.written(inference, asked)
        texts, ended = [one["written"] for one in written], sum(one["ended"] for one in written)
        references, sources = ([str(row.values[column]) for row in asked] for column in (self.task.target, self.task.source))
        metrics |= {**scores.score(texts, [[reference] for reference in references], sources), "ended": ended / len(written)}
        for record, one, reference in zip(records, written, references, strict=False):
            record |= {**one, "reference": reference}
        samples = [
            Sample(row.number, source, one["written"], reference, one["ended"])
            for row, source, one, reference in zip(asked, sources, written, references, strict=True)
        ]
        note = f"{ended} of {len(written)} ended by themselves within {self.task.generation.max_new_tokens} tokens."
        return Evaluation(metrics, [Samples("Written texts", samples[:SHOWN], note)], records)

    def predict(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]:
        return self.written(inference, rows)

    def written(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """What the model writes for each row; `chunks` is how many pieces the document was read in.

        A long document is written chunk by chunk (map). What was written is written once more as one text (reduce), again and
        again until it fits or becomes no shorter, unless the task joins.
        """
        texts, left = [str(row.values[self.task.source]) for row in rows], list(range(len(rows)))
        found: list[dict[str, Any]] = [{} for _ in rows]
        while left:
            read = self.read([rows[index] for index in left], [texts[index] for index in left])
            results = iter(inference.generate([piece.ids for pieces in read for piece in pieces], self.task.generation))
            again = []
            for index, pieces in zip(left, read, strict=True):
                parts = [next(results) for _ in pieces]
                joined = self.joined(pieces, [self.tokenizer.decode(one.ids, skip_special_tokens=True).strip() for one in parts])
                count = found[index].get("chunks", len(parts))
                found[index] = {"written": joined, "ended": all(one.ended for one in parts), "chunks": count}
                shorter = 0 < len(joined) < ENOUGH * len(texts[index])
                if len(parts) > 1 and self.task.long == "reduce" and shorter:
                    again.append(index)
                texts[index] = joined
            left = again
        return found

    def joined(self, pieces: Sequence[Piece], written: Sequence[str]) -> str:
        """What was written of each piece as one text: with what stood between the pieces, or to be read on as lines."""
        if self.task.long == "reduce":
            return "\n".join(part for part in written if part)
        return "".join(part + piece.text[len(piece.text.rstrip()) :] for piece, part in zip(pieces, written, strict=True)).strip()

    def view(self, examples: Encoded, index: int) -> View:
        source, target = (np.asarray(column[index]).tolist() for column in (examples.inputs["input_ids"], examples.targets["labels"]))
        return View([Strip("source", source, [False] * len(source)), Strip("target", target, [True] * len(target))])


def moved_right(model: Any, labels: torch.Tensor) -> torch.Tensor:
    """(B, T) What the decoder reads to foretell each label: the labels one to the right, behind the token that begins every text.

    As the model makes it itself (mBART begins with the language that stands behind the text); some have no method for it (NLLB).
    """
    own = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if own is not None:
        return own(labels)
    read = labels.roll(1, dims=1)
    read[:, 0] = model.config.decoder_start_token_id
    return read.masked_fill(read == IGNORED, model.config.pad_token_id)
