"""Extractive question answering: the stretch of a context that answers a question, or that there is none.

Legend: N windows, B windows of a micro-batch, T tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from burnish.core.errors import DataError, count, listing
from burnish.core.evaluation import Evaluation, Table
from burnish.core.passage import Change
from burnish.core.protocols import Batch, Choices, Chosen, Inference, Key, Row
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.core.view import Strip, View
from burnish.data.encode import Encoded, Ragged, padded
from burnish.metrics import answers as scores
from burnish.tasks import prose, rewording, windows
from burnish.tasks.classify import MISTAKES_SHOWN, shorten
from burnish.tasks.references import Reference, references
from burnish.tasks.windows import NOWHERE, Pair, Span

if TYPE_CHECKING:
    import torch
    from torch import nn

USUAL = {
    "question": ("question", "query", "q"),
    "context": ("context", "passage", "paragraph", "document", "article", "text"),
    "answers": ("answers", "answer", "answer_text", "span"),
}
ALTERNATIVES = 3
FIRST_WORDS_SHOWN = 8


@register("task")
class Answer(Spec):
    """Finds the answer to a question in a text, as a stretch of it. Long texts are read in windows, nothing of them is lost."""

    name: Literal["answer"] = "answer"

    word_for_word: ClassVar[bool] = False

    chooses: ClassVar[Chosen] = "place"

    question: str = "question"
    """Column that holds the question."""

    context: str = "context"
    """Column that holds the text in which the answer stands."""

    answers: str = "answers"
    """Column of the right answers: SQuAD's {text: [...], answer_start: [...]}, a list of such, plain texts, or empty for no answer."""

    stride: int = Field(default=128, ge=0)
    """Tokens that neighboring windows of a long context share; at most half of the context in a window."""

    max_answer_length: int = Field(default=30, ge=1)
    """Tokens of the longest answer that is predicted."""

    n_best: int = Field(default=20, ge=1)
    """Answers of a question among which the score, a probability, is shared."""

    no_answer: bool | None = None
    """Whether "no answer" may be predicted; by default whether some training rows have none."""

    no_answer_threshold: float = 0.0
    """Margin in logits by which "no answer" must beat the best answer; higher gives more answers, -5 to 5 is sensible."""

    @classmethod
    def guess(cls, rows: Sequence[Row]) -> Answer:
        """The columns by their usual names. Raises DataError for articles, which hold many questions each."""
        names = rows[0].values
        if "paragraphs" in names:
            raise DataError(
                f"{rows[0].file} holds SQuAD's nested articles. A row for each question is expected: write "
                '{"question": ..., "context": ..., "answers": {"text": [...], "answer_start": [...]}} for each of an article\'s '
                "paragraphs[i].qas[j], with the paragraph's context."
            )
        return cls(**{field: next((name for name in usual if name in names), field) for field, usual in USUAL.items()})  # type: ignore[arg-type]

    @property
    def metrics(self) -> Mapping[str, bool]:
        return scores.ANSWERS

    def columns(self, labelled: bool) -> list[str]:
        return [self.question, self.context, *([self.answers] if labelled else [])]

    def fault(self, row: Row, labelled: bool) -> str | None:
        found = prose.fault(row, self.question) or prose.fault(row, self.context)
        if found is None and labelled:
            try:
                self.references(row)
            except ValueError as error:
                return f"`{self.answers}`: {error}"
        return found

    def references(self, row: Row) -> list[Reference]:
        """The right answers of a row, none where the question has none. Raises ValueError with what is wrong."""
        return references(row.values.get(self.answers), str(row.values[self.context]))

    def stratum(self, row: Row) -> str:
        return "has an answer" if self.references(row) else "no answer"

    def reworded(self, row: Row, change: Change) -> Row:
        """Question and context, in which the answers stay as they are."""
        right = self.references(row)
        context, starts = rewording.answers(str(row.values[self.context]), [(one.start, one.end) for one in right], change)
        found = {"text": [one.text for one in right], "answer_start": starts}
        return rewording.columns(rewording.with_values(row, {self.context: context, self.answers: found}), [self.question], change)

    def bind(self, train: Sequence[Row], watched: Sequence[Row], tokenizer: Any) -> Answerer:
        """Learns whether there are questions without an answer. Raises DataError where there are no others."""
        prose.require_fast(tokenizer)
        answerable = [bool(self.references(row)) for row in train]
        if train and not any(answerable):
            raise DataError(f"none of the {len(train):,} training rows has an answer in `{self.answers}`: there is nothing to find.")
        no_answer = not all(answerable) if self.no_answer is None else self.no_answer
        return Answerer(self.model_copy(update={"no_answer": no_answer}), tokenizer)


