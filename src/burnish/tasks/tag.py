"""Tagging of words: entities and other spans, parts of speech.

Legend: B examples (windows of rows) in a micro-batch, T tokens, W words of a row or window, C tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from burnish.core.deferred import whole
from burnish.core.errors import DataError, count, listing, nearest
from burnish.core.evaluation import Evaluation, Section
from burnish.core.passage import Change
from burnish.core.protocols import IGNORED, Batch, Choices, Chosen, Inference, Key, Row
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.core.view import Strip, View
from burnish.data.encode import Encoded, Ragged, padded, stacked
from burnish.metrics import spans as scores
from burnish.tasks import entities, rewording, spans, words
from burnish.tasks.entities import Tagged, Told
from burnish.tasks.spans import OUTSIDE, Scheme, Span
from burnish.tasks.words import Window

if TYPE_CHECKING:
    import torch
    from torch import nn

USUAL_TOKENS = ("tokens", "words")
USUAL_TAGS = ("tags", "ner_tags", "ner", "labels", "pos_tags", "pos", "upos", "chunk_tags")
USUAL_TEXTS = ("text", "sentence", "content")
USUAL_SPANS = ("entities", "spans", "annotations")
CUT = "their longest word was cut to its first pieces"
MOST_TAGS_SHOWN = 15
PLACES = ("first", "start", "end")


@register("task")
class Tag(Spec):
    """Gives each word a tag: names of people and places, other spans, parts of speech.

    Rows are lists of words with lists of tags, or texts with the characters of their spans. A span that begins or ends within a
    word takes the whole word. Rows that are longer than the model can read are read in several windows, nothing of them is lost.
    """

    name: Literal["tag"] = "tag"

    chooses: ClassVar[Chosen] = "word"

    tokens: str = "tokens"
    """Column of the words, where rows are word lists: a list, JSON, or text with blanks between the words."""

    tags: str = "tags"
    """Column of their tags: as many as there are words."""

    text: str | None = None
    """Column of the text, where rows are texts with spans and not word lists."""

    spans: str = "entities"
    """Column of a text's spans: a list of {start, end, label} in characters, end exclusive."""

    scheme: Scheme | None = None
    """How tags write spans, or plain where they are none (parts of speech); by default found in the training rows, BIO for texts."""

    labels: list[str] | None = Field(default=None, min_length=1)
    """The tags in the order of the model's outputs, or for texts the types; by default those of the training rows, O first, then by type."""

    all_pieces: bool = False
    """Learn from all pieces of a word (the first carries its tag, the others I-), or only from the first, as is usual."""

    @model_validator(mode="after")
    def spans_have_a_scheme(self) -> Tag:
        if self.text is not None and self.scheme == "plain":
            raise ValueError("texts have spans, which plain tags cannot write: take BIO or BIOES")
        return self

    @classmethod
    def guess(cls, rows: Sequence[Row]) -> Tag:
        """The columns by their usual names. Raises DataError where there are none."""
        names = rows[0].values
        found = {
            usual: next((name for name in usual if name in names), None) for usual in (USUAL_TOKENS, USUAL_TAGS, USUAL_TEXTS, USUAL_SPANS)
        }
        tokens, tags, text, spans_column = found.values()
        if tokens and tags:
            return cls(tokens=tokens, tags=tags)
        if text and spans_column:
            return cls(text=text, spans=spans_column)
        raise DataError(
            f"{rows[0].file}: no columns have the usual names (its columns: {', '.join(names)}). For words with tags these are "
            f"{' or '.join(USUAL_TOKENS)} and {' or '.join(USUAL_TAGS)}, for texts with spans {' or '.join(USUAL_TEXTS)} and {' or '.join(USUAL_SPANS)}."
        )

    @property
    def metrics(self) -> Mapping[str, bool]:
        """Those of the scheme; of both kinds as long as that is to be found in the rows."""
        if self.scheme == "plain":
            return scores.PLAIN
        return scores.SPANS if self.scheme or self.text is not None else {**scores.SPANS, **scores.PLAIN}

    def columns(self, labelled: bool) -> list[str]:
        given, wanted = (self.tokens, self.tags) if self.text is None else (self.text, self.spans)
        return [given, wanted] if labelled else [given]

    def fault(self, row: Row, labelled: bool) -> str | None:
        try:
            if self.text is not None:
                self.text_of(row)
                if labelled:
                    self.spans_of(row)
                return None
            number = len(self.words_of(row))
            if not labelled:
                return None
            tags = self.tags_of(row)
        except ValueError as error:
            return str(error)
        if len(tags) != number:
            return f"`{self.tokens}` has {count(number, 'word')} and `{self.tags}` {count(len(tags), 'tag')}: there is one for each word"
        # A row alone tells its scheme only where types are named: plain tags may be single letters.
        return self.scheme_fault(tags, self.scheme or (spans.scheme_of(tags) if any("-" in tag for tag in tags) else "plain"))

    def scheme_fault(self, tags: Sequence[str], scheme: Scheme) -> str | None:
        """Which word's tag breaks the scheme."""
        fault = None if scheme == "plain" else scores.scheme_fault(tags, scheme)
        if fault and scheme == "BIO" and spans.is_iob1(tags):
            fault += ". A file in which spans begin with I- is IOB1, the form of the old CoNLL files: make the first I- of each span a B-"
        return fault and f"`{self.tags}`: {fault}"

    def stratum(self, row: Row) -> str:
        return ""

    def read(self, column: str, row: Row, reader: Callable[..., Any], *given: Any) -> Any:
        try:
            return reader(row.values.get(column), *given)
        except ValueError as error:
            raise ValueError(f"`{column}` {error}") from None

    def words_of(self, row: Row) -> list[str]:
        return self.read(self.tokens, row, spans.read_words)

    def tags_of(self, row: Row) -> list[str]:
        return self.read(self.tags, row, spans.read_tags, self.labels)

    def text_of(self, row: Row) -> str:
        return self.read(str(self.text), row, spans.read_text)

    def spans_of(self, row: Row) -> list[Span]:
        return self.read(self.spans, row, spans.read_spans, self.text_of(row))

    @property
    def word_for_word(self) -> bool:
        return self.scheme == "plain"

    def reworded(self, row: Row, change: Change) -> Row:
        """What stands in no span; plain tags stay with their words."""
        if self.text is not None:
            text, found = rewording.spans(self.text_of(row), self.spans_of(row), change)
            return rewording.with_values(row, {self.text: text, self.spans: [asdict(span) for span in found]})
        made, tags = rewording.words(self.words_of(row), self.tags_of(row), self.scheme or "BIO", change)
        return rewording.with_values(row, {self.tokens: made, self.tags: tags})

    def bind(self, train: Sequence[Row], watched: Sequence[Row], tokenizer: Any) -> Tagger:
        """Finds scheme and tags in the training rows, where the recipe does not name them. Raises DataError where rows do not fit."""
        words.require_fast(tokenizer)
        if self.text is None:
            words.expect_words(tokenizer)
        learner = Tagger(self.learned(train), tokenizer)
        learner.check([*train, *watched])
        return learner

    def learned(self, train: Sequence[Row]) -> Tag:
        """The task with its scheme and tags. Raises DataError where the rows teach none."""
        scheme, labels = self.scheme, self.labels
        if self.text is not None:
            scheme, labels = scheme or "BIO", labels or []
            named = spans.types_of(labels) if spans.scheme_of(labels) == scheme else set(labels) - {OUTSIDE}
            every = spans.all_tags(named or {span.label for row in train for span in self.spans_of(row)}, scheme)
            labels = [*(label for label in labels if label in every), *(tag for tag in every if tag not in labels)]
        elif scheme is None or labels is None:
            tags = [tag for row in train for tag in self.tags_of(row)]
            scheme = scheme or spans.scheme_of([*tags, *(labels or ())])
            labels = labels or (sorted(set(tags)) if scheme == "plain" else spans.all_tags(spans.types_of(tags), scheme))
            if scheme == "plain" and len(labels) > 50 and len(labels) * 2 > len(tags):
                raise DataError(
                    f"`{self.tags}` has {len(labels):,} different values for {len(tags):,} words: these are no tags. Name another column."
                )
        if len(labels) < 2:
            column = self.tags if self.text is None else self.spans
            raise DataError(
                f"`{column}` has nothing to tell apart in {count(len(train), 'training row')}: every word is {', '.join(labels)}."
            )
        return self.model_copy(update={"scheme": scheme, "labels": labels})


