"""Masked language modeling: an encoder learns the language of a collection of texts by guessing tokens that were hidden.

Legend: N examples, B examples in a micro-batch, T tokens, V vocabulary, M hidden tokens of an example.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from burnish.core.deferred import through
from burnish.core.errors import DataError, count, listing
from burnish.core.evaluation import Evaluation, Table
from burnish.core.passage import Change
from burnish.core.protocols import IGNORED, Batch, Choices, Chosen, Inference, Key, Row
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.core.view import Strip, View
from burnish.data.encode import Encoded, Ragged, padded, stacked
from burnish.metrics import language
from burnish.tasks import causal, prose, rewording

if TYPE_CHECKING:
    import torch
    from torch import nn

BLANKS = ("[MASK]", "<mask>")
MASKED, REPLACED = 0.8, 0.1
"""Of the hidden tokens, the shares that are read as the mask and as a token drawn at random; the others are read as they are."""

GUESSES = 5
SHOWN = 20
AROUND = 12
BLANK = "____"


@register("task")
class Fill(Spec):
    """Learns the language of texts by guessing hidden tokens, by an encoder (masked language modeling).

    Devlin et al. 2019, "BERT", arXiv:1810.04805, section 3.1; other tokens are hidden at every step, as in Liu et al. 2019, "RoBERTa",
    arXiv:1907.11692, section 4.1. Texts longer than the model reads are read in consecutive windows, so that nothing is lost.
    """

    name: Literal["fill"] = "fill"

    word_for_word: ClassVar[bool] = False

    chooses: ClassVar[Chosen] = "token"

    text: str = "text"
    """Column that holds the text."""

    mask_share: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens of a window that are hidden; 0.15 is usual, 0.3 to 0.4 serves large models."""

    whole_words: bool = False
    """Hide whole words, not single tokens: harder, for a word's beginning no longer gives away its end."""

    mask: str | None = Field(default=None, min_length=1)
    """How a blank is written in a text to be filled, beside [MASK] and <mask>; by default as the tokenizer writes it."""

    @classmethod
    def guess(cls, rows: Sequence[Row]) -> Fill:
        """The column with most text."""
        return cls(text=prose.column(rows))

    @property
    def metrics(self) -> Mapping[str, bool]:
        return language.MASKED

    @property
    def blanks(self) -> list[str]:
        return [*BLANKS, *([self.mask] if self.mask else [])]

    def columns(self, labelled: bool) -> list[str]:
        return [self.text]

    def fault(self, row: Row, labelled: bool) -> str | None:
        found = prose.fault(row, self.text)
        if found is None and not labelled and not any(blank in str(row.values[self.text]) for blank in self.blanks):
            return f"there is nothing to fill in `{self.text}`: write [MASK] where a word is missing"
        return found

    def stratum(self, row: Row) -> str:
        return ""

    def reworded(self, row: Row, change: Change) -> Row:
        return rewording.columns(row, [self.text], change)

    def bind(self, train: Sequence[Row], watched: Sequence[Row], tokenizer: Any) -> Filler:
        """Learns how the tokenizer writes a blank. Raises DataError for a tokenizer that knows none."""
        prose.require_fast(tokenizer)
        if tokenizer.mask_token is None:
            raise DataError(
                "the tokenizer has no mask token, so that nothing can be hidden: task `fill` needs an encoder such as BERT or RoBERTa. "
                "For a causal language model say task=continue."
            )
        return Filler(self.model_copy(update={"mask": self.mask or str(tokenizer.mask_token)}), tokenizer)


