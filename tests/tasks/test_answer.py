"""Question answering: which answers a cell holds, how long contexts become windows, and which span of them is the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.core.errors import DataError
from burnish.core.protocols import Row
from burnish.data.encode import Encoded
from burnish.metrics import answers as scores
from burnish.tasks import windows
from burnish.tasks.answer import Answer, Answerer
from burnish.tasks.references import references

KEY = (0, 0)
CONTEXT = "Hanne de Wit began in 2011 with her brother Pieter. The store is in Leeds."
LONG = " ".join(f"Parcel {number} came on day {number * 7 % 31} with a candle and a kettle." for number in range(12))


def row(question: str, context: str, answers: Any = None, number: int = 1) -> Row:
    return Row({"question": question, "context": context, "answers": answers}, "qa.jsonl", number, number)


def squad(*texts: str, context: str = CONTEXT) -> dict[str, Any]:
    return {"text": list(texts), "answer_start": [context.index(text) for text in texts]}


DATA = [
    row("Who is her brother?", CONTEXT, squad("Pieter"), 1),
    row("When was it begun?", CONTEXT, squad("2011", "in 2011"), 2),
    row("How many people work there?", CONTEXT, squad(), 3),
    row("When did parcel 11 come?", LONG, squad("day 15", context=LONG), 4),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture(scope="module")
def roberta_tokenizer() -> Any:
    """Byte-level pieces between <s> and </s>, as RoBERTa reads them, without token types."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator([CONTEXT, LONG] * 3, 400, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False)
    content = json.loads(pieces.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split()) for merge in content["merges"]]
    return RobertaTokenizer(vocab=content["vocab"], merges=merges, model_max_length=64)


@pytest.fixture
def learner(tokenizer: Any) -> Answerer:
    return Answer().bind(DATA, [], tokenizer)


def targets(examples: Encoded) -> list[tuple[int, int]]:
    return list(zip(*(np.asarray(examples.targets[f"{end}_positions"]).tolist() for end in ("start", "end")), strict=True))


# What a cell holds


@pytest.mark.parametrize(
    "cell",
    [
        {"text": ["2011", "in 2011"], "answer_start": [22, 19]},
        [{"text": "2011", "answer_start": 22}, {"text": "in 2011", "answer_start": "19"}],
        '{"text": ["2011", "in 2011"], "answer_start": [22, 19.0]}',
        '[{"text": "2011", "answer_start": 22}, {"text": "in 2011", "answer_start": 19}]',
        ["2011", " in 2011 "],
        [2011, "in 2011"],
        '["2011", "in 2011"]',
        {"text": ["2011 ", " in 2011"], "answer_start": [22, 18]},
        {"text": ["2011", "", "in 2011"]},
    ],
)
def test_answers_however_they_are_written(cell: Any) -> None:
    found = references(cell, CONTEXT)
    assert [(one.text, one.start, one.end) for one in found] == [("2011", 22, 26), ("in 2011", 19, 26)]
    assert all(CONTEXT[one.start : one.end] == one.text for one in found)


def test_one_answer_as_plain_text_is_taken_where_it_first_occurs() -> None:
    assert [one.start for one in references("in", CONTEXT)] == [CONTEXT.index("in")]
    assert [one.text for one in references({"text": "Leeds", "answer_start": CONTEXT.index("Leeds")}, CONTEXT)] == ["Leeds"]
    assert references("[sic]", "He wrote [sic] here")[0].start == 9, "what is no JSON is a text"


