"""The chat task: columns by name or by their usual names, what is learned, what is cut, what is asked and scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.core.errors import DataError
from burnish.core.generation import Generation
from burnish.core.protocols import IGNORED, Row, Written
from burnish.tasks.chat import Assistant, Chat

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is my lamp?"},
    {"role": "assistant", "content": "In Leeds."},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "Anything else?"},
]
KINDS: dict[str, dict[str, Any]] = {
    "messages": {"messages": TURNS},
    "sharegpt": {"conversations": [{"from": "human", "value": "Where is my lamp?"}, {"from": "gpt", "value": "In Leeds."}]},
    "prompt": {"prompt": "Where is my lamp?", "response": "In Leeds."},
    "alpaca": {"instruction": "Answer.", "input": "Where is my lamp?", "output": "In Leeds."},
    "faq": {"question": "Where is my lamp?", "answer": "In Leeds."},
}


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(one, "chat.jsonl", number, number) for number, one in enumerate(values, start=1)]


@pytest.fixture
def tokenizer(tiny_llama: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.model_max_length = 200
    return tokenizer


def learner_of(tokenizer: Any, *values: dict[str, Any], **settings: Any) -> Assistant:
    return Chat(**settings).bind(rows(*values), [], tokenizer)


def learned(learner: Assistant, value: dict[str, Any]) -> str:
    """The text that is learned of a row."""
    examples = learner.encode(rows(value))
    labels = np.asarray(examples.targets["labels"][0])
    return str(learner.tokenizer.decode(labels[labels != IGNORED]))


@pytest.mark.parametrize("kind", KINDS)
def test_usual_columns_are_found_and_the_answers_with_their_ends_are_learned(tokenizer: Any, kind: str) -> None:
    value = KINDS[kind]
    assert Chat().fault(rows(value)[0], True) is None
    learner = learner_of(tokenizer, value)
    assert learner.task.columns(True) and set(learner.task.columns(True)) <= set(value)
    assert learner.task == Chat.guess(rows(value))
    expected = "In Leeds.<|im_end|>" + ("Anything else?<|im_end|>" if kind == "messages" else "")
    assert learned(learner, value) == expected


def test_everything_can_be_learned(tokenizer: Any) -> None:
    value = KINDS["prompt"]
    learner = learner_of(tokenizer, value, supervise="everything")
    assert "Where is my lamp?" in learned(learner, value)
    examples = learner.encode(rows(value))
    assert examples.weights[0] == len(examples.inputs["input_ids"][0]) - 1, "nothing foretells the first token"


def test_named_columns_win(tokenizer: Any) -> None:
    value = {"ask": "Where?", "say": "Here.", "prompt": "no", "response": "no"}
    learner = learner_of(tokenizer, value, prompt="ask", response="say", system="Be kind.")
    assert learned(learner, value) == "Here.<|im_end|>"
    assert "Be kind." in tokenizer.decode(learner.encode(rows(value)).inputs["input_ids"][0])
    assert learner.task.columns(False) == ["ask"]


def test_weights_count_what_is_learned_and_the_loss_is_transformers_own(tokenizer: Any, tiny_llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    values = [
        KINDS["prompt"],
        {"prompt": "And the other things?", "response": "They were sent to Porto, too."},
        {"prompt": "Hm?", "response": ""},
    ]
    learner = learner_of(tokenizer, *values)
    examples = learner.encode(rows(*values))
    batch = learner.collate(examples, [0, 1, 2], (0, 0))
    assert batch.weight == examples.weights.sum()
    assert examples.weights[2] == 1, "an empty answer teaches its end"
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    model.resize_token_embeddings(len(tokenizer))
    labels = torch.full_like(batch.inputs["input_ids"], IGNORED)
    for row in range(3):
        given = torch.tensor(np.array(examples.targets["labels"][row]), dtype=torch.long)
        labels[row, : len(given)] = given
    with torch.no_grad():
        expected = model(**batch.inputs, labels=labels).loss
        losses = learner.losses(model, batch)
    assert float(losses.sum() / batch.weight) == pytest.approx(float(expected), rel=1e-5)


def test_where_padding_is_the_end_the_end_is_learned(tokenizer: Any) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% else %} : {% endif %}{% endfor %}"
    )
    values = [KINDS["prompt"], {"prompt": "And the other things that I ordered?", "response": "Soon."}]
    learner = learner_of(tokenizer, *values)
    assert learned(learner, values[0]) == " In Leeds.</s>"
    batch = learner.collate(learner.encode(rows(*values)), [0, 1], (0, 0))
    assert (batch.targets["labels"] == tokenizer.eos_token_id).sum() == 2
    assert batch.inputs["attention_mask"].sum() == batch.tokens
    assert learner.generation["eos_token_id"] == [tokenizer.eos_token_id]


def test_a_long_prompt_loses_its_middle_and_the_answer_stays(tokenizer: Any) -> None:
    tokenizer.model_max_length = 48
    value = {"prompt": "first " + "word " * 200 + "last", "response": "In Leeds."}
    learner = learner_of(tokenizer, value)
    examples = learner.encode(rows(value))
    assert learned(learner, value) == "In Leeds.<|im_end|>"
    assert len(examples.inputs["input_ids"][0]) == 48
    assert examples.cut == {"tokens were taken out of the middle of the prompt": 1}
    long = {"prompt": "Tell me.", "response": "a very long story " * 50}
    assert learner.encode(rows(long)).cut["the response was cut at its end"] == 1


def test_a_row_without_room_for_its_answer_teaches_nothing(tokenizer: Any) -> None:
    tokenizer.model_max_length = 10
    value = {"prompt": "Where is my lamp, please, and where is the throw that I ordered?", "response": "In Leeds."}
    assert learner_of(tokenizer, value).encode(rows(value)).weights.tolist() == [0.0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"prompt": "", "response": "x"}, "`prompt` is empty"),
        ({"prompt": "x", "response": None}, "`response` is missing"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no assistant turn"),
        ({"messages": [{"role": "usr", "content": "x"}]}, "did you mean `user`"),
        ({"messages": "hello"}, "no JSON list"),
        ({"foo": "x", "bar": "y"}, "no column has a usual name (its columns: foo, bar)"),
    ],
)
def test_faulty_rows(value: dict[str, Any], words: str) -> None:
    assert words in str(Chat().fault(rows(value)[0], True))


def test_no_usual_column_is_told_with_the_row(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"chat.jsonl row 1 \(line 1\): no column has a usual name"):
        learner_of(tokenizer, {"foo": "x"})
    with pytest.raises(DataError, match="usual name"):
        Chat.guess(rows({"foo": "x"}))


def test_a_template_that_refuses_names_every_row(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    learner = learner_of(tokenizer, KINDS["messages"])
    with pytest.raises(DataError, match=r"(?s)2 conversations cannot be written.*row 1 .*System role not supported.*row 3"):
        learner.encode(rows(KINDS["messages"], {"messages": TURNS[1:]}, KINDS["messages"]))


class Scripted:
    """A model that gives fixed losses and fixed answers, and remembers what it was asked."""

    def __init__(self, answers: list[tuple[str, bool]], tokenizer: Any) -> None:
        self.answers, self.tokenizer, self.asked = answers, tokenizer, list[str]()

    def outputs(self, examples: Any) -> list[np.ndarray]:
        return [np.array([2.0 * weight, weight]) for weight in examples.weights]

    def generate(self, prompts: Any, generation: Generation) -> list[Written]:
        self.asked = [self.tokenizer.decode(prompt) for prompt in prompts]
        return [Written(self.tokenizer(text)["input_ids"], ended) for text, ended in self.answers[: len(prompts)]]


def test_evaluation_asks_every_last_turn_and_scores_what_is_written(tokenizer: Any) -> None:
    values = [KINDS["messages"], {"messages": TURNS[:3]}, {"messages": TURNS[1:3]}]
    learner = learner_of(tokenizer, *values, generation={"samples": 2, "max_new_tokens": 20})
    model = Scripted([("Anything else?", True), ("no no no no no no no no", False)], tokenizer)
    found = learner.evaluate(model, learner.encode(rows(*values)), rows(*values))
    assert found.metrics["loss"] == pytest.approx(2.0) and found.metrics["perplexity"] == pytest.approx(np.exp(2.0))
    assert found.metrics["written_ended"] == 0.5 and found.metrics["written_rougeL"] == pytest.approx(0.5)
    assert set(learner.task.metrics) <= set(found.metrics)
    assert model.asked[0].endswith("<|im_start|>assistant\n") and "In Leeds." in model.asked[0] and "Anything" not in model.asked[0]
    samples = found.sections[0].samples  # type: ignore[union-attr]
    assert [(sample.answer, sample.reference, sample.ended) for sample in samples] == [
        ("Anything else?", "Anything else?", True),
        ("no no no no no no no no", "In Leeds.", False),
    ]
    assert [record.get("answer") for record in found.predictions] == ["Anything else?", "no no no no no no no no", None]
    silent = replace(learner, task=learner.task.model_copy(update={"generation": Generation(samples=0)}))
    assert set(silent.evaluate(model, learner.encode(rows(*values)), rows(*values)).metrics) == {"loss", "perplexity"}


def test_prediction_needs_no_answer_and_takes_plain_text(tokenizer: Any) -> None:
    learner = learner_of(tokenizer, KINDS["messages"])
    model = Scripted([("Yes.", True), ("No.", False)], tokenizer)
    found = learner.predict(model, rows({"messages": "Where is it?"}, {"messages": TURNS[:2]}))
    assert found == [{"answer": "Yes.", "ended": True}, {"answer": "No.", "ended": False}]
    assert all("assistant\n" in asked[-20:] for asked in model.asked)
    assert Chat(messages="messages").fault(rows({"messages": " "})[0], False) is not None


def test_long_prompts_leave_room_for_the_answer(tokenizer: Any) -> None:
    tokenizer.model_max_length = 60
    learner = learner_of(tokenizer, KINDS["prompt"], generation={"max_new_tokens": 20})
    prompts = learner.prompts(rows({"prompt": "word " * 300}), labelled=False)
    assert len(prompts[0]) == 40
