"""The classification task: what a label is, which labels there are, what the model sees, what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from burnish.core.errors import DataError
from burnish.core.protocols import Row
from burnish.tasks.classify import MISTAKES_SHOWN, TEXT_SHOWN, Classifier, Classify
from burnish.tasks.problems import MultiLabel, Regression, SingleLabel

KEY = (0, 0)


def rows(*labels: Any, texts: list[str] | None = None) -> list[Row]:
    words = texts or [f"text {number}" for number in range(len(labels))]
    return [
        Row({"text": text, "label": label}, "a.csv", number, number + 1)
        for number, (text, label) in enumerate(zip(words, labels, strict=True), start=1)
    ]


def bound(*labels: Any, watched: list[Row] | None = None, **settings: Any) -> Classifier:
    return Classify(**settings).bind(rows(*labels), watched or [], None)


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture
def single(tokenizer: Any) -> Classifier:
    return replace(bound("a", "b", "c"), tokenizer=tokenizer)


@dataclass
class Given:
    """A model whose outputs are known."""

    values: np.ndarray

    def outputs(self, examples: Any) -> list[np.ndarray]:
        assert len(examples) == len(self.values)
        return list(self.values)

    def generate(self, prompts: Any, generation: Any) -> Any:
        raise AssertionError("a classifier writes nothing")


def predicted(learner: Classifier, outputs: np.ndarray, tokenizer: Any) -> list[dict[str, Any]]:
    data = [Row({"text": f"text {number}"}, "a.csv", number) for number in range(len(outputs))]
    return replace(learner, tokenizer=tokenizer).predict(Given(outputs), data)


# What a label is


@pytest.mark.parametrize("value", [1, 1.0, "1", " 1 ", np.int64(1), np.float64(1.0)])
def test_one_is_one_however_it_is_written(value: Any) -> None:
    assert SingleLabel().read(value) == "1"


def test_labels_as_text() -> None:
    assert [SingleLabel().read(value) for value in (True, False, 1.5, "Ja", 0)] == ["true", "false", "1.5", "Ja", "0"]


@pytest.mark.parametrize(
    ("value", "words"), [(None, "is missing"), (math.nan, "is missing"), ("", "is empty"), ("  ", "is empty"), (["a"], "multi_label")]
)
def test_what_is_no_label(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SingleLabel().read(value)


def test_several_labels() -> None:
    read = MultiLabel(",").read
    assert read("a, b") == read(["a", "b"]) == read(("a", "b")) == ("a", "b")
    assert read("a,,b,") == ("a", "b")
    assert read("") == read([]) == ()
    assert read(3) == ("3",)
    assert read([1, 2.0, True]) == ("1", "2", "true")
    assert MultiLabel("|").read("a,x|b") == ("a,x", "b")
    for wrong in (None, [None], [["a"]]):
        with pytest.raises(ValueError, match=r"missing|several values"):
            read(wrong)


def test_numbers() -> None:
    read = Regression().read
    assert [read(value) for value in (2, "2.5", " -1e3 ", True)] == [2.0, 2.5, -1000.0, 1.0]
    for value, words in [
        (None, "is missing"),
        ("", "is missing"),
        ("four", "not a number"),
        ("nan", "not a finite"),
        (math.inf, "not a finite"),
    ]:
        with pytest.raises(ValueError, match=words):
            read(value)


# Rows


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"text": "", "label": "a"}, "the text in `text` is empty"),
        ({"text": " \t", "label": "a"}, "the text in `text` is empty"),
        ({"text": None, "label": "a"}, "the text in `text` is missing"),
        ({"label": "a"}, "the text in `text` is missing"),
        ({"text": ["x"], "label": "a"}, "holds list where a text is expected"),
        ({"text": "x", "label": ""}, "the label in `label` is empty"),
        ({"text": "x"}, "the label in `label` is missing"),
    ],
)
def test_faulty_rows(values: dict[str, Any], words: str) -> None:
    assert words in str(Classify().fault(Row(values, "a.csv", 1), True))


def test_sound_rows_and_rows_to_predict() -> None:
    assert Classify().fault(Row({"text": "x", "label": 0}, "a.csv", 1), True) is None
    assert Classify().fault(Row({"text": 12}, "a.csv", 1), False) is None
    assert "`b` is empty" in str(Classify(text="a", pair="b").fault(Row({"a": "x", "b": ""}, "a.csv", 1), False))


def test_columns() -> None:
    assert Classify(text="a", pair="b", label="c").columns(True) == ["a", "b", "c"]
    assert Classify(text="a", label="c").columns(False) == ["a"]


def test_strata() -> None:
    multi = Classify(problem="multi_label")
    assert multi.stratum(rows(["b", "a"])[0]) == multi.stratum(rows("a,b")[0]) == "a, b"
    assert Classify().stratum(rows(1.0)[0]) == "1"
    assert Classify(problem="regression").stratum(rows(3)[0]) == Classify(problem="regression").stratum(rows(4)[0])


# Binding


def test_labels_are_sorted_numbers_by_value() -> None:
    assert bound("10", 9, 1.0, "-2", 1).labels == ["-2", "1", "9", "10"]
    assert bound("b", "a", "2", "10").labels == ["2", "10", "a", "b"]
    assert bound(True, False).labels == ["false", "true"]


def test_the_recipe_may_name_the_labels_and_their_order() -> None:
    learner = bound("a", "b", labels=["b", "never", "a"])
    assert learner.labels == ["b", "never", "a"]
    assert learner.targets(rows("a", "b")).tolist() == [2, 0]
    assert learner.config["id2label"] == {0: "b", 1: "never", 2: "a"}
    assert learner.config["label2id"] == {"b": 0, "never": 1, "a": 2}
    assert learner.config["num_labels"] == 3


def test_a_bound_task_binds_again_without_data() -> None:
    learner = bound("a", "b")
    assert learner.task.bind([], [], None).labels == ["a", "b"]
    assert bound(1.0, 2.0, problem="regression").task.bind([], [], None).labels == []


def test_labels_that_training_lacks_are_told_with_rows() -> None:
    watched = rows("delivery", "delivry", "praise")
    with pytest.raises(DataError) as caught:
        bound("delivery", "returns", watched=watched)
    message = str(caught.value)
    assert "2 rows with an unknown label (known: delivery, returns)" in message
    assert "a.csv row 2 (line 3): the label 'delivry' does not occur in training - did you mean `delivery`?" in message
    assert "row 3 (line 4): the label 'praise' does not occur in training" in message
    assert "task.labels" in message


def test_a_training_label_that_the_recipe_does_not_name() -> None:
    with pytest.raises(DataError, match="the label 'c'"):
        bound("a", "b", "c", labels=["a", "b"])


def test_one_label_cannot_be_learned() -> None:
    with pytest.raises(DataError, match=r"have 1 label in `label` \(a\): at least two"):
        bound("a", "a")


def test_labels_that_are_no_classes() -> None:
    with pytest.raises(DataError, match=r"60 different values in 60 training rows.*task\.problem=regression"):
        bound(*range(60))


@pytest.mark.parametrize(
    ("problem", "labels", "expected"),
    [
        ("single_label", ["b", "a"], [1, 0]),
        ("multi_label", ["b,a", ["a"], ""], [[1, 1], [1, 0], [0, 0]]),
        ("regression", ["1.5", 2], [[1.5], [2.0]]),
    ],
)
def test_targets(problem: Any, labels: list[Any], expected: list[Any]) -> None:
    targets = bound(*labels, problem=problem).targets(rows(*labels))
    assert targets.tolist() == expected
    assert targets.dtype == (np.int64 if problem == "single_label" else np.float32)


def test_problem_types_are_those_of_transformers() -> None:
    kinds = {problem: Classify(problem=problem).kind.hf_name for problem in ("single_label", "multi_label", "regression")}  # type: ignore[arg-type]
    assert kinds == {"single_label": "single_label_classification", "multi_label": "multi_label_classification", "regression": "regression"}
    assert bound(1, 2, problem="regression").config["num_labels"] == 1


# What the model sees


def test_encoding_and_batches(single: Classifier, tokenizer: Any) -> None:
    data = rows("c", "a", texts=["Where is my parcel?", "Refund!"])
    examples = single.encode(data)
    batch = single.collate(examples, [1, 0], KEY)
    expected = tokenizer(["Refund!", "Where is my parcel?"], padding=True, return_tensors="pt")
    assert all(batch.inputs[name].equal(expected[name]) for name in expected)
    assert batch.targets["labels"].tolist() == [0, 2]
    assert (batch.weight, batch.tokens) == (2.0, int(expected["attention_mask"].sum()))
    assert batch.slots == expected["input_ids"].numel()
    assert list(batch.examples) == [1, 0]


def test_pairs_are_given_to_the_tokenizer_as_pairs(tokenizer: Any) -> None:
    data = [Row({"text": "a b", "second": "c", "label": str(number)}, "a.csv", number) for number in (1, 2)]
    learner = Classify(pair="second").bind(data, [], tokenizer)
    batch = learner.collate(learner.encode(data), [0], KEY)
    assert tokenizer.convert_ids_to_tokens(batch.inputs["input_ids"][0]) == ["[CLS]", "a", "b", "[SEP]", "c", "[SEP]"]
    assert batch.inputs["token_type_ids"][0].tolist() == [0, 0, 0, 0, 1, 1]


def test_rows_without_labels_can_be_encoded(single: Classifier, tokenizer: Any) -> None:
    examples = single.encode([Row({"text": "x"}, "a.csv", 1)], labelled=False)
    assert len(examples) == 1


# Losses, predictions, scores

OUTPUTS = np.array([[2.0, 0.0, -1.0], [0.5, 0.4, 0.3], [-1.0, 3.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
def test_the_mean_loss_is_that_of_transformers_own_head(problem: Any, tiny_bert: Path, tokenizer: Any) -> None:
    from transformers import AutoModelForSequenceClassification

    labels = {"single_label": ["a", "b", "c"], "multi_label": ["a,b", "c", ""], "regression": [0.5, -2.0, 3.0]}[problem]
    learner = replace(bound(*labels, problem=problem), tokenizer=tokenizer)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, **learner.config).eval()
    batch = learner.collate(learner.encode(rows(*labels)), [0, 1, 2], KEY)
    with torch.no_grad():
        expected = model(
            **batch.inputs, labels=batch.targets["labels"].squeeze(-1) if problem == "regression" else batch.targets["labels"]
        ).loss
        losses = learner.losses(model, batch)
    assert losses.shape == (3,)
    assert losses.mean().item() == pytest.approx(expected.item(), rel=1e-6)


def test_single_predictions(single: Classifier, tokenizer: Any) -> None:
    for row, found in zip(OUTPUTS, predicted(single, OUTPUTS, tokenizer), strict=True):
        expected = torch.from_numpy(row).double().softmax(0).tolist()
        assert list(found["probabilities"].values()) == pytest.approx(expected)
        assert found["label"] == "abc"[int(row.argmax())]
        assert found["score"] == max(found["probabilities"].values())
    huge = predicted(single, np.array([[1e4, -1e4, 0]], dtype=np.float32), tokenizer)[0]
    assert huge["probabilities"] == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_multi_predictions(tokenizer: Any) -> None:
    learner = bound("a,b,c", problem="multi_label")
    found = predicted(learner, OUTPUTS, tokenizer)
    assert [record["labels"] for record in found] == [["a", "b"], ["a", "b", "c"], ["b", "c"]]
    assert list(found[0]["probabilities"].values()) == pytest.approx((1 / (1 + np.exp(-OUTPUTS[0]))).tolist())


def test_regression_predictions(tokenizer: Any) -> None:
    assert predicted(bound(1, 2, problem="regression"), np.array([[1.5], [-2.0]]), tokenizer) == [{"value": 1.5}, {"value": -2.0}]


def evaluated(learner: Classifier, outputs: np.ndarray, data: list[Row], tokenizer: Any) -> Any:
    learner = replace(learner, tokenizer=tokenizer)
    return learner.evaluate(Given(outputs), learner.encode(data), data)


def test_evaluation_of_one_label(single: Classifier, tokenizer: Any) -> None:
    data = rows("a", "c", "b")
    found = evaluated(single, OUTPUTS, data, tokenizer)
    truth, predicted = [0, 2, 1], OUTPUTS.argmax(axis=1)
    assert found.metrics["accuracy"] == sk.accuracy_score(truth, predicted)
    assert found.metrics["macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    assert found.metrics["loss"] == pytest.approx(sk.log_loss(truth, torch.from_numpy(OUTPUTS).softmax(1).numpy()), rel=1e-5)
    assert set(found.metrics) == set(single.task.metrics)
    assert [record["truth"] for record in found.predictions] == ["a", "c", "b"]
    assert [record["row"] for record in found.predictions] == [1, 2, 3]
    assert np.mean([record["loss"] for record in found.predictions]) == pytest.approx(found.metrics["loss"])


def test_mistakes_are_the_wrong_rows_most_costly_first(single: Classifier, tokenizer: Any) -> None:
    outputs = np.array([[5.0, 0, 0], [5.0, 0, 0], [0, 0.1, 0], [0, 9.0, 0]], dtype=np.float32)
    data = rows("a", "b", "a", "c", texts=["right", "wrong", "nearly", "far off" + "!" * TEXT_SHOWN])
    table = evaluated(single, outputs, data, tokenizer).sections[-1]
    assert table.title == "Worst mistakes"
    assert table.columns == ["text", "truth", "predicted", "probability", "loss", "row"]
    assert [row[-1] for row in table.rows] == [4, 2, 3]
    assert table.rows[1][:3] == ["wrong", "b", "a"]
    assert len(table.rows[0][0]) == TEXT_SHOWN and table.rows[0][0].endswith("...")
    assert table.note == "3 of 4 rows are wrong; those with the highest loss are shown."


def test_only_so_many_mistakes_are_shown(single: Classifier, tokenizer: Any) -> None:
    number = MISTAKES_SHOWN + 5
    outputs = np.tile(np.array([[1.0, 0, 0]], dtype=np.float32), (number, 1))
    table = evaluated(single, outputs, rows(*["b"] * number), tokenizer).sections[-1]
    assert len(table.rows) == MISTAKES_SHOWN
    assert f"{number} of {number} rows are wrong" in table.note


def test_evaluation_of_several_labels(tokenizer: Any) -> None:
    learner = bound("a,b,c", problem="multi_label")
    found = evaluated(learner, OUTPUTS, rows("b, a", "a", ""), tokenizer)
    truth = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    predicted = (OUTPUTS >= 0).astype(int)
    assert found.metrics["micro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="micro"))
    assert found.metrics["exact_match"] == pytest.approx(1 / 3)
    table = found.sections[-1]
    # The first row is right although its labels stand in another order.
    assert sorted(row[-1] for row in table.rows) == [2, 3]
    assert next(row for row in table.rows if row[-1] == 3)[1:3] == ["(none)", "b, c"]
    assert set(found.metrics) == set(learner.task.metrics)


def test_evaluation_of_numbers(tokenizer: Any) -> None:
    learner = bound(1, 2, 3, problem="regression")
    found = evaluated(learner, np.array([[1.0], [2.5], [1.0]], dtype=np.float32), rows(1, 2, 3), tokenizer)
    assert found.metrics["loss"] == pytest.approx((0 + 0.25 + 4) / 3)
    assert found.metrics["mae"] == pytest.approx((0 + 0.5 + 2) / 3)
    table = found.sections[-1]
    assert table.title == "Largest errors" and [row[-1] for row in table.rows] == [3, 2, 1]
    assert set(found.metrics) == set(learner.task.metrics)


# Guessing the columns


def test_guess() -> None:
    messages = [
        Row({"id": number, "note": "ok", "body": f"a longer text {number}", "kind": "ab"[number % 2]}, "a.csv", number)
        for number in range(20)
    ]
    found = Classify.guess(messages)
    assert (found.text, found.label, found.problem) == ("body", "kind", "single_label")
    scored = [Row({"text": "some text", "score": number / 7}, "a.csv", number) for number in range(40)]
    assert Classify.guess(scored).problem == "regression"
    tagged = [Row({"text": "some text", "tags": ["x"], "label": ["y"]}, "a.csv", 1)]
    assert (Classify.guess(tagged).label, Classify.guess(tagged).problem) == ("label", "multi_label")
    assert Classify.guess([Row({"text": "only"}, "a.csv", 1)]).label == "label"