@dataclass(frozen=True)
class Tagger:
    """The tagging task once its tags are known."""

    task: Tag
    tokenizer: Any
    auto_class = "AutoModelForTokenClassification"
    generation: ClassVar[Mapping[str, Any]] = {}
    foretold = False
    redrawn = False

    @property
    def labels(self) -> list[str]:
        return self.task.labels or []

    @property
    def scheme(self) -> Scheme:
        return self.task.scheme or "plain"

    @cached_property
    def index(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.labels)}

    @property
    def config(self) -> Mapping[str, Any]:
        return {"num_labels": len(self.labels), "id2label": dict(enumerate(self.labels)), "label2id": dict(self.index)}

    def check(self, rows: Sequence[Row]) -> None:
        """Raises DataError naming every row with a tag that training does not have, or whose tags break the scheme."""
        known = self.labels if self.task.text is None else sorted(spans.types_of(self.labels))
        problems = []
        for row in rows:
            if self.task.text is None:
                found = self.task.tags_of(row)
                fault = self.task.scheme_fault(found, self.scheme)
            else:
                found, fault = [span.label for span in self.task.spans_of(row)], None
            unknown = next((name for name in found if name not in known), None)
            if unknown is not None:
                fault = f"{unknown!r} does not occur in training{nearest(unknown, known)} (known: {', '.join(known[:20])})"
            if fault:
                problems.append(f"{row.place}: {fault}")
        if problems:
            hint = "Correct them, add training rows, or name all of them in task.labels"
            plain = "" if self.scheme == "plain" or self.task.text else "; where tags are no spans, say task.scheme=plain"
            raise DataError(listing(f"{count(len(problems), 'row')} with tags that do not fit", problems) + f"\n{hint}{plain}.")

    def given(self, row: Row) -> str | list[str]:
        return self.task.words_of(row) if self.task.text is None else self.task.text_of(row)

    def truth(self, row: Row, starts: Sequence[int], ends: Sequence[int]) -> list[str]:
        """The true tags of a row's words, or of a text's words that stand at `starts` to `ends`."""
        if self.task.text is None:
            return self.task.tags_of(row)
        return spans.span_tags(self.task.spans_of(row), starts, ends, self.scheme)

    # What the model sees

    def encode(self, rows: Sequence[Row], labelled: bool = True) -> Encoded:
        """Windows of rows: a label for each piece, and for each word its first piece, and where it starts and ends in its row."""
        if labelled:
            self.check(rows)
        given = [self.given(row) for row in rows]
        windows: list[Window] = []
        labels: list[list[int]] = []
        owners: list[int] = []
        cut = 0
        for number, encoding in enumerate(words.encodings(self.tokenizer, given)):
            found = words.words_of(encoding, given[number])
            made = words.windows(encoding, found, self.tokenizer.model_max_length)
            cut += words.longest(found) > words.longest([word for window in made for word in window.words])
            windows += made
            owners += [number] * len(made)
            if labelled:
                labels += self.piece_labels(rows[number], made)
        return Encoded(
            inputs={
                name: Ragged.of([getattr(window, name) for window in windows])
                for name in ("input_ids", "token_type_ids")
                if name in self.tokenizer.model_input_names
            },
            targets={
                **({"labels": Ragged.of(labels)} if labelled else {}),
                **{name: Ragged.of([[getattr(word, name) for word in window.words] for window in windows]) for name in PLACES},
            },
            weights=np.array([float(sum(label != IGNORED for label in one)) for one in labels] if labelled else [1.0] * len(windows)),
            rows=np.array(owners, dtype=np.int64),
            cut={CUT: cut} if cut else {},
        )

    def piece_labels(self, row: Row, windows: Sequence[Window]) -> list[list[int]]:
        """The label of each piece of each window: a tag's id at a word's first piece, IGNORED where nothing is supervised."""
        found = [word for window in windows for word in window.words]
        tags = self.truth(row, [word.start for word in found], [word.end for word in found])
        places = iter(range(len(found)) if self.task.text is not None else [word.start for word in found])
        made = []
        for window in windows:
            labels = [IGNORED] * len(window.input_ids)
            for word in window.words:
                tag = tags[next(places)]
                labels[word.first] = self.index[tag]
                if self.task.all_pieces:
                    further = self.index.get(spans.continuation(tag, self.scheme), self.index[tag])
                    labels[word.first + 1 : word.first + word.size] = [further] * (word.size - 1)
            made.append(labels)
        return made

    def collate(self, examples: Encoded, indices: Sequence[int], key: Key) -> Batch:
        chosen = list(indices)
        fills = {"labels": IGNORED, "first": -1}
        inputs = padded(examples.inputs, chosen, self.tokenizer.pad_token_id)
        columns = {name: column for name, column in examples.targets.items() if name in fills}
        targets = {name: stacked(column, chosen, fills[name]) for name, column in columns.items()}  # type: ignore[arg-type]
        firsts = words.marked(targets["first"], inputs["input_ids"].shape[1])
        read = firsts | (targets["labels"] != IGNORED) if "labels" in targets else firsts
        weight = float(np.asarray(examples.weights)[chosen].sum())
        return Batch(inputs, targets, chosen, weight, int(examples.lengths[chosen].sum()), read)

    def forward(self, model: nn.Module, batch: Batch, **wanted: Any) -> Any:
        return model(**batch.inputs, **wanted)

    def choices(self, output: Any, batch: Batch) -> list[Choices]:
        from burnish.losses.likelihood import of_tokens

        return [of_tokens(output.logits, batch.targets["labels"])]

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        from burnish.losses.likelihood import by_example

        return by_example(self.choices(self.forward(model, batch), batch), len(batch.examples))  # (B,)

    def outputs(self, model: nn.Module, batch: Batch) -> Sequence[torch.Tensor]:
        """The logits (W, C) of each window's words, taken at their first pieces."""
        firsts = batch.targets["first"]  # (B, W)
        chosen = self.forward(model, batch).logits[words.marked(firsts, batch.inputs["input_ids"].shape[1])]  # (W of all windows, C)
        return whole(chosen).split((firsts >= 0).sum(dim=1).tolist())

    def view(self, examples: Encoded, index: int) -> View:
        ids = examples.inputs["input_ids"][index].tolist()
        labels = np.asarray(examples.targets["labels"][index])
        notes = [""] * len(ids)
        for place in np.asarray(examples.targets["first"][index]):
            notes[place] = self.labels[labels[place]]
        return View([Strip("words" if self.task.text is None else "text", ids, (labels != IGNORED).tolist(), notes)])

    # What comes of it

    def told(self, inference: Inference, examples: Encoded, rows: Sequence[Row]) -> list[Told]:
        """What the model says of each row, its windows joined."""
        outputs = inference.outputs(examples)
        places: list[list[int]] = [[] for _ in rows]
        for place, owner in enumerate(np.asarray(examples.rows)):
            places[owner].append(place)
        columns = [examples.targets["start"], examples.targets["end"], outputs]
        return [
            Told(self.given(row), *(np.concatenate([column[place] for place in own]) for column in columns))
            for row, own in zip(rows, places, strict=True)
        ]

    def predict(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]:
        made = []
        for told in self.told(inference, self.encode(rows, labelled=False), rows):
            tagged, probabilities = told.tagged(self.labels), told.probabilities()
            found: dict[str, Any] = {} if self.task.text is not None else {"tags": tagged.tags}
            found |= {"scores": probabilities} if self.scheme == "plain" else {"entities": tagged.entities(probabilities)}
            made.append(found)
        return made

    def evaluate(self, inference: Inference, examples: Encoded, rows: Sequence[Row]) -> Evaluation:
        """Scores of tags and spans; the loss is that of words, of their first pieces, also where all pieces are learned from."""
        told = self.told(inference, examples, rows)
        truth = [Tagged(one.given, *one.extents, self.truth(row, *one.extents)) for row, one in zip(rows, told, strict=True)]
        predicted = [one.tagged(self.labels) for one in told]
        losses = [one.losses(row.tags, self.index) for one, row in zip(told, truth, strict=True)]
        records = [
            {"row": row.number, "file": row.file, "truth": true.tags, "predicted": guess.tags, "loss": float(loss.mean())}
            for row, true, guess, loss in zip(rows, truth, predicted, losses, strict=True)
        ]
        scored, sections = self.score(truth, predicted)
        if self.task.text is not None:
            sections = entities.with_misaligned(sections, [self.task.spans_of(row) for row in rows], truth)
        return Evaluation(
            {"loss": float(np.concatenate(losses).mean()), **scored},
            [*sections, entities.mistakes(truth, predicted, records, self.scheme == "plain")],
            records,
        )

    def score(self, truth: Sequence[Tagged], predicted: Sequence[Tagged]) -> tuple[dict[str, float], list[Section]]:
        """Metrics and a table of types or tags, with the confusion of words where tags are few."""
        guesses, tags = [row.tags for row in predicted], [row.tags for row in truth]
        said = any(OUTSIDE in row for row in guesses)  # of words without a piece O is said, though no row may have been tagged so
        names = [*self.labels, OUTSIDE] if said and OUTSIDE not in self.index else self.labels
        found, sections = scores.plain(guesses, tags, names) if self.scheme == "plain" else scores.score(guesses, tags, self.scheme)
        few = [entities.confusion(truth, predicted, names)] if len(names) <= MOST_TAGS_SHOWN else []
        return found, [*sections, *few]