@dataclass(frozen=True)
class Filler:
    """The filling task with its tokenizer."""

    task: Fill
    tokenizer: Any
    auto_class = "AutoModelForMaskedLM"
    config: ClassVar[Mapping[str, Any]] = {}
    generation: ClassVar[Mapping[str, Any]] = {}
    foretold = True
    redrawn = True

    @cached_property
    def special(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)

    @cached_property
    def ordinary(self) -> np.ndarray:
        """The ids that a hidden token may be replaced by."""
        return np.array(sorted(set(self.tokenizer.get_vocab().values()) - self.special))

    def encode(self, rows: Sequence[Row], labelled: bool = True) -> Encoded:
        """Windows of the texts with the words in them, or (without labels) texts whose blanks are to be filled."""
        return self.windows(rows) if labelled else self.blanked(rows)

    def windows(self, rows: Sequence[Row]) -> Encoded:
        """Consecutive windows of each text between the tokenizer's special tokens.

        The target `words` numbers what is hidden as a whole: words, or single tokens; -1 for tokens that never are. Windows in which
        nothing can be hidden are left out where their text has others.
        """
        texts = [str(row.values[self.task.text]) for row in rows]
        found = self.tokenizer(texts, truncation=True, return_overflowing_tokens=True, return_attention_mask=False, verbose=False)
        owners = np.array(found["overflow_to_sample_mapping"], dtype=np.int64)
        words = [self.words(encoding, texts[owner]) for encoding, owner in zip(found.encodings, owners, strict=True)]
        weights = np.array([float(sum(word >= 0 for word in window)) for window in words])
        kept = np.flatnonzero((weights > 0) | (np.bincount(owners, weights, len(rows))[owners] == 0))
        long = int((np.bincount(owners, minlength=len(rows)) > 1).sum())
        return Encoded(
            {name: Ragged.of([found[name][index] for index in kept]) for name in self.names},
            {"words": Ragged.of([words[index] for index in kept])},
            weights[kept],
            owners[kept],
            {"read in consecutive windows, nothing is lost": long} if long else {},
        )

    @property
    def names(self) -> list[str]:
        return [name for name in ("input_ids", "token_type_ids") if name in self.tokenizer.model_input_names]

    def words(self, encoding: Any, text: str) -> list[int]:
        """The number of each token's word. A word ends where the tokenizer says so, and at white space."""
        if not self.task.whole_words:
            return [-1 if token in self.special else place for place, token in enumerate(encoding.ids)]
        numbers, word, owner_before, end_before = list[int](), -1, None, 0
        for token, owner, (start, end) in zip(encoding.ids, encoding.word_ids, encoding.offsets, strict=True):
            if token in self.special:
                numbers.append(-1)
                owner_before = None
                continue
            # A space is skipped, or begins a token; the bytes of one character, which all stand at its place, are no beginnings.
            spaced = start > end_before or (start == end_before and text[start : start + 1].isspace())
            word += owner != owner_before or spaced
            numbers.append(word)
            owner_before, end_before = owner, end
        return numbers

    def blanked(self, rows: Sequence[Row]) -> Encoded:
        """Texts to be filled. Raises DataError naming those that the model cannot read as a whole."""
        pattern = "|".join(re.escape(blank) for blank in sorted(self.task.blanks, key=len, reverse=True))
        texts = [re.sub(pattern, lambda found: self.tokenizer.mask_token, str(row.values[self.task.text])) for row in rows]
        found = self.tokenizer(texts, return_attention_mask=False, verbose=False)
        limit = self.tokenizer.model_max_length
        problems = [f"{row.place}: {len(ids):,} tokens" for row, ids in zip(rows, found["input_ids"], strict=True) if len(ids) > limit]
        if problems:
            title = f"{count(len(problems), 'text')} longer than the {limit} tokens that the model reads at once"
            raise DataError(listing(title, problems) + "\nGive only what stands around the blanks.")
        return Encoded({name: Ragged.of(found[name]) for name in self.names}, {}, np.ones(len(rows)), np.arange(len(rows)))

    def hidden(self, examples: Encoded, index: int, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(T,) what the model reads of an example, and (T,) the tokens hidden from it, IGNORED elsewhere; drawn from (key, index).

        As many as the share says, and at least one, are hidden, whatever their number; 80% are read as the mask, 10% as another
        token, 10% as they are, so that the model cannot trust what it reads.
        """
        ids, words = np.array(examples.inputs["input_ids"][index]), np.array(examples.targets["words"][index])
        draw = np.random.default_rng([*key, int(index)])
        known = np.unique(words[words >= 0])
        if not len(known):
            return ids, np.full(len(ids), IGNORED)
        number = max(1, round(self.task.mask_share * len(known)))
        chosen = np.isin(words, draw.choice(known, size=number, replace=False))  # (T,)
        fate, others = draw.random(len(ids)), draw.choice(self.ordinary, size=len(ids))  # (T,) each
        read = np.where(chosen & (fate < MASKED), self.tokenizer.mask_token_id, ids)
        read = np.where(chosen & (fate >= MASKED) & (fate < MASKED + REPLACED), others, read)
        return read, np.where(chosen, ids, IGNORED)

    def collate(self, examples: Encoded, indices: Sequence[int], key: Key) -> Batch:
        chosen = list(indices)
        inputs, pad = padded(examples.inputs, chosen, self.tokenizer.pad_token_id), self.tokenizer.pad_token_id
        tokens = int(examples.lengths[chosen].sum())
        if "words" not in examples.targets:
            return Batch(inputs, {}, chosen, float(len(chosen)), tokens, inputs["input_ids"] == self.tokenizer.mask_token_id)
        read, truth = zip(*(self.hidden(examples, index, key) for index in chosen), strict=True)
        offsets, places = np.cumsum([0, *map(len, read)]), range(len(chosen))
        inputs["input_ids"] = stacked(Ragged(np.concatenate(read), offsets), places, pad)  # (B, T)
        labels = stacked(Ragged(np.concatenate(truth), offsets), places, IGNORED)  # (B, T)
        asked = labels != IGNORED
        return Batch(inputs, {"labels": labels}, chosen, float(asked.sum()), tokens, asked)

    def forward(self, model: nn.Module, batch: Batch, **wanted: Any) -> Any:
        return model(**batch.inputs, **wanted)

    def choices(self, output: Any, batch: Batch) -> list[Choices]:
        from burnish.losses.likelihood import of_tokens

        return [of_tokens(output.logits, batch.targets["labels"], batch.read)]

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        from burnish.losses.likelihood import by_example

        return by_example(self.choices(self.forward(model, batch), batch), len(batch.examples))  # (B,)

    def outputs(self, model: nn.Module, batch: Batch) -> Sequence[torch.Tensor]:
        """Of each example (M, 4), for each hidden token its place, the nats it cost, the likeliest token and its probability;
        or, where blanks are to be filled, (M, 2 x GUESSES), the likeliest tokens and their probabilities."""
        import torch

        asked, labels = batch.read, batch.targets.get("labels")  # (B, T) each
        assert asked is not None, "a batch of this task says which tokens it asks for"
        logits = self.forward(model, batch).logits[asked]  # (M of all examples, V)
        if labels is None:
            found = through(likeliest, logits)
        else:
            found = torch.cat([asked.nonzero()[:, 1:].float(), through(compared, logits, labels[asked])], dim=-1)
        return found.split(asked.sum(dim=1).tolist())

    def evaluate(self, inference: Inference, examples: Encoded, rows: Sequence[Row]) -> Evaluation:
        """The same tokens are hidden each time."""
        found = inference.outputs(examples)
        truths = [np.array(examples.inputs["input_ids"][index])[each[:, 0].astype(int)] for index, each in enumerate(found)]
        right = [each[:, 2] == truth for each, truth in zip(found, truths, strict=True)]
        parts = [np.array([each[:, 1].sum(), len(each), same.sum()]) for each, same in zip(found, right, strict=True)]
        sums = causal.by_row(parts, examples, rows)  # (R, 3)
        accuracy = float(sums[:, 2].sum() / sums[:, 1].sum())
        records = [
            {"row": row.number, "file": row.file, "loss": nats / max(hidden, 1), "hidden": int(hidden), "right": int(same)}
            for row, (nats, hidden, same) in zip(rows, sums, strict=True)
        ]
        metrics = {**causal.perplexities(sums), "masked_accuracy": accuracy}
        return Evaluation(metrics, [self.filled(found, examples, rows)], records)

    def filled(self, found: Sequence[np.ndarray], examples: Encoded, rows: Sequence[Row]) -> Table:
        """Some guesses, spread over the examples: the first of each, and where these are few, the second, and so on."""
        places = sorted((number, index) for index, each in enumerate(found) for number in range(min(len(each), SHOWN)))
        places = places[: max(SHOWN, len(found))]
        chosen = [places[at] for at in np.linspace(0, len(places) - 1, min(SHOWN, len(places))).round().astype(int)]
        shown = []
        for number, index in sorted(chosen, key=lambda place: place[::-1]):
            at, nats, guess, probability = found[index][number]
            ids = examples.inputs["input_ids"][index].tolist()
            hidden = {int(place) for place in found[index][:, 0]}
            seen = [self.tokenizer.mask_token_id if place in hidden else token for place, token in enumerate(ids)]
            truth, guessed = self.written(ids[int(at)]), self.written(int(guess))
            row = rows[int(examples.rows[index])]
            shown.append([self.context(seen, int(at)), truth, guessed, float(probability), float(np.exp(-nats)), row.number])
        note = f"{BLANK} is what was asked; {self.tokenizer.mask_token} are other tokens hidden at the same time."
        return Table("Filled", ["text", "truth", "guess", "probability", "probability of truth", "row"], shown, note)

    def written(self, token: int) -> str:
        return self.tokenizer.decode([token]).strip()

    def context(self, ids: Sequence[int], at: int) -> str:
        """What stands around a place, with a blank in it."""
        frame = self.special - {self.tokenizer.mask_token_id, self.tokenizer.unk_token_id}
        sides = ids[max(at - AROUND, 0) : at], ids[at + 1 : at + 1 + AROUND]
        before, after = (self.tokenizer.decode([token for token in side if token not in frame]).strip() for side in sides)
        return f"{before} {BLANK} {after}".strip()

    def predict(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Each text with its likeliest fillings, each blank judged by itself, and the likeliest tokens of each blank."""
        examples, predictions = self.encode(rows, labelled=False), []
        for index, found in enumerate(inference.outputs(examples)):
            tokens, scores = found[:, : found.shape[1] // 2].astype(int), found[:, found.shape[1] // 2 :]
            ids = np.array(examples.inputs["input_ids"][index])
            ids[ids == self.tokenizer.mask_token_id] = tokens[:, 0]
            fills = [
                [{"token": self.tokenizer.decode([token]), "score": float(score)} for token, score in zip(*pair, strict=True)]
                for pair in zip(tokens.tolist(), scores, strict=True)
            ]
            predictions.append({"text": self.tokenizer.decode(ids.tolist(), skip_special_tokens=True), "fills": fills})
        return predictions

    def view(self, examples: Encoded, index: int) -> View:
        """The text, with one draw of what is hidden, and what the model reads there."""
        read, labels = self.hidden(examples, index, (0,))
        asked = labels != IGNORED
        notes = [self.written(int(token)) if hidden else "" for token, hidden in zip(read, asked, strict=True)]
        return View([Strip("text", examples.inputs["input_ids"][index].tolist(), asked.tolist(), notes)])


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """(M, 2 x GUESSES) the likeliest tokens, and their probabilities, by logits (M, V)."""
    import torch

    best, tokens = logits.float().log_softmax(dim=-1).topk(min(GUESSES, logits.shape[1]), dim=-1)
    return torch.cat([tokens.float(), best.exp()], dim=-1)


def compared(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(M, 3) the nats that the true token cost, the likeliest token and its probability, by logits (M, V)."""
    import torch

    scores = logits.float().log_softmax(dim=-1)
    best, tokens = scores.max(dim=-1, keepdim=True)
    return torch.cat([-scores.gather(1, truth[:, None]), tokens.float(), best.exp()], dim=-1)