@pytest.mark.parametrize("cell", [None, "", " ", [], {"text": [], "answer_start": []}, "[]", {"text": [""], "answer_start": [-1]}, [None]])
def test_no_answer(cell: Any) -> None:
    assert references(cell, CONTEXT) == []


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (
            {"text": ["Pieter"], "answer_start": [39]},
            "at character 39 of the context stands 'ther P', not the answer 'Pieter'; it stands at character 44",
        ),
        ({"text": ["Pieter"], "answer_start": [900]}, "starts at character 900, but the context has 74; it stands at character 44"),
        ({"text": ["Pieter"], "answer_start": [-2]}, "starts at character -2"),
        ({"text": ["Paul"], "answer_start": [44]}, "stands 'Piet', not the answer 'Paul', which does not occur in it"),
        ({"text": ["Pieter"], "answer_start": ["x"]}, "`answer_start` is 'x' where a number of characters is expected"),
        ({"text": ["Pieter"], "answer_start": [1.5]}, "`answer_start` is 1.5"),
        ({"text": ["Pieter", "Leeds"], "answer_start": [44]}, "2 in `text`, but 1 in `answer_start`"),
        ({"start": 3}, "an object with `text` and `answer_start` is expected, it has start"),
        ("pieter", "the answer 'pieter' does not occur in the context, though 'Pieter' does"),
        ("{'text': ['Pieter']}", "has to be JSON"),
        (True, "an answer is bool where a text is expected"),
    ],
)
def test_answers_that_cannot_be_used(cell: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        references(cell, CONTEXT)
    assert words in str(caught.value)
    assert Answer().fault(row("Who?", CONTEXT, cell), True) == f"`answers`: {caught.value}"
    assert Answer().fault(row("Who?", CONTEXT, cell), False) is None


@pytest.mark.parametrize(
    ("question", "context", "words"),
    [
        ("", CONTEXT, "the text in `question` is empty"),
        ("Who?", " ", "the text in `context` is empty"),
        (None, CONTEXT, "`question` is missing"),
        ("Who?", ["a", "b"], "`context` holds list where a text is expected"),
    ],
)
def test_faulty_texts(question: Any, context: Any, words: str) -> None:
    for labelled in (True, False):
        assert words in str(Answer().fault(row(question, context, None), labelled))


def test_columns_and_guess() -> None:
    assert Answer(question="q", context="c", answers="a").columns(True) == ["q", "c", "a"]
    assert Answer(question="q", context="c").columns(False) == ["q", "c"]
    guessed = Answer.guess([Row({"id": 1, "passage": "a text", "query": "what?", "answer": "text"}, "a.csv", 1)])
    assert (guessed.question, guessed.context, guessed.answers) == ("query", "passage", "answer")
    with pytest.raises(DataError, match="nested articles"):
        Answer.guess([Row({"title": "Leeds", "paragraphs": [{"context": CONTEXT, "qas": []}]}, "train.json", 1)])


# Binding


def test_training_rows_tell_whether_there_may_be_no_answer(tokenizer: Any) -> None:
    assert Answer().bind(DATA, [], tokenizer).task.no_answer is True
    assert Answer().bind(DATA[:2], DATA[2:], tokenizer).task.no_answer is False
    assert Answer(no_answer=False).bind(DATA, [], tokenizer).task.no_answer is False
    bound = Answer(no_answer=True).bind(DATA[:2], [], tokenizer)
    assert bound.task.bind([], [], tokenizer).task == bound.task
    assert [Answer().stratum(one) for one in DATA[1:3]] == ["has an answer", "no answer"]


def test_there_has_to_be_an_answer_somewhere(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="none of the 1 training rows has an answer in `answers`"):
        Answer().bind(DATA[2:3], [], tokenizer)


def test_a_tokenizer_that_cannot_say_where_its_tokens_stand_is_refused(tokenizer: Any) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(DataError, match="a fast one is needed"):
        Answer().bind(DATA, [], Slow())


# Windows


@pytest.mark.parametrize(("limit", "stride"), [(64, 8), (44, 0), (44, 4), (36, 3), (300, 128)])
@pytest.mark.parametrize("kind", ["tokenizer", "roberta_tokenizer"])
def test_windows_are_those_of_transformers(kind: str, limit: int, stride: int, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    tokenizer.model_max_length = limit
    examples = Answer(stride=stride).bind(DATA, [], tokenizer).encode(DATA)
    expected = tokenizer(
        [one.values["question"] for one in DATA],
        [one.values["context"] for one in DATA],
        truncation="only_second",
        max_length=limit,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert examples.rows.tolist() == expected["overflow_to_sample_mapping"]
    assert [examples.inputs["input_ids"][index].tolist() for index in range(len(examples))] == expected["input_ids"]
    assert set(examples.inputs) == set(tokenizer.model_input_names) - {"attention_mask"}
    for index, offsets in enumerate(expected["offset_mapping"]):
        inside = [part == 1 for part in expected.sequence_ids(index)]
        starts, ends = (examples.targets[name][index].tolist() for name in ("starts", "ends"))  # type: ignore[index]
        assert list(zip(starts, ends, strict=True)) == [
            pair if is_context else (-1, -1) for pair, is_context in zip(offsets, inside, strict=True)
        ]
        if "token_type_ids" in examples.inputs:
            assert examples.inputs["token_type_ids"][index].tolist() == expected["token_type_ids"][index]
    tokenizer.model_max_length = 64


@pytest.mark.parametrize("kind", ["tokenizer", "roberta_tokenizer"])
def test_targets_spell_the_answer_in_every_window_that_holds_it(kind: str, request: pytest.FixtureRequest) -> None:
    learner = Answer(stride=20).bind(DATA, [], request.getfixturevalue(kind))
    examples = learner.encode(DATA)
    assert len(examples) > len(DATA) and examples.weights.tolist() == [1.0] * len(examples)
    held = set()
    for index, (first, last) in enumerate(targets(examples)):
        number = int(examples.rows[index])
        context = DATA[number].values["context"]
        right = learner.task.references(DATA[number])[:1]
        starts, ends = (examples.targets[name][index] for name in ("starts", "ends"))  # type: ignore[index]
        whole = bool(right) and starts[starts >= 0][0] <= right[0].start and ends.max() >= right[0].end
        assert (first, last) == (0, 0) if not whole else context[starts[first] : ends[last]].strip() == right[0].text
        held |= {number} if whole else set()
    assert held == {0, 1, 3}
    unlabelled = learner.encode(DATA, labelled=False)
    assert set(unlabelled.targets) == {"starts", "ends"} and len(unlabelled) == len(examples)


def test_a_stride_larger_than_the_room_is_halved(tokenizer: Any, learner: Answerer) -> None:
    assert learner.task.stride > tokenizer.model_max_length
    examples = learner.encode(DATA[3:])
    inside = [examples.targets["starts"][index] for index in range(len(examples))]  # type: ignore[index]
    first, second = (set(starts[starts >= 0].tolist()) for starts in inside[:2])
    assert len(first & second) == len(first) // 2
    assert set().union(*(set(starts.tolist()) for starts in inside)) > {LONG.index("day 15")}


def test_an_answer_within_a_word_and_one_of_several_bytes_take_whole_tokens(roberta_tokenizer: Any) -> None:
    context = "The café in Zürich sells tea."
    data = [row("Where?", context, "ürich", 1), row("What?", context, "é", 2)]
    examples = Answer().bind(data, [], roberta_tokenizer).encode(data)
    for index, (first, last) in enumerate(targets(examples)):
        starts, ends = (examples.targets[name][index] for name in ("starts", "ends"))  # type: ignore[index]
        assert data[index].values["answers"] in context[starts[first] : ends[last]]
    first, last = targets(examples)[1]
    assert roberta_tokenizer.decode(examples.inputs["input_ids"][1][first : last + 1]).strip() == "é", "both of its bytes"


def test_rows_whose_answer_no_window_holds_teach_nothing(tokenizer: Any) -> None:
    data = [row("When did it come?", LONG, squad(LONG[10:400], context=LONG), 1), DATA[0], DATA[2]]
    examples = Answer().bind(data, [], tokenizer).encode(data)
    for index, weight in enumerate(examples.weights):
        assert weight == (0.0 if examples.rows[index] == 0 else 1.0)


def test_questions_that_leave_no_room_are_named(learner: Answerer) -> None:
    data = [DATA[0], row("why " * 58, LONG, None, 2), row("why " * 70, LONG, None, 3), row("why " * 70, "It is.", None, 4)]
    with pytest.raises(DataError) as caught:
        learner.encode(data)
    message = str(caught.value)
    assert "3 questions too long" in message and "qa.jsonl row 2 (line 2): the question takes 61 of 64 tokens, which leaves 3" in message
    assert "row 3 (line 3): the question takes 73 of 64 tokens, which leaves 0" in message and "row 1" not in message
    short = learner.encode([row("why " * 58, "It is.", None)])
    assert short.lengths.tolist() == [64], "a question may be long beside a short context"


def test_a_context_of_nothing_that_can_be_read_has_no_answer(tokenizer: Any) -> None:
    data = [row("Who?", "\u200b\u200b", None)]
    learner = Answer(no_answer=False).bind(DATA[:1], [], tokenizer)
    found = learner.predict(Given(learner, lambda length: np.zeros((2, length))), data)
    assert found == [{"answer": "", "score": 0.0, "start": None, "end": None, "alternatives": []}]
    found = replace(learner, task=Answer(no_answer=True)).predict(Given(learner, lambda length: np.zeros((2, length))), data)
    assert found[0]["answer"] == "" and found[0]["score"] == 1.0


# Batches and losses


def qa_model(kind: str, tokenizer: Any) -> Any:
    """A tiny model with its question answering head, and weights large enough to have an opinion."""
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 70}
    torch.manual_seed(1)
    settings = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
        type_vocab_size=2 - (kind == "roberta"),
        **size,
    )
    return AutoModelForQuestionAnswering.from_config(settings).eval()


@pytest.mark.parametrize(("kind", "fixture"), [("bert", "tokenizer"), ("roberta", "roberta_tokenizer")])
def test_the_loss_of_a_window_is_that_of_transformers_own_head(kind: str, fixture: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(fixture)
    learner, model = Answer().bind(DATA, [], tokenizer), qa_model(kind, tokenizer)
    examples = learner.encode(DATA)
    everything = list(range(len(examples)))
    batch = learner.collate(examples, everything, KEY)
    assert batch.weight == len(examples) and batch.tokens == int(examples.lengths.sum()) < batch.slots
    with torch.no_grad():
        losses = learner.losses(model, batch)
        alone = [learner.collate(examples, [index], KEY) for index in everything]
        expected = torch.stack([model(**one.inputs, **one.targets).loss for one in alone])
        outputs = learner.outputs(model, batch)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    assert len({round(value, 3) for value in losses.tolist()}) == len(everything)
    assert [one.shape for one in outputs] == [(2, length) for length in examples.lengths.tolist()]
    given = [one.numpy() for one in outputs]
    assert learner.evaluate(Fixed(given), examples, DATA).metrics["loss"] == pytest.approx(float(expected.mean()), rel=1e-5)


def test_windows_of_one_length_have_the_loss_of_transformers_whole_batch(learner: Answerer, tokenizer: Any) -> None:
    model, data = (
        qa_model("bert", tokenizer),
        [DATA[0], row("Who is her brother?", CONTEXT, squad("Hanne de Wit")), row("Who is her brother?", CONTEXT, squad())],
    )
    batch = learner.collate(learner.encode(data), [2, 0, 1], KEY)
    assert batch.inputs["attention_mask"].all()
    with torch.no_grad():
        assert learner.losses(model, batch).mean().item() == pytest.approx(model(**batch.inputs, **batch.targets).loss.item(), rel=1e-6)


# Answers


@dataclass
class Given:
    """A model whose logits are a function of the window's length."""

    learner: Answerer
    logits: Any

    def outputs(self, examples: Any) -> list[np.ndarray]:
        return [self.logits(int(length)).astype(np.float32) for length in examples.lengths]

    def generate(self, prompts: Any, generation: Any) -> Any:
        raise AssertionError("nothing is written")


@dataclass
class Fixed:
    """A model whose logits are known."""

    values: list[np.ndarray]

    def outputs(self, examples: Any) -> list[np.ndarray]:
        assert len(examples) == len(self.values)
        return self.values

    def generate(self, prompts: Any, generation: Any) -> Any:
        raise AssertionError("nothing is written")


def official(row: Row, examples: Encoded, indices: list[int], outputs: list[np.ndarray], task: Answer) -> tuple[str, float]:
    """The answer and the null score as transformers' run_qa finds them, one span after the other, with all spans as candidates."""
    spans, nulls = list[tuple[float, str]](), list[float]()
    for index in indices:
        start, end = outputs[index].astype(np.float64)
        starts, ends = (examples.targets[name][index] for name in ("starts", "ends"))  # type: ignore[index]
        nulls.append(start[0] + end[0])
        for first in range(len(start)):
            for last in range(first, min(first + task.max_answer_length, len(start))):
                text = row.values["context"][starts[first] : ends[last]].strip()
                if starts[first] >= 0 and starts[last] >= 0 and text:
                    spans.append((start[first] + end[last], text))
    score, text = max(spans)
    return ("" if task.no_answer and min(nulls) - score > task.no_answer_threshold else text), min(nulls)


@pytest.mark.parametrize("kind", ["tokenizer", "roberta_tokenizer"])
@pytest.mark.parametrize("settings", [{}, {"no_answer": False}, {"max_answer_length": 2}, {"no_answer_threshold": -4.0}, {"n_best": 1}])
def test_answers_are_those_of_the_plain_algorithm(kind: str, settings: dict[str, Any], request: pytest.FixtureRequest) -> None:
    learner = Answer(stride=20, **settings).bind(DATA, [], request.getfixturevalue(kind))
    data = [row(one.values["question"], one.values["context"], one.values["answers"], number) for number, one in enumerate(DATA * 20)]
    examples = learner.encode(data)
    draw = np.random.default_rng(3)
    outputs = [draw.normal(scale=3, size=(2, int(length))).astype(np.float32) for length in examples.lengths]
    for index in range(0, len(outputs), 2):
        outputs[index][:, 0] += 8  # so that "no answer" is the best in half of the windows
    found = learner.predict(Fixed(outputs), data)
    empty = 0
    for number, one in enumerate(found):
        own = np.flatnonzero(examples.rows == number).tolist()
        assert one["answer"] == official(data[number], examples, own, outputs, learner.task)[0]
        context = data[number].values["context"]
        assert (one["start"] is None and not one["answer"]) or context[one["start"] : one["end"]] == one["answer"]
        listed = [one["answer"], *(other["answer"] for other in one["alternatives"])]
        assert len(set(listed)) == len(listed) <= 4
        assert 0 < one["score"] <= 1 and one["score"] + sum(other["score"] for other in one["alternatives"]) <= 1 + 1e-9
        empty += not one["answer"]
    assert (0 < empty < len(found)) if learner.task.no_answer else empty == 0


def marked(examples: Encoded, index: int, context: str, answers: dict[str, float], null: float) -> np.ndarray:
    """Logits under which exactly these answers stand out, by the sum of their start and end logit."""
    logits = np.full((2, int(examples.lengths[index])), -20.0)
    logits[:, 0] = null / 2
    starts, ends = (examples.targets[name][index] for name in ("starts", "ends"))  # type: ignore[index]
    for text, score in answers.items():
        at = context.index(text)
        logits[0, np.flatnonzero(starts == at)[0]] = logits[1, np.flatnonzero(ends == at + len(text))[0]] = score / 2
    return logits


def test_a_prediction_has_its_place_its_score_and_what_came_next(learner: Answerer) -> None:
    data = DATA[:1]
    examples = learner.encode(data)
    found = learner.predict(Fixed([marked(examples, 0, CONTEXT, {"Leeds": 8.0, "Pieter": 6.0}, null=4.0)]), data)[0]
    start = CONTEXT.index("Leeds")
    assert (found["answer"], found["start"], found["end"]) == ("Leeds", start, start + 5)
    # From "Pieter" to "Leeds" is a span too; its starts and ends are as likely as theirs together: (6 + 8) / 2 = 7.
    between = CONTEXT[CONTEXT.index("Pieter") : start + 5]
    shares = np.exp([8.0, 7.0, 6.0, 4.0])
    assert [other["answer"] for other in found["alternatives"]] == [between, "Pieter", ""]
    assert found["score"] == pytest.approx(shares[0] / shares.sum(), rel=1e-3)
    assert [other["score"] for other in found["alternatives"]] == pytest.approx((shares[1:] / shares.sum()).tolist(), rel=1e-3)


@pytest.mark.parametrize(("null", "threshold", "answer"), [(8.5, 0.0, ""), (7.5, 0.0, "Leeds"), (8.5, 1.0, "Leeds"), (7.5, -1.0, "")])
def test_no_answer_must_win_by_the_threshold(learner: Answerer, null: float, threshold: float, answer: str) -> None:
    given = Fixed([marked(learner.encode(DATA[:1]), 0, CONTEXT, {"Leeds": 8.0}, null)])
    judged = replace(learner, task=learner.task.model_copy(update={"no_answer_threshold": threshold}))
    found = judged.predict(given, DATA[:1])[0]
    assert found["answer"] == answer and (found["start"] is None) == (answer == "")
    assert replace(learner, task=Answer(no_answer=False)).predict(given, DATA[:1])[0]["answer"] == "Leeds"


def test_no_answer_takes_all_windows_and_an_answer_only_one(learner: Answerer) -> None:
    data = DATA[3:]
    examples = learner.encode(data)
    inside = [index for index, place in enumerate(targets(examples)) if place != (0, 0)]
    logits = [
        marked(examples, index, LONG, {"day 15": 8.0} if index in inside else {}, null=1.0 if index in inside else 15.0)
        for index in range(len(examples))
    ]
    assert len(inside) < len(examples) and learner.predict(Fixed(logits), data)[0]["answer"] == "day 15"
    for one in logits:
        one[:, 0] = 7.5
    assert learner.predict(Fixed(logits), data)[0]["answer"] == ""


def test_spans_do_not_reach_out_of_the_context_or_over_the_longest_length() -> None:
    logits = np.zeros((2, 10))
    logits[0, [1, 3]], logits[1, [9, 8]] = [50, 5], [50, 4]
    scores_, first, last = windows.likeliest(logits, slice(3, 9), most=100, longest=6)
    assert (first[0], last[0], scores_[0]) == (3, 8, 9.0)
    assert len(first) == 21 and (first >= 3).all() and (last <= 8).all() and (first <= last).all()
    scores_, first, last = windows.likeliest(logits, slice(3, 9), most=100, longest=2)
    assert len(first) == 11 and (last - first <= 1).all()
    assert (np.diff(scores_) <= 0).all()


# Evaluation


@pytest.fixture
def evaluated(learner: Answerer) -> Any:
    examples = learner.encode(DATA[:3])
    logits = [
        marked(examples, 0, CONTEXT, {"Pieter": 9.0}, null=0.0),
        marked(examples, 1, CONTEXT, {"in 2011": 9.0}, null=0.0),
        marked(examples, 2, CONTEXT, {"Leeds": 9.0}, null=0.0),
    ]
    return learner.evaluate(Fixed(logits), examples, DATA[:3])


def test_evaluation_counts_as_squad_does(evaluated: Any) -> None:
    assert evaluated.metrics["exact_match"] == pytest.approx(2 / 3) == evaluated.metrics["f1"]
    assert set(Answer().metrics) <= set(evaluated.metrics)
    record = evaluated.predictions[1]
    assert (record["row"], record["file"], record["question"]) == (2, "qa.jsonl", "When was it begun?")
    assert (record["prediction"], record["references"]) == ("in 2011", ["2011", "in 2011"])
    assert record["f1"] == scores.token_f1("in 2011", ["2011", "in 2011"]) == 1.0


def test_tables_tell_where_it_goes_wrong(evaluated: Any) -> None:
    tables = {table.title: table for table in evaluated.sections}
    assert {tuple(row) for row in tables["By first word of the question"].rows} == {
        ("who", 1.0, 1.0, 1),
        ("when", 1.0, 1.0, 1),
        ("how", 0.0, 0.0, 1),
    }
    assert [row[0] for row in tables["Questions"].rows] == ["has an answer", "no answer"]
    worst = tables["Worst mistakes"]
    assert worst.columns == ["question", "expected", "predicted", "f1", "score", "row"]
    assert [(row[:4], row[5]) for row in worst.rows] == [(["How many people work there?", "(none)", "Leeds", 0.0], 3)]
    assert worst.note.startswith("1 of 3 rows are not exactly right")


def test_answers_too_long_to_be_predicted_are_counted(tokenizer: Any) -> None:
    learner = Answer(max_answer_length=6).bind(DATA, [], tokenizer)
    data = [row("Who began it?", CONTEXT, squad("Hanne de Wit"), 1), DATA[0]]
    examples = learner.encode(data)
    found = learner.evaluate(Given(learner, lambda length: np.zeros((2, length))), examples, data)
    assert "1 right answer is longer than max_answer_length" in found.sections[-1].note


def test_a_window_is_shown_with_its_answer(learner: Answerer) -> None:
    examples = learner.encode(DATA)
    view = learner.view(examples, 0)
    first, last = targets(examples)[0]
    strip = view.strips[0]
    assert view.target == "pieter" and len(strip.ids) == len(strip.notes) == len(strip.supervised)
    assert "start" in strip.notes[first] and "end" in strip.notes[last] and sum(strip.supervised) == len({first, last})
    assert learner.view(examples, 2).target == "(no answer in this window)" and learner.view(examples, 2).strips[0].notes[0] == "start end"