@dataclass(frozen=True)
class Answerer:
    """The task with its tokenizer.

    A model gives each token of a window a start and an end logit (Devlin et al. 2019, arXiv:1810.04805, section 4.2). Where a window
    does not hold the answer, both point at its first token. Training and prediction follow transformers' run_qa script but for this:
    padding takes no part in the softmax, so that a window's loss does not depend on what stands beside it in a batch; all spans
    of the context are looked at, not only those between the n best starts and n best ends; a text is listed once.
    """

    task: Answer
    tokenizer: Any
    auto_class = "AutoModelForQuestionAnswering"
    config: ClassVar[Mapping[str, Any]] = {"num_labels": 2}
    generation: ClassVar[Mapping[str, Any]] = {}
    foretold = True
    redrawn = False

    def encode(self, rows: Sequence[Row], labelled: bool = True) -> Encoded:
        """Windows of the rows, with the characters of each token, and where to learn from also the answer's first and last token.

        Nothing is supervised in the windows of a row whose answer stands whole in none of them. Raises DataError naming the rows
        whose question leaves no room for the context.
        """
        found, owners, problems = list[Pair](), list[int](), list[str]()
        questions = [str(row.values[self.task.question]).strip() for row in rows]
        contexts = [str(row.values[self.task.context]) for row in rows]
        for number, pair in enumerate(windows.pairs(self.tokenizer, questions, contexts)):
            try:
                parts = windows.windows(pair, int(self.tokenizer.model_max_length), self.task.stride)
            except ValueError as error:
                problems.append(f"{rows[number].place}: {error}")
                continue
            found += parts
            owners += [number] * len(parts)
        if problems:
            mend = "Shorten them, or raise data.max_length as far as the model allows."
            raise DataError(listing(f"{count(len(problems), 'question')} too long", problems) + "\n" + mend)
        inputs = {"input_ids": ragged([one.ids for one in found])}
        if "token_type_ids" in self.tokenizer.model_input_names:
            inputs["token_type_ids"] = ragged([one.types for one in found])
        characters = {"starts": ragged([one.starts for one in found]), "ends": ragged([one.ends for one in found])}
        owner = np.array(owners, dtype=np.int64)
        if not labelled:
            return Encoded(inputs, characters, np.ones(len(found)), owner)
        positions, weights = self.targets(found, owner, rows)
        return Encoded(inputs, {**characters, "start_positions": positions[:, 0], "end_positions": positions[:, 1]}, weights, owner)

    def targets(self, found: Sequence[Pair], owner: np.ndarray, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
        """(N, 2) first and last token of each window's answer, the first of a row's, and (N,) whether a window is learned from."""
        right = [self.task.references(row)[:1] for row in rows]
        wanted = [right[number] for number in owner.tolist()]
        targets = [
            windows.target(one, answer[0].start, answer[0].end) if answer else NOWHERE for one, answer in zip(found, wanted, strict=True)
        ]
        positions = np.array(targets, dtype=np.int64).reshape(-1, 2)
        answerable = np.array([bool(answer) for answer in right], dtype=bool)
        held = np.bincount(owner, weights=positions.any(axis=1), minlength=len(rows)) > 0
        return positions, (held | ~answerable)[owner].astype(np.float64)

    def collate(self, examples: Encoded, indices: Sequence[int], key: Key) -> Batch:
        import torch

        chosen = list(indices)
        wanted = [name for name in ("start_positions", "end_positions") if name in examples.targets]
        inputs = padded(examples.inputs, chosen, self.tokenizer.pad_token_id)
        return Batch(
            inputs=inputs,
            targets={name: torch.from_numpy(np.asarray(examples.targets[name])[chosen]) for name in wanted},
            examples=chosen,
            weight=float(examples.weights[chosen].sum()),
            tokens=int(examples.lengths[chosen].sum()),
            read=inputs["attention_mask"] == 1,
        )

    def forward(self, model: nn.Module, batch: Batch, **wanted: Any) -> Any:
        return model(**batch.inputs, **wanted)

    def logits(self, output: Any, batch: Batch) -> list[torch.Tensor]:
        """Start and end logits, (B, T) each, -inf where padding stands."""
        padding = batch.inputs["attention_mask"] == 0
        return [one.float().masked_fill(padding, float("-inf")) for one in (output.start_logits, output.end_logits)]

    def choices(self, output: Any, batch: Batch) -> list[Choices]:
        from burnish.losses.likelihood import one_each

        start, end = self.logits(output, batch)
        return [one_each(start, batch.targets["start_positions"], 0.5), one_each(end, batch.targets["end_positions"], 0.5)]

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B,) -(log softmax(start)[first] + log softmax(end)[last]) / 2 of each window, in nats."""
        from burnish.losses.likelihood import by_example

        return by_example(self.choices(self.forward(model, batch), batch), len(batch.examples))

    def outputs(self, model: nn.Module, batch: Batch) -> list[torch.Tensor]:
        """(2, T) start and end logits of each window's own tokens."""
        import torch

        lengths = batch.inputs["attention_mask"].sum(dim=1).tolist()
        return [
            one[:, :length] for one, length in zip(torch.stack(self.logits(self.forward(model, batch), batch), dim=1), lengths, strict=True)
        ]

    def predict(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]:
        examples = self.encode(rows, labelled=False)
        return self.decoded(inference.outputs(examples), examples, rows)

    def decoded(self, outputs: Sequence[np.ndarray], examples: Encoded, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The answer to each row, from the logits of all its windows."""
        owned: list[list[int]] = [[] for _ in rows]
        for index, owner in enumerate(np.asarray(examples.rows).tolist()):
            owned[owner].append(index)
        starts, ends = examples.targets["starts"], examples.targets["ends"]
        answers = []
        for row, own in zip(rows, owned, strict=True):
            likeliest = []
            for index in own:
                pair = Pair(examples.inputs["input_ids"][index], np.empty(0), starts[index], ends[index])
                score, first, last = windows.likeliest(outputs[index], pair.inside, self.task.n_best, self.task.max_answer_length)
                likeliest.append((score, pair.starts[first], pair.ends[last]))
            found = windows.spans(str(row.values[self.task.context]), likeliest, self.task.n_best)
            answers.append(self.answer(found, min(sum(outputs[index][:, 0].tolist()) for index in own)))
        return answers

    def answer(self, found: Sequence[Span], null: float) -> dict[str, Any]:
        best, shares = windows.chosen(found, null if self.task.no_answer else None, self.task.no_answer_threshold, self.task.n_best)
        others = [{"answer": text, "score": share} for text, share in shares.items() if text != best.text]
        place = {"start": best.start, "end": best.end} if best.text else {"start": None, "end": None}
        return {"answer": best.text, "score": shares.get(best.text, 0.0), **place, "alternatives": others[:ALTERNATIVES]}

    def evaluate(self, inference: Inference, examples: Encoded, rows: Sequence[Row]) -> Evaluation:
        outputs = inference.outputs(examples)
        references = [[right.text for right in self.task.references(row)] for row in rows]
        found = self.decoded(outputs, examples, rows)
        metrics, sections = scores.score([one["answer"] for one in found], references)
        records = [
            {
                "row": row.number,
                "file": row.file,
                "question": str(row.values[self.task.question]),
                "prediction": one["answer"],
                "references": right,
                **{name: one[name] for name in ("score", "start", "end")},
                "f1": scores.token_f1(one["answer"], right),
                "exact_match": scores.exact_match(one["answer"], right),
            }
            for row, one, right in zip(rows, found, references, strict=True)
        ]
        return Evaluation(
            {"loss": self.mean_loss(outputs, examples), **metrics},
            [*sections, *first_words(records), self.mistakes(records, examples)],
            records,
        )

    def mean_loss(self, outputs: Sequence[np.ndarray], examples: Encoded) -> float:
        """The mean of `losses` over windows."""
        losses = [-log_softmax(logits)[[0, 1], place].mean() for logits, place in zip(outputs, places(examples), strict=True)]
        return float(np.average(losses, weights=examples.weights))

    def mistakes(self, records: Sequence[Mapping[str, Any]], examples: Encoded) -> Table:
        """The rows with the lowest F1, of these the surest first."""
        wrong = sorted((one for one in records if not one["exact_match"]), key=lambda one: (one["f1"], -one["score"]))
        shown = [
            [shorten(text) or "(none)" for text in (one["question"], " | ".join(one["references"]), one["prediction"])]
            + [one[name] for name in ("f1", "score", "row")]
            for one in wrong[:MISTAKES_SHOWN]
        ]
        note = f"{len(wrong):,} of {len(records):,} rows are not exactly right; those with the lowest F1 are shown, the surest first."
        first, last = places(examples).T
        longer = len(np.unique(np.asarray(examples.rows)[last - first >= self.task.max_answer_length]))
        if longer:
            verb = "is" if longer == 1 else "are"
            note += f" {count(longer, 'right answer')} {verb} longer than max_answer_length and cannot be predicted."
        return Table("Worst mistakes", ["question", "expected", "predicted", "f1", "score", "row"], shown, note)

    def view(self, examples: Encoded, index: int) -> View:
        """The window's tokens, the first and last of the answer marked; the target is the answer as the tokenizer writes it."""
        ids = examples.inputs["input_ids"][index].tolist()
        first, last = places(examples)[index].tolist()
        notes = [" ".join(word for word, at in (("start", first), ("end", last)) if at == position) for position in range(len(ids))]
        answer = self.tokenizer.decode(ids[first : last + 1]) if (first, last) != NOWHERE else "(no answer in this window)"
        return View([Strip("question and context", ids, [position in (first, last) for position in range(len(ids))], notes)], answer)


def places(examples: Encoded) -> np.ndarray:
    """(N, 2) first and last token of the answer in each window."""
    return np.stack([np.asarray(examples.targets["start_positions"]), np.asarray(examples.targets["end_positions"])], axis=1)


def ragged(sequences: Sequence[np.ndarray]) -> Ragged:
    offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
    return Ragged(np.concatenate([np.empty(0, np.int32), *sequences]), offsets)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def first_words(records: Sequence[Mapping[str, Any]]) -> list[Table]:
    """F1 and exact match by the first word of the question, which in many languages tells its kind; nothing where all have the same."""
    words = [next(iter(record["question"].lower().split()), "") for record in records]
    common = [word for word, _ in Counter(words).most_common(FIRST_WORDS_SHOWN)]
    rows = []
    for kind in (*common, None):
        chosen = [record for word, record in zip(words, records, strict=True) if word == kind or (kind is None and word not in common)]
        if chosen:
            means = [float(np.mean([record[name] for record in chosen])) for name in ("f1", "exact_match")]
            rows.append([kind or "(others)", *means, len(chosen)])
    return [Table("By first word of the question", ["first word", "f1", "exact match", "rows"], rows)] if len(rows) > 1 else []
