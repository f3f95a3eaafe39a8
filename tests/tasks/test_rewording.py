"""What tasks say of what may change: entities and answers are found again, targets stay, and what comes back can be learned from."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pytest

from burnish.core.passage import Change, Passage, around, written
from burnish.core.protocols import Row
from burnish.core.registry import specs
from burnish.data.augment.easy import changing, deleted, inserted, punctuated, replaced, swapped
from burnish.tasks.answer import Answer
from burnish.tasks.chat import Chat
from burnish.tasks.classify import Classify
from burnish.tasks.continue_ import Continue
from burnish.tasks.fill import Fill
from burnish.tasks.rewrite import Rewrite
from burnish.tasks.tag import Tag

TEXT = "Yesterday the kind gardener Anna Berg sold lovely copper kettles in Kraków, and old Bo paid for two candles there."
SPANS = [(28, 37, "PERSON"), (68, 74, "PLACE"), (84, 86, "PERSON")]


class Doubled:
    """A lexicon that knows a synonym of every word."""

    def synonyms(self, word: str) -> tuple[str, ...]:
        return (word + "x", word + "y")

    def is_name(self, word: str) -> bool:
        return False


DRAWS: list[Any] = [swapped, deleted, punctuated, partial(replaced, lexicon=Doubled()), partial(inserted, lexicon=Doubled())]


def variant(number: int) -> Change:
    """A strong change, another for every number."""
    change, draw = changing(DRAWS[number % len(DRAWS)], 0.4, frozenset(), False), np.random.default_rng(number)
    return lambda passage: change(passage, draw)


def upper(passage: Passage) -> Passage:
    return tuple(stretch if stretch.fixed else type(stretch)(stretch.text.upper()) for stretch in passage)


def row(**values: Any) -> Row:
    return Row(values, "rows.jsonl", 1)


def learner(task: Any, rows: list[Row], tokenizer: Any) -> Any:
    return task.bind(rows, [], tokenizer)


@pytest.fixture
def tokenizer(tiny_bert: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_bert, model_max_length=512)


def test_entities_of_texts_are_found_in_their_new_places(tokenizer: Any) -> None:
    given = row(text=TEXT, entities=[{"start": start, "end": end, "label": label} for start, end, label in SPANS])
    tagger = learner(Tag(text="text"), [given], tokenizer)
    names, found = [TEXT[start:end] for start, end, _ in SPANS], set()
    assert names == ["Anna Berg", "Kraków", "Bo"]
    for number in range(200):
        made = tagger.task.reworded(given, variant(number))
        text = made.values["text"]
        assert text != TEXT and tagger.task.fault(made, True) is None
        assert [(text[span["start"] : span["end"]], span["label"]) for span in made.values["entities"]] == [
            (name, label) for name, (_, _, label) in zip(names, SPANS, strict=True)
        ]
        examples = tagger.encode([made])
        words = zip(examples.targets["start"][0], examples.targets["end"][0], examples.targets["first"][0], strict=True)
        tagged = [
            (text[start:end], tagger.labels[label])
            for start, end, first in words
            if (label := examples.targets["labels"][0][first]) and tagger.labels[label] != "O"
        ]
        assert tagged == [("Anna", "B-PERSON"), ("Berg", "I-PERSON"), ("Kraków", "B-PLACE"), ("Bo", "B-PERSON")]
        found.add(text)
    assert len(found) > 150, "the variants differ"


def test_entities_of_word_lists_keep_words_and_tags(tokenizer: Any) -> None:
    words = ["the", "kind", "gardener", "Anna", "Berg", "and", "her", "clever", "aunt", "New York", "sold", "lovely", "kettles", "."]
    tags = ["O", "O", "O", "B-PER", "I-PER", "O", "O", "O", "O", "B-LOC", "O", "O", "O", "O"]
    given = row(tokens=words, tags=tags)
    tagger = learner(Tag(), [given], tokenizer)
    for number in range(200):
        made = tagger.task.reworded(given, variant(number))
        new, given_tags = made.values["tokens"], made.values["tags"]
        assert len(new) == len(given_tags) and new != words
        assert [(word, tag) for word, tag in zip(new, given_tags, strict=True) if tag != "O"] == [
            ("Anna", "B-PER"),
            ("Berg", "I-PER"),
            ("New York", "B-LOC"),
        ]
        assert tagger.encode([made]).weights[0] == len(new)


def test_tags_written_as_numbers_or_json_stay_right(tokenizer: Any) -> None:
    given = row(tokens=json.dumps(["old", "Anna", "sold", "kettles"]), tags=[0, 1, 0, 0])
    tagger = learner(Tag(labels=["O", "B-PER", "I-PER"]), [given], tokenizer)
    made = tagger.task.reworded(given, upper)
    assert made.values == {"tokens": ["OLD", "Anna", "SOLD", "KETTLES"], "tags": ["O", "B-PER", "O", "O"]}
    assert tagger.encode([made]).weights[0] == 4


def test_plain_tags_go_with_their_words_one_for_one(tokenizer: Any) -> None:
    given = row(tokens=["the", "lovely", "kettle", "boils", "."], tags=["DET", "ADJ", "NOUN", "VERB", "PUNCT"])
    task = learner(Tag(), [given], tokenizer).task
    assert task.word_for_word and not Tag(scheme="BIO").word_for_word
    for number in range(50):
        made = task.reworded(given, variant(3 + 5 * number))
        assert made.values["tags"] == given.values["tags"] and len(made.values["tokens"]) == 5 and made.values != given.values
    with pytest.raises(ValueError, match="5 words became 4"):
        task.reworded(given, lambda passage: around("the kettle boils ."))


ANSWERS = [
    {"text": ["lovely copper kettles"], "answer_start": [TEXT.index("lovely")]},
    [{"text": "copper", "answer_start": TEXT.index("copper")}, {"text": "lovely copper", "answer_start": TEXT.index("lovely")}],
    json.dumps({"text": ["two"], "answer_start": [TEXT.index("two")]}),
    "kind gardener",
]


@pytest.mark.parametrize("answers", ANSWERS, ids=["squad", "overlapping", "json", "text"])
def test_answers_are_found_in_their_new_places(tokenizer: Any, answers: Any) -> None:
    given = row(question="What did the gardener sell?", context=TEXT, answers=answers)
    answerer = learner(Answer(), [given], tokenizer)
    right = [one.text for one in answerer.task.references(given)]
    contexts, questions = set(), set()
    for number in range(200):
        made = answerer.task.reworded(given, variant(number))
        context, found = made.values["context"], made.values["answers"]
        assert found["text"] == right
        assert [context[start : start + len(text)] for text, start in zip(found["text"], found["answer_start"], strict=True)] == right
        examples = answerer.encode([made])
        first, last = examples.targets["start_positions"][0], examples.targets["end_positions"][0]
        assert context[examples.targets["starts"][0][first] : examples.targets["ends"][0][last]] == right[0]
        contexts.add(context)
        questions.add(made.values["question"])
    assert len(contexts) > 50 and len(questions) > 5


def test_a_question_without_an_answer_stays_one(tokenizer: Any) -> None:
    given = [row(question="Who?", context=TEXT, answers="Bo"), row(question="When?", context=TEXT, answers=[])]
    task = learner(Answer(), given, tokenizer).task
    made = task.reworded(given[1], variant(1))
    assert task.references(made) == [] and task.stratum(made) == "no answer" and made.values["context"] != TEXT


def test_of_a_pair_both_texts_change_and_the_label_stays() -> None:
    made = Classify(pair="other").reworded(row(text="a kettle", other="a candle", label="a", more="a pot"), upper)
    assert made.values == {"text": "A KETTLE", "other": "A CANDLE", "label": "a", "more": "a pot"}
    numbers = row(text=12, label="a")
    assert Classify().reworded(numbers, upper).values == numbers.values


@pytest.mark.parametrize("task", [Fill(), Continue()])
def test_running_texts_change(task: Fill | Continue) -> None:
    assert task.reworded(row(text="a kettle", other="b"), upper).values == {"text": "A KETTLE", "other": "b"}


def test_of_rewriting_the_target_stays() -> None:
    made = Rewrite(query="about").reworded(row(source="a kettle", target="kettle", about="which"), upper)
    assert made.values == {"source": "A KETTLE", "target": "kettle", "about": "WHICH"}


TURNS = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "a kettle"}, {"role": "assistant", "content": "yes"}]


def test_of_conversations_only_the_users_turns_change() -> None:
    expected = [TURNS[0], {"role": "user", "content": "A KETTLE"}, TURNS[2]]
    assert Chat().reworded(row(messages=TURNS), upper).values["messages"] == expected
    assert Chat().reworded(row(messages=json.dumps(TURNS)), upper).values["messages"] == expected
    shared = [{"from": "human", "value": "a kettle"}, {"from": "gpt", "value": "yes"}]
    assert Chat().reworded(row(conversations=shared), upper).values["conversations"] == expected[1:]
    asked = Chat().reworded(row(instruction="sort", input="b a", output="a b"), upper)
    assert asked.values == {"instruction": "SORT", "input": "B A", "output": "a b"}
    listed = Chat().reworded(row(prompt=TURNS, response="yes"), upper)
    assert listed.values == {"prompt": expected, "response": "yes"}


def test_every_task_says_what_may_change() -> None:
    for name, task in specs("task").items():
        assert isinstance(task().word_for_word, bool) and callable(task.reworded), name


def test_a_change_that_changes_nothing_leaves_every_row_as_it_is(tokenizer: Any) -> None:
    spans = [{"start": start, "end": end, "label": label} for start, end, label in SPANS]
    assert Tag(text="text").reworded(row(text=TEXT, entities=spans), lambda passage: passage).values == {"text": TEXT, "entities": spans}
    assert written(around(TEXT, [(start, end) for start, end, _ in SPANS])) == TEXT
