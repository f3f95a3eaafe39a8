"""Classification of texts and pairs of texts: one label, several labels, or a number.

Legend: N rows, B examples in a micro-batch, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from burnish.core.errors import DataError, count, listing, nearest
from burnish.core.evaluation import Evaluation, Table
from burnish.core.passage import Change
from burnish.core.protocols import Batch, Choices, Chosen, Inference, Key, Row
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.core.view import Strip, View
from burnish.data.encode import Encoded, padded, tokenize
from burnish.tasks import rewording
from burnish.tasks.problems import MultiLabel, Problem, Regression, SingleLabel

if TYPE_CHECKING:
    import torch
    from torch import nn

MISTAKES_SHOWN = 25
TEXT_SHOWN = 600
USUAL_LABELS = ("label", "labels", "intent", "class", "category", "target", "topic", "sentiment", "stars", "score")


@register("task")
class Classify(Spec):
    """Gives a text, or a pair of texts, a label, several labels, or a number."""

    name: Literal["classify"] = "classify"

    word_for_word: ClassVar[bool] = False

    text: str = "text"
    """Column that holds the text."""

    pair: str | None = None
    """Column that holds the second text of a pair, if rows are pairs."""

    label: str = "label"
    """Column that holds the label: text, a number, or (multi_label) a list or separated text."""

    problem: Literal["single_label", "multi_label", "regression"] = "single_label"
    """Exactly one label a row, any number of labels a row, or a number to predict."""

    labels: list[str] | None = Field(default=None, min_length=2)
    """The labels in the order of the model's outputs; by default those of the training rows, sorted."""

    separator: str = Field(default=",", min_length=1)
    """What stands between the labels of a multi_label row where they are written as one text."""

    @classmethod
    def guess(cls, rows: Sequence[Row]) -> Classify:
        """The columns as their content suggests: the text is the longest, the label has a usual name or the fewest values."""
        names = list(rows[0].values)
        lengths = {name: np.mean([len(value) if isinstance(value := row.values.get(name), str) else 0 for row in rows]) for name in names}
        text = max(names, key=lambda name: lengths[name])
        values = {name: {str(row.values.get(name)) for row in rows} for name in names if name != text}
        usual = next((name for name in USUAL_LABELS if name in values), None)
        label = usual or min((name for name in values if len(values[name]) > 1), key=lambda name: len(values[name]), default="label")
        found = [row.values.get(label) for row in rows]
        problem: Literal["single_label", "multi_label", "regression"] = "single_label"
        if any(isinstance(value, list) for value in found):
            problem = "multi_label"
        elif all(is_number(str(value)) for value in found) and len(set(map(str, found))) > max(10, len(rows) // 10):
            problem = "regression"
        return cls(text=text, label=label, problem=problem)

    @property
    def chooses(self) -> Chosen:
        return {"single_label": "row", "multi_label": "labels", "regression": "number"}[self.problem]  # type: ignore[return-value]

    @property
    def kind(self) -> Problem:
        if self.problem == "multi_label":
            return MultiLabel(self.separator)
        return Regression() if self.problem == "regression" else SingleLabel()

    @property
    def metrics(self) -> Mapping[str, bool]:
        return self.kind.metrics

    @property
    def texts(self) -> list[str]:
        return [self.text] if self.pair is None else [self.text, self.pair]

    def columns(self, labelled: bool) -> list[str]:
        return [*self.texts, self.label] if labelled else self.texts

    def fault(self, row: Row, labelled: bool) -> str | None:
        for column in self.texts:
            value = row.values.get(column)
            if value is None or not str(value).strip():
                return f"the text in `{column}` is {'missing' if value is None else 'empty'}"
            if isinstance(value, (list, dict)):
                return f"`{column}` holds {type(value).__name__} where a text is expected"
        if labelled:
            try:
                self.kind.read(row.values.get(self.label))
            except ValueError as error:
                return f"the label in `{self.label}` {error}"
        return None

    def stratum(self, row: Row) -> str:
        if self.problem == "regression":
            return ""
        return ", ".join(sorted(self.names(row)))

    def reworded(self, row: Row, change: Change) -> Row:
        return rewording.columns(row, self.texts, change)

    def bind(self, train: Sequence[Row], watched: Sequence[Row], tokenizer: Any) -> Classifier:
        """Takes the labels from the recipe, else from the training rows. Raises DataError where watched rows have others."""
        labels = self.labels
        if self.problem == "regression":
            labels = []
        elif labels is None:
            found = {name for row in train for name in self.names(row)}
            labels = sorted(found, key=lambda name: (0, float(name), name) if is_number(name) else (1, 0.0, name))
            if len(labels) < 2:
                raise DataError(
                    f"the training rows have {count(len(labels), 'label')} in `{self.label}` ({', '.join(labels)}): at least two are needed."
                )
            if self.problem == "single_label" and len(labels) > 50 and len(labels) * 2 > len(train):
                raise DataError(
                    f"`{self.label}` has {len(labels):,} different values in {len(train):,} training rows: these are not classes. "
                    "To predict a number say task.problem=regression; otherwise name another column."
                )
        learner = Classifier(self.model_copy(update={"labels": labels or None}), tokenizer)
        learner.targets([*train, *watched])
        return learner

    def names(self, row: Row) -> tuple[str, ...]:
        label = self.kind.read(row.values[self.label])
        return label if isinstance(label, tuple) else (str(label),)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Classifier:
    """The classification task once its labels are known."""

    task: Classify
    tokenizer: Any
    auto_class = "AutoModelForSequenceClassification"
    generation: ClassVar[Mapping[str, Any]] = {}
    foretold = False
    redrawn = False

    @property
    def labels(self) -> list[str]:
        return self.task.labels or []

    @cached_property
    def index(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.labels)}

    @property
    def config(self) -> Mapping[str, Any]:
        names = self.labels or ["value"]
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": self.task.kind.hf_name,
        }

    def targets(self, rows: Sequence[Row]) -> np.ndarray:
        """(N,) or (N, C). Raises DataError naming every row whose label is unknown."""
        kind, found, problems = self.task.kind, [], []
        for row in rows:
            try:
                found.append(kind.target(kind.read(row.values[self.task.label]), self.index))
            except KeyError as error:
                name = str(error.args[0])
                problems.append(f"{row.place}: the label {name!r} does not occur in training{nearest(name, self.labels)}")
        if problems:
            title = f"{count(len(problems), 'row')} with an unknown label (known: {', '.join(self.labels[:20])})"
            raise DataError(listing(title, problems) + "\nCorrect them, add training rows, or name all labels in task.labels.")
        return np.array(found)

    def encode(self, rows: Sequence[Row], labelled: bool = True) -> Encoded:
        texts = [str(row.values[self.task.text]) for row in rows]
        pairs = None if self.task.pair is None else [str(row.values[self.task.pair]) for row in rows]
        inputs, truncated = tokenize(self.tokenizer, texts, pairs)
        targets = {"labels": self.targets(rows)} if labelled else {}
        return Encoded(inputs, targets, np.ones(len(rows)), np.arange(len(rows)), {"cut at the end": truncated} if truncated else {})

    def collate(self, examples: Encoded, indices: Sequence[int], key: Key) -> Batch:
        import torch

        chosen = list(indices)
        return Batch(
            inputs=padded(examples.inputs, chosen, self.tokenizer.pad_token_id),
            targets={name: torch.from_numpy(np.asarray(values)[chosen]) for name, values in examples.targets.items()},
            examples=chosen,
            weight=float(len(chosen)),
            tokens=int(examples.lengths[chosen].sum()),
        )

    def forward(self, model: nn.Module, batch: Batch, **wanted: Any) -> Any:
        return model(**batch.inputs, **wanted)

    def choices(self, output: Any, batch: Batch) -> list[Choices]:
        return self.task.kind.choices(output.logits, batch.targets["labels"])

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return self.forward(model, batch).logits  # (B, C)

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return self.task.kind.losses(self.outputs(model, batch), batch.targets["labels"])  # (B,)

    def predict(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]:
        outputs = np.stack(inference.outputs(self.encode(rows, labelled=False)))
        return self.task.kind.decode(outputs, self.labels)

    def view(self, examples: Encoded, index: int) -> View:
        ids = examples.inputs["input_ids"][index].tolist()
        return View([Strip("text", ids, [False] * len(ids))], self.target_name(np.asarray(examples.targets["labels"])[index]))

    def target_name(self, target: np.ndarray) -> str:
        """A target as people write it."""
        if self.task.problem == "regression":
            return f"{float(target[0]):g}"
        chosen = [int(target)] if self.task.problem == "single_label" else np.flatnonzero(target).tolist()
        return ", ".join(self.labels[index] for index in chosen)

    def evaluate(self, inference: Inference, examples: Encoded, rows: Sequence[Row]) -> Evaluation:
        import torch

        outputs, targets = np.stack(inference.outputs(examples)), np.array(examples.targets["labels"])
        losses = self.task.kind.losses(torch.from_numpy(outputs), torch.from_numpy(targets)).numpy()  # (N,)
        scores, sections = self.task.kind.score(outputs, targets, self.labels)
        predicted = self.task.kind.decode(outputs, self.labels)
        records = [
            {
                "row": row.number,
                "file": row.file,
                "truth": self.task.kind.read(row.values[self.task.label]),
                **prediction,
                "loss": float(loss),
            }
            for row, prediction, loss in zip(rows, predicted, losses, strict=True)
        ]
        metrics = {"loss": float(losses.mean()), **scores}
        return Evaluation(metrics, [*sections, self.mistakes(records, rows)], records)

    def mistakes(self, records: Sequence[dict[str, Any]], rows: Sequence[Row]) -> Table:
        """The rows that cost most, most costly first; of labelled rows only the wrong ones."""
        answer = next(key for key in ("label", "labels", "value") if key in records[0])
        numeric = answer == "value"
        wrong = [at for at, record in enumerate(records) if numeric or as_set(record["truth"]) != as_set(record[answer])]
        wrong.sort(key=lambda at: -records[at]["loss"])
        shown = [
            [shorten(self.text_of(rows[at])), shown_label(records[at]["truth"]), shown_label(records[at][answer])]
            + ([records[at]["score"]] if answer == "label" else [])
            + [records[at]["loss"], rows[at].number]
            for at in wrong[:MISTAKES_SHOWN]
        ]
        columns = ["text", "truth", "predicted", *(["probability"] if answer == "label" else []), "loss", "row"]
        note = "" if numeric else f"{len(wrong):,} of {len(records):,} rows are wrong; those with the highest loss are shown."
        return Table("Largest errors" if numeric else "Worst mistakes", columns, shown, note)

    def text_of(self, row: Row) -> str:
        return " / ".join(str(row.values[column]) for column in self.task.texts)


def as_set(label: Any) -> frozenset[str]:
    return frozenset([label] if isinstance(label, str) else label)


def shown_label(label: Any) -> Any:
    return ", ".join(label) or "(none)" if isinstance(label, (list, tuple)) else label


def shorten(text: str) -> str:
    return text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 3] + "..."
