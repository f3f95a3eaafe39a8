"""The tagging task: words and their pieces, tags and spans, windows, what the model sees, what comes out."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from burnish.core.errors import DataError
from burnish.core.evaluation import Matrix, Table
from burnish.core.protocols import IGNORED, Row
from burnish.data.encode import Encoded
from burnish.tasks import spans as reading
from burnish.tasks import words as pieces
from burnish.tasks.spans import Span
from burnish.tasks.tag import CUT, Tag, Tagger
from burnish.tasks.words import Word

KEY = (0, 0)
LISTED = [
    {"tokens": ["the", "lovely", "kettle", "of", "Rotterdam"], "tags": ["O", "B-THING", "I-THING", "O", "B-PLACE"]},
    {"tokens": ["Ghent", "!"], "tags": ["B-PLACE", "O"]},
]
TEXTS = [
    {
        "text": "The lovely kettle, sent to Rotterdam.",
        "entities": [{"start": 4, "end": 17, "label": "THING"}, {"start": 27, "end": 36, "label": "PLACE"}],
    },
    {"text": "Ghent!", "entities": [{"start": 0, "end": 5, "label": "PLACE"}]},
]


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(dict(one), "a.jsonl", number, number) for number, one in enumerate(values, start=1)]


def tagged(*tags: Sequence[str]) -> list[Row]:
    return rows(*({"tokens": [f"w{place}" for place in range(len(one))], "tags": list(one)} for one in tags))


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_bert)


def with_limit(tokenizer: Any, limit: int) -> Any:
    other = copy.deepcopy(tokenizer)
    other.model_max_length = limit
    return other


@pytest.fixture(scope="module")
def narrow(tokenizer: Any) -> Any:
    """A tokenizer for a model that reads 12 tokens at once."""
    return with_limit(tokenizer, 12)


@pytest.fixture(scope="module")
def byte_level() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE in which most words are one piece after a blank."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = ["the lovely kettle of Rotterdam", "in Ghent, the parcel isn't lovely!", "Rotterdam and Ghent"] * 4
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet))
    model = json.loads(made.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def roberta(byte_level: Any, **options: Any) -> Any:
    from transformers import RobertaTokenizer

    vocab, merges = byte_level
    return RobertaTokenizer(vocab=dict(vocab), merges=list(merges), model_max_length=64, **options)


def qwen(byte_level: Any) -> Any:
    """Byte-level BPE whose splitting rule has no setting for a blank before the first word."""
    from transformers import Qwen2Tokenizer

    vocab, merges = byte_level
    return Qwen2Tokenizer(vocab=dict(vocab), merges=list(merges), pad_token="<pad>", model_max_length=64)


def sentence_pieces(split: bool) -> Any:
    """Pieces as SentencePiece makes them: no rule parts punctuation from words, nor, without `split`, a word from the next."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    entries = ["▁in", "▁New", "▁York", "▁", ",", "▁said", "▁He", *"abcdefghijklmnopqrstuvwxyzNY"]
    made = Tokenizer(models.Unigram([("<unk>", -20.0), ("<pad>", 0.0), *((entry, -1.0) for entry in entries)], unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=split)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", model_max_length=64)


def told(learner: Tagger, data: list[Row], index: int = 0) -> dict[str, str]:
    """Each supervised piece of an example with its tag."""
    view = learner.view(learner.encode(data), index).strips[0]
    names = learner.tokenizer.convert_ids_to_tokens(view.ids)
    return {name: note for name, note, supervised in zip(names, view.notes, view.supervised, strict=True) if supervised}


@dataclass
class Given:
    """A model that says of every word what is given for it, in order of the examples' words."""

    learner: Tagger
    tags: list[str]

    def outputs(self, examples: Encoded) -> list[np.ndarray]:
        waiting = list(self.tags)
        made = []
        for own in examples.targets["first"].lengths:  # type: ignore[union-attr]
            logits = np.zeros((own, len(self.learner.labels)), dtype=np.float32)
            for place in range(own):
                logits[place, self.learner.index[waiting.pop(0)]] = 3.0
            made.append(logits)
        assert not waiting
        return made

    def generate(self, prompts: Any, generation: Any) -> Any:
        raise AssertionError("a tagger writes nothing")


# What cells hold


@pytest.mark.parametrize(
    "value", [["a", "b c", "3"], ("a", "b c", 3), '["a", "b c", "3"]', "['a', 'b c', 3]", ' ["a", "b c", 3] '], ids=["list", "tuple", "json", "python", "blanks"]
)  # fmt: skip
def test_words_may_be_written_in_many_ways(value: Any) -> None:
    assert reading.read_words(value) == ["a", "b c", "3"]


def test_words_as_text_are_parted_by_blanks() -> None:
    assert reading.read_words("  [1] New  York ") == ["[1]", "New", "York"]
    assert reading.read_words("[a b]") == ["[a", "b]"]
    assert reading.read_words(["a", "", "\x00"]) == ["a", "", "\x00"], "odd words stay, so that tags stay beside their words"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is missing"),
        (math.nan, "is missing"),
        ([], "is empty"),
        ("", "is empty"),
        ("[]", "is empty"),
        (["", " "], "is empty"),
        (["a", None], "holds nothing as word 2"),
        (["a", ["b"]], r"holds \['b'\] as word 2"),
        (["a", math.nan], "holds nan as word 2"),
        ({"a": 1}, "holds dict where a list of words"),
        (7, "holds int where a list of words"),
    ],
)
def test_what_are_no_words(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        reading.read_words(value)


def test_tags_that_are_numbers_stand_for_the_labels_that_the_recipe_names() -> None:
    assert reading.read_tags([0, "O", 1], ["O", "B-X"]) == ["O", "O", "B-X"]
    assert reading.read_tags("[0, 1]", ["O", "B-X"]) == ["O", "B-X"]
    for value, labels, words in [
        ([0], None, "holds numbers: say in task.labels"),
        ([2], ["O", "B-X"], "holds 2 as tag 1, but task.labels has the positions 0 to 1"),
        ([True], ["O"], "holds True as tag 1"),
        ([""], None, "holds nothing as tag 1"),
        (["O", None], None, "holds nothing as tag 2"),
    ]:
        with pytest.raises(ValueError, match=words):
            reading.read_tags(value, labels)


TEXT = "In New York \u200b now"


def test_spans_are_sorted_and_may_be_written_in_several_ways() -> None:
    given_spans = [{"start": 15, "end": 17, "label": " TIME "}, {"start": 3, "end": 11, "label": "PLACE"}]
    expected = [Span(3, 11, "PLACE"), Span(15, 17, "TIME")]
    assert reading.read_spans(given_spans, TEXT) == expected
    assert reading.read_spans('[[15, 17, "TIME"], [3, 11, "PLACE"]]', TEXT) == expected
    assert reading.read_spans("[]", TEXT) == reading.read_spans([], TEXT) == []
    assert reading.read_spans([[3, 6, "A"], [6, 8, "B"]], TEXT), "spans may touch"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is missing"),
        ("New York", "holds text where a list of"),
        ("", "holds text where a list of"),
        ({"start": 0}, "holds dict where a list of"),
        (["PLACE"], "holds 'PLACE' where {start, end, label}"),
        ([[3, 11]], "where {start, end, label} is expected"),
        ([[3, 11, None]], "from 3 to 11 without a label"),
        ([[3, 11, " "]], "from 3 to 11 without a label"),
        ([["3", 11, "A"]], "from '3' to 11: both are numbers"),
        ([[3.0, 11, "A"]], "from 3.0 to 11: both are numbers"),
        ([[-1, 2, "A"]], "from -1 to 2, but the text has 17 characters"),
        ([[3, 18, "A"]], "from 3 to 18, but the text has 17 characters: 0 <= start < end <= 17"),
        ([[5, 5, "A"]], "from 5 to 5, but"),
        ([[2, 3, "A"]], r"a span of blanks only: 2-3 \(' ', A\)"),
        ([[11, 14, "A"]], "a span of blanks only"),
        ([[3, 11, "A"], [7, 11, "B"]], r"spans that overlap: 3-11 \('New York', A\) and 7-11 \('York', B\)"),
    ],
)
def test_what_are_no_spans(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        reading.read_spans(value, TEXT)


# Rows


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tags": ["O"]}, "`tokens` is missing"),
        ({"tokens": ["a"]}, "`tags` is missing"),
        ({"tokens": [], "tags": []}, "`tokens` is empty"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "`tokens` has 2 words and `tags` 1 tag: there is one for each word"),
        ({"tokens": "a b", "tags": "O B-X I-X"}, "`tokens` has 2 words and `tags` 3 tags"),
        ({"tokens": ["a", "b"], "tags": ["B-X", "I-Y"]}, "`tags`: word 2 is tagged `I-Y` after `B-X`"),
        ({"tokens": ["a", "b"], "tags": ["S-X", "I-X"]}, "`tags`: word 2 is tagged `I-X`"),
        ({"tokens": ["a", "b"], "tags": [0, 1]}, "`tags` holds numbers: say in task.labels"),
    ],
)
def test_faulty_rows(values: dict[str, Any], words: str) -> None:
    assert words in str(Tag().fault(Row(values, "a", 1), True))


def test_old_conll_files_are_recognized() -> None:
    old = tagged(["O", "I-PER", "I-PER", "B-PER"])[0]
    assert "is IOB1, the form of the old CoNLL files: make the first I- of each span a B-" in str(Tag().fault(old, True))
    assert "IOB1" not in str(Tag().fault(tagged(["B-PER", "I-ORG"])[0], True)), "a B- at a span's start is of no old file"


def test_sound_rows_and_rows_to_predict() -> None:
    for tags in (["B-X", "I-X"], ["B", "I"], ["S-X", "O"], ["NN", "VB"], ["O", "O"], ["S", "I"]):
        assert Tag().fault(tagged(tags)[0], True) is None
    assert Tag().fault(Row({"tokens": "New York"}, "a", 1), False) is None
    assert Tag(scheme="plain").fault(tagged(["O", "I-X"])[0], True) is None
    assert "BIO knows only" in str(Tag(scheme="BIO").fault(tagged(["S-X"])[0], True))
    assert Tag(text="text").fault(Row({"text": "x"}, "a", 1), False) is None
    for value, words in [(None, "is missing"), (" ", "is empty"), (["x"], "holds list where a text")]:
        assert words in str(Tag(text="text").fault(Row({"text": value}, "a", 1), False))
    assert "`spans` holds a span from 0 to 9" in str(
        Tag(text="text", spans="spans").fault(Row({"text": "x", "spans": [[0, 9, "A"]]}, "a", 1), True)
    )


def test_columns_and_metrics_are_those_of_the_kind() -> None:
    assert Tag(tokens="words", tags="ner").columns(True) == ["words", "ner"] and Tag().columns(False) == ["tokens"]
    assert Tag(text="t", spans="s").columns(True) == ["t", "s"] and Tag(text="t").columns(False) == ["t"]
    assert "macro_f1" not in Tag(text="t").metrics and "f1" in Tag(text="t").metrics
    assert "macro_f1" in Tag(scheme="plain").metrics and "f1" not in Tag(scheme="plain").metrics
    assert {"f1", "macro_f1"} <= set(Tag().metrics), "which of them is known with the rows"
    with pytest.raises(ValidationError, match="take BIO or BIOES"):
        Tag(text="t", scheme="plain")


def test_guess() -> None:
    found = Tag.guess(rows({"id": 1, "tokens": ["a"], "ner_tags": ["O"], "text": "a"}))
    assert (found.tokens, found.tags, found.text) == ("tokens", "ner_tags", None)
    found = Tag.guess(rows({"text": "a", "spans": []}))
    assert (found.text, found.spans) == ("text", "spans")
    with pytest.raises(DataError, match="no columns have the usual names"):
        Tag.guess(rows({"sentence": "a", "label": "b"}))


# Binding


@pytest.mark.parametrize(
    ("tags", "scheme", "labels"),
    [
        (["O", "B-b", "O", "B-a", "I-a"], "BIO", ["O", "B-a", "I-a", "B-b", "I-b"]),
        (["S-a", "O"], "BIOES", ["O", "B-a", "E-a", "I-a", "S-a"]),
        (["B", "I", "O"], "BIO", ["O", "B", "I"]),
        (["VERB", "NOUN", "X"], "plain", ["NOUN", "VERB", "X"]),
        (["O", "B-a", "odd"], "plain", ["B-a", "O", "odd"]),
    ],
)
def test_scheme_and_labels_are_found(tokenizer: Any, tags: list[str], scheme: str, labels: list[str]) -> None:
    learner = Tag().bind(tagged(tags), [], tokenizer)
    assert (learner.task.scheme, learner.labels) == (scheme, labels)
    assert learner.config["id2label"] == dict(enumerate(labels)) and learner.config["label2id"][labels[1]] == 1
    assert learner.task.bind([], [], tokenizer) == learner, "without data the same again"
    assert set(learner.task.metrics) == (
        {"loss", "accuracy", "macro_f1"} if scheme == "plain" else {"loss", "f1", "precision", "recall", "accuracy"}
    )


def test_labels_of_texts(tokenizer: Any) -> None:
    learner = Tag(text="text").bind(rows(*TEXTS), [], tokenizer)
    assert (learner.task.scheme, learner.labels) == ("BIO", ["O", "B-PLACE", "I-PLACE", "B-THING", "I-THING"])
    assert learner.task.bind([], [], tokenizer) == learner
    named = Tag(text="text", scheme="BIOES", labels=["THING", "PLACE"]).bind(rows(*TEXTS), [], tokenizer)
    assert named.labels == ["O", *(f"{prefix}-{name}" for name in ("PLACE", "THING") for prefix in "BEIS")]
    assert named.task.bind([], [], tokenizer) == named
    order = ["B-THING", "I-THING", "O", "B-PLACE"]
    assert Tag(text="text", labels=order).bind(rows(*TEXTS), [], tokenizer).labels == [*order, "I-PLACE"]


def test_tags_that_training_lacks_are_told_with_rows(tokenizer: Any) -> None:
    with pytest.raises(DataError) as caught:
        Tag().bind(tagged(["B-PLACE", "O"]), tagged(["O"], ["B-PLACES"]), tokenizer)
    assert "a.jsonl row 2 (line 2): 'B-PLACES' does not occur in training - did you mean `B-PLACE`?" in str(caught.value)
    with pytest.raises(DataError, match=r"row 1 .*'TIME' does not occur in training \(known: PLACE, THING\)"):
        Tag(text="text").bind(rows(*TEXTS), rows({"text": "now", "entities": [[0, 3, "TIME"]]}), tokenizer)
    with pytest.raises(DataError, match="'B-PLACE' does not occur"):
        Tag(labels=["O", "B-THING", "I-THING"]).bind(rows(*LISTED), [], tokenizer)


def test_rows_whose_fault_only_the_whole_file_shows(tokenizer: Any) -> None:
    """Row 2 alone would be valid BIO."""
    data = tagged(["B-X", "E-X"], ["B-X", "I-X"])
    assert [Tag().fault(row, True) for row in data] == [None, None]
    with pytest.raises(DataError, match=r"row 2 \(line 2\): `tags`: the last span has no end(.|\n)*task.scheme=plain"):
        Tag().bind(data, [], tokenizer)


def test_what_teaches_nothing_is_refused(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="`tags` has nothing to tell apart in 2 training rows: every word is O"):
        Tag().bind(tagged(["O", "O"], ["O"]), [], tokenizer)
    with pytest.raises(DataError, match="`entities` has nothing to tell apart"):
        Tag(text="text").bind(rows({"text": "x", "entities": []}), [], tokenizer)
    with pytest.raises(DataError, match="60 different values for 60 words: these are no tags"):
        Tag().bind(tagged([f"tag{number}" for number in range(60)]), [], tokenizer)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(DataError, match=r"Slow cannot tell which word a token is of.*a fast tokenizer is needed"):
        Tag().bind(tagged(["NN", "VB"]), [], Slow())


# Words and their pieces


def test_the_first_piece_of_a_word_carries_its_tag(tokenizer: Any) -> None:
    data = rows(*LISTED)
    learner = Tag().bind(data, [], tokenizer)
    examples = learner.encode(data)
    expected = tokenizer([row.values["tokens"] for row in data], is_split_into_words=True)
    for index, row in enumerate(data):
        assert examples.inputs["input_ids"][index].tolist() == expected["input_ids"][index]
        places = [expected.word_ids(index).index(word) for word in range(len(row.values["tokens"]))]
        labels = [IGNORED] * len(expected["input_ids"][index])
        for place, tag in zip(places, row.values["tags"], strict=True):
            labels[place] = learner.index[tag]
        assert examples.targets["labels"][index].tolist() == labels
    assert len(expected["input_ids"][0]) > 7, "Rotterdam is of several pieces"
    assert examples.weights.tolist() == [5.0, 2.0] and examples.rows.tolist() == [0, 1] and examples.cut == {}


def test_all_pieces_may_be_learned_from(tokenizer: Any) -> None:
    data = rows({"tokens": ["ghzj", "qxj", "the"], "tags": ["B-A", "O", "O"]})
    learner = Tag(all_pieces=True).bind(data, [], tokenizer)
    labels = [learner.labels[label] for label in learner.encode(data).targets["labels"][0] if label != IGNORED]  # type: ignore[index]
    assert labels == ["B-A", "I-A", "I-A", "I-A", "O", "O", "O", "O"]
    assert learner.encode(data).weights.tolist() == [8.0]
    ending = Tag(all_pieces=True).bind(tagged(["S-A", "O"]), [], tokenizer)
    assert [reading.continuation(tag, "BIOES") for tag in ending.labels] == ["O", "I-A", "I-A", "I-A", "I-A"]
    assert reading.continuation("NN", "plain") == "NN"


@pytest.mark.parametrize("kind", ["roberta", "qwen"])
def test_byte_level_bpe_sees_a_blank_before_every_word(byte_level: Any, kind: str, tmp_path: Path) -> None:
    """The pieces of a tokenizer made with add_prefix_space=True; those that the words have within a text."""
    tokenizer = roberta(byte_level) if kind == "roberta" else qwen(byte_level)
    data = rows(*LISTED, {"tokens": ["isn't", "", "\t", " the", "lovely"], "tags": ["O"] * 5})
    bare = tokenizer(LISTED[0]["tokens"], is_split_into_words=True)["input_ids"]
    learner = Tag().bind(data, [], tokenizer)
    examples = learner.encode(data)
    spaced = roberta(byte_level, add_prefix_space=True)
    for index, row in enumerate(data):
        words = [word.strip() for word in row.values["tokens"] if word.strip()]
        expected = spaced(words, is_split_into_words=True, add_special_tokens=kind == "roberta")["input_ids"]
        assert examples.inputs["input_ids"][index].tolist() == expected
    assert examples.inputs["input_ids"][0].tolist() != bare, "without care the pieces would be others"
    assert examples.targets["start"][2].tolist() == [0, 3, 4]  # type: ignore[index]
    if kind == "roberta":
        tokenizer.save_pretrained(tmp_path)
        saved = type(tokenizer).from_pretrained(tmp_path)
        assert saved(LISTED[0]["tokens"], is_split_into_words=True)["input_ids"] == examples.inputs["input_ids"][0].tolist()
        assert learner.task.bind([], [], saved).encode(data).inputs["input_ids"][0].tolist() == examples.inputs["input_ids"][0].tolist()


def test_texts_are_tokenized_as_they_stand(byte_level: Any) -> None:
    tokenizer = roberta(byte_level)
    data = rows(*TEXTS)
    learner = Tag(text="text").bind(data, [], tokenizer)
    assert learner.encode(data).inputs["input_ids"][0].tolist() == roberta(byte_level)(TEXTS[0]["text"])["input_ids"]


ODD = ["the", "\x00", "kettle", "", "\u200b", "Ghent", "\u00a0"]


def test_words_without_a_piece_shift_nothing(tokenizer: Any) -> None:
    data = rows({"tokens": ODD, "tags": ["O", "B-A", "B-B", "O", "O", "B-C", "O"]})
    learner = Tag().bind(data, [], tokenizer)
    assert list(told(learner, data).values()) == ["O", "B-B", "B-C"]
    found = learner.predict(Given(learner, ["B-A", "B-B", "B-C"]), data)[0]
    assert found["tags"] == ["B-A", "O", "B-B", "O", "O", "B-C", "O"]
    assert [(one["text"], one["label"], one["start"], one["end"]) for one in found["entities"]] == [
        ("the", "A", 0, 1),
        ("kettle", "B", 2, 3),
        ("Ghent", "C", 5, 6),
    ]
    scored = learner.evaluate(Given(learner, ["O", "B-B", "B-C"]), learner.encode(data), data)
    assert scored.metrics["recall"] == pytest.approx(2 / 3), "what the model cannot read it cannot find, which counts"
    plain = Tag().bind(rows({"tokens": ODD, "tags": ["D", "X", "N", "X", "X", "N", "X"]}), [], tokenizer)
    assert plain.predict(Given(plain, ["D", "N", "N"]), data)[0]["tags"] == ["D", "O", "N", "O", "O", "N", "O"]
    assert plain.predict(Given(plain, ["D", "N", "N"]), data)[0]["scores"][1] == 0


@given(
    st.lists(
        st.sampled_from(["the", "", "\x00", " ", "\u200b", "Rotterdam", "é", "张伟", "don't", "a b", "\U0001f600", "x" * 30]),
        min_size=1,
        max_size=40,
    )
)
def test_every_tag_stays_with_its_word(narrow: Any, words: list[str]) -> None:
    """However odd the words are and into however many windows they are split: piece by piece the tag of its own word."""
    data = rows({"tokens": [*words, "end"], "tags": [f"t{place}" for place in range(len(words))] + ["end"]})
    learner = Tag(scheme="plain").bind(data, [], narrow)
    examples = learner.encode(data)
    seen = {}
    for index in range(len(examples)):
        labels, firsts = examples.targets["labels"][index], examples.targets["first"][index]  # type: ignore[index]
        assert len(examples.inputs["input_ids"][index]) <= 12
        assert sorted(np.flatnonzero(labels != IGNORED)) == sorted(firsts)
        for start, first in zip(examples.targets["start"][index], firsts, strict=True):  # type: ignore[index]
            seen[int(start)] = (learner.labels[labels[first]], int(examples.inputs["input_ids"][index][first]))
    for place, word in enumerate([*words, "end"]):
        alone = narrow([word], is_split_into_words=True, add_special_tokens=False)["input_ids"]
        assert seen.get(place) == ((data[0].values["tags"][place], alone[0]) if alone else None)


# Texts with spans


def spoken(learner: Tagger, data: list[Row]) -> list[tuple[str, str]]:
    """The words of the first row with their true tags."""
    examples = learner.encode(data)
    text = data[0].values["text"]
    starts, ends, labels = (examples.targets[name] for name in ("start", "end", "labels"))
    found = [label for label in labels[0] if label != IGNORED]  # type: ignore[index]
    return [(text[start:end], learner.labels[label]) for start, end, label in zip(starts[0], ends[0], found, strict=True)]  # type: ignore[index]


def test_spans_become_tags_of_the_words_that_they_touch(tokenizer: Any) -> None:
    data = rows(TEXTS[0])
    assert spoken(Tag(text="text").bind(data, [], tokenizer), data) == [
        ("The", "O"),
        ("lovely", "B-THING"),
        ("kettle", "I-THING"),
        (",", "O"),
        ("sent", "O"),
        ("to", "O"),
        ("Rotterdam", "B-PLACE"),
        (".", "O"),
    ]
    inner = rows({"text": "prewar kettles", "entities": [[3, 6, "TIME"], [7, 10, "A"], [10, 13, "B"]]})
    assert spoken(Tag(text="text").bind(inner, [], tokenizer), inner) == [("prewar", "B-TIME"), ("kettles", "B-A")]


def test_bioes_tags_of_spans() -> None:
    starts, ends = [0, 2, 4, 6, 8], [1, 3, 5, 7, 9]
    assert reading.span_tags([Span(0, 5, "A"), Span(6, 7, "B")], starts, ends, "BIOES") == ["B-A", "I-A", "E-A", "S-B", "O"]
    assert reading.span_tags([Span(0, 3, "A"), Span(4, 5, "A")], starts, ends, "BIO") == ["B-A", "I-A", "B-A", "O", "O"]
    assert reading.span_tags([Span(0, 3, "A")], [0, 2], [1, 3], "BIOES") == ["B-A", "E-A"]
    assert reading.span_tags([], [], [], "BIO") == []


@pytest.mark.parametrize("split", [True, False])
def test_words_of_sentence_pieces_end_at_blanks_and_punctuation(split: bool) -> None:
    tokenizer = sentence_pieces(split)
    data = rows({"text": "in New York, He said: 'ab  cd", "entities": [{"start": 3, "end": 11, "label": "PLACE"}]})
    learner = Tag(text="text").bind(data, [], tokenizer)
    found = spoken(learner, data)
    assert [word for word, tag in found if tag != "O"] == ["New", "York"]
    assert [word for word, _ in found] == ["in", "New", "York", ",", "He", "said", ":", "'", "ab", "cd"]


def test_characters_of_several_pieces_are_one_word(byte_level: Any) -> None:
    tokenizer = roberta(byte_level)
    text = "é \U0001f600\n\n  张伟."
    data = rows({"text": text, "entities": [[text.index("张"), len(text) - 1, "A"]]})
    assert spoken(Tag(text="text").bind(data, [], tokenizer), data) == [("é", "O"), ("\U0001f600", "O"), ("张伟", "B-A"), (".", "O")]


def test_predictions_name_exact_characters(tokenizer: Any) -> None:
    text = "  The LOVELY   kettle, of\tRotterdam!"
    data = rows({"text": text, "entities": [[6, 12, "A"]]})
    learner = Tag(text="text").bind(data, [], tokenizer)
    found = learner.predict(Given(learner, ["O", "B-A", "I-A", "O", "O", "I-A", "O"]), data)
    score = math.e**3 / (math.e**3 + 2)
    expected = [("LOVELY   kettle", text.index("LOVELY"), "A"), ("Rotterdam", text.index("Rotterdam"), "A")]
    assert [(one["text"], one["start"], one["label"]) for one in found[0]["entities"]] == expected
    assert all(text[one["start"] : one["end"]] == one["text"] for one in found[0]["entities"])
    assert [one["score"] for one in found[0]["entities"]] == pytest.approx([score, score])
    assert set(found[0]) == {"entities"}


def test_a_text_without_any_word_has_no_entity(tokenizer: Any) -> None:
    learner = Tag(text="text").bind(rows(*TEXTS), [], tokenizer)
    assert learner.predict(Given(learner, []), rows({"text": "\x00\u200b"})) == [{"entities": []}]


# Windows


def test_long_rows_are_split_between_words_and_joined_again(tokenizer: Any) -> None:
    words = ["the", "kettle", "of", "ghzj", "and", "candle"] * 5
    tags = [f"B-{place % 7}" if place % 3 else "O" for place in range(30)]
    data = rows({"tokens": ["!"], "tags": ["O"]}, {"tokens": words, "tags": tags}, {"tokens": ["?"], "tags": ["O"]})
    learner = Tag().bind(data, [], with_limit(tokenizer, 14))
    examples = learner.encode(data)
    whole = Tag().bind(data, [], tokenizer).encode(data).inputs["input_ids"][1].tolist()
    parts = [examples.inputs["input_ids"][index].tolist() for index in np.flatnonzero(examples.rows == 1)]
    assert all(part[0] == whole[0] and part[-1] == whole[-1] and len(part) <= 14 for part in parts)
    assert [piece for part in parts for piece in part[1:-1]] == whole[1:-1], "nothing is lost, nothing twice"
    assert max(map(len, parts)) - min(map(len, parts)) <= 5, "about equally long, so that no window lacks context"
    assert examples.cut == {} and examples.rows.tolist() == [0, *[1] * len(parts), 2]
    assert examples.weights.sum() == 32
    found = learner.predict(Given(learner, ["O", *tags, "O"]), data)
    assert [one["tags"] for one in found] == [["O"], tags, ["O"]]


def test_texts_in_windows_keep_their_characters(tokenizer: Any) -> None:
    text = " ".join(["the kettle of Ghent,"] * 12)
    places = [index for index in range(len(text)) if text.startswith("Ghent", index)]
    data = rows({"text": text, "entities": [[index, index + 5, "PLACE"] for index in places]})
    learner = Tag(text="text").bind(data, [], with_limit(tokenizer, 16))
    examples = learner.encode(data)
    assert len(examples) > 4
    truth = [learner.labels[label] for index in range(len(examples)) for label in examples.targets["labels"][index] if label != IGNORED]  # type: ignore[index]
    found = learner.predict(Given(learner, truth), data)[0]["entities"]
    assert [one["start"] for one in found] == places and {one["text"] for one in found} == {"Ghent"}
    assert learner.evaluate(Given(learner, truth), examples, data).metrics["f1"] == 1


def test_only_a_word_longer_than_a_window_is_cut(tokenizer: Any) -> None:
    data = rows({"tokens": ["the", "q" * 40, "kettle"], "tags": ["O", "B-A", "B-B"]})
    learner = Tag().bind(data, [], with_limit(tokenizer, 10))
    examples = learner.encode(data)
    assert examples.inputs["input_ids"].lengths.tolist() == [3, 10, 3] and examples.cut == {CUT: 1}
    assert learner.predict(Given(learner, ["O", "B-A", "B-B"]), data)[0]["tags"] == ["O", "B-A", "B-B"]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=60), room=st.integers(1, 12))
def test_groups_hold_every_word_once_and_fit(sizes: list[int], room: int) -> None:
    words, first = [], 0
    for place, size in enumerate(sizes):
        words.append(Word(place, place + 1, first, size))
        first += size
    found = pieces.groups(words, room)
    assert [word for group in found for word in group] == words and all(found)
    assert all(len(group) == 1 or sum(word.size for word in group) <= room for group in found)
    if sum(sizes) <= room:
        assert len(found) == 1


# Losses


@pytest.mark.parametrize("all_pieces", [False, True])
def test_the_mean_loss_is_that_of_transformers_own_head(tiny_bert: Path, tokenizer: Any, all_pieces: bool) -> None:
    from transformers import AutoModelForTokenClassification

    data = rows(*LISTED, {"tokens": ["of"] * 20, "tags": ["O"] * 20})
    learner = Tag(all_pieces=all_pieces).bind(data, [], tokenizer)
    model = AutoModelForTokenClassification.from_pretrained(tiny_bert, **learner.config).eval()
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    batch = learner.collate(learner.encode(data), [2, 0, 1], KEY)
    with torch.no_grad():
        expected = model(**batch.inputs, labels=batch.targets["labels"]).loss
        losses, outputs = learner.losses(model, batch), learner.outputs(model, batch)
        logits = model(**batch.inputs).logits
    assert losses.shape == (3,) and batch.weight == float((batch.targets["labels"] != IGNORED).sum())
    assert losses.sum().item() / batch.weight == pytest.approx(expected.item(), rel=1e-6)
    assert [tuple(one.shape) for one in outputs] == [(20, 5), (5, 5), (2, 5)]
    encoding = tokenizer(LISTED[0]["tokens"], is_split_into_words=True)
    assert outputs[1].equal(logits[1, [encoding.word_ids().index(word) for word in range(5)]])


# Scores


def test_evaluation_of_spans(tokenizer: Any) -> None:
    from seqeval.metrics import f1_score

    data = rows(*LISTED)
    learner = Tag().bind(data, [], tokenizer)
    guesses = [["O", "B-THING", "O", "O", "B-PLACE"], ["B-PLACE", "O"]]
    found = learner.evaluate(Given(learner, [*guesses[0], *guesses[1]]), learner.encode(data), data)
    assert found.metrics["f1"] == pytest.approx(f1_score([row.values["tags"] for row in data], guesses))
    assert found.metrics["f1"] == pytest.approx(2 / 3) and found.metrics["accuracy"] == pytest.approx(6 / 7)
    right, wrong = (math.log(math.e**3 + 4) - logit for logit in (3, 0))
    assert found.metrics["loss"] == pytest.approx((6 * right + wrong) / 7)
    assert set(found.metrics) == set(learner.task.metrics)
    assert found.predictions[0] == {
        "row": 1,
        "file": "a.jsonl",
        "truth": LISTED[0]["tags"],
        "predicted": guesses[0],
        "loss": pytest.approx((4 * right + wrong) / 5),
    }
    types, matrix, worst = found.sections
    assert isinstance(types, Table) and types.title == "Types"
    assert isinstance(matrix, Matrix) and np.sum(matrix.counts) == 7
    assert matrix.counts[matrix.labels.index("I-THING")][matrix.labels.index("O")] == 1
    assert isinstance(worst, Table) and len(worst.rows) == 1
    assert worst.rows[0][:3] == ["the lovely kettle of Rotterdam", "lovely kettle/THING, Rotterdam/PLACE", "lovely/THING, Rotterdam/PLACE"]
    assert worst.rows[0][-1] == 1 and "1 of 2 rows" in worst.note


def test_worst_mistakes_come_first_and_nothing_found_is_said(tokenizer: Any) -> None:
    data = rows({"tokens": ["the", "the", "the", "Ghent"], "tags": ["O", "O", "O", "B-PLACE"]}, *LISTED[1:])
    learner = Tag().bind(data, [], tokenizer)
    found = learner.evaluate(Given(learner, ["O"] * 6), learner.encode(data), data)
    assert [row[-1] for row in found.sections[-1].rows] == [2, 1]  # type: ignore[union-attr]
    assert found.sections[-1].rows[0][1:3] == ["Ghent/PLACE", "(none)"]  # type: ignore[union-attr]


def test_evaluation_of_plain_tags(tokenizer: Any) -> None:
    data = rows({"tokens": ["the", "kettle", "is", "late"], "tags": ["DET", "NOUN", "VERB", "ADJ"]})
    learner = Tag().bind(data, [], tokenizer)
    found = learner.evaluate(Given(learner, ["DET", "VERB", "VERB", "ADJ"]), learner.encode(data), data)
    assert found.metrics["accuracy"] == 0.75 and set(found.metrics) == set(learner.task.metrics)
    assert found.sections[-1].rows[0][:3] == ["the kettle is late", "kettle/NOUN", "kettle/VERB"]  # type: ignore[union-attr]
    assert [section.title for section in found.sections] == ["Tags", "Confusion of words", "Worst mistakes"]
    assert found.sections[1].labels == ["ADJ", "DET", "NOUN", "VERB"]  # type: ignore[union-attr]
    unread = rows({"tokens": ["the", "\x00"], "tags": ["DET", "NOUN"]})
    found = learner.evaluate(Given(learner, ["DET"]), learner.encode(unread), unread)
    assert found.metrics["accuracy"] == 0.5 and found.sections[1].labels[-1] == "O"  # type: ignore[union-attr]


def test_evaluation_of_texts_says_which_spans_no_words_can_tell(tokenizer: Any) -> None:
    data = rows(TEXTS[0], {"text": "prewar Ghent", "entities": [[3, 6, "TIME"], [7, 12, "PLACE"]]})
    learner = Tag(text="text").bind(data, [], tokenizer)
    tags = ["O", "B-THING", "I-THING", "O", "O", "O", "B-PLACE", "O", "B-TIME", "B-PLACE"]
    found = learner.evaluate(Given(learner, tags), learner.encode(data), data)
    assert found.metrics["f1"] == 1
    assert found.sections[0].note == "1 of 4 spans begin or end within a word; scored are the words that they touch."  # type: ignore[union-attr]
    assert found.predictions[1]["truth"] == ["B-TIME", "B-PLACE"]
    exact = learner.evaluate(Given(learner, tags[:8]), learner.encode(data[:1]), data[:1])
    assert exact.sections[0].note == ""  # type: ignore[union-attr]


def test_many_labels_have_no_matrix(tokenizer: Any) -> None:
    data = tagged([f"t{place:02}" for place in range(16)])
    learner = Tag().bind(data, [], tokenizer)
    found = learner.evaluate(Given(learner, list(data[0].values["tags"])), learner.encode(data), data)
    assert [section.title for section in found.sections] == ["Tags", "Worst mistakes"]


def test_an_i_after_o_begins_a_span(tokenizer: Any) -> None:
    data = rows(*LISTED[:1])
    learner = Tag().bind(data, [], tokenizer)
    found = learner.predict(Given(learner, ["I-PLACE", "I-THING", "B-THING", "O", "I-PLACE"]), data)[0]["entities"]
    assert [(one["label"], one["start"], one["end"]) for one in found] == [
        ("PLACE", 0, 1),
        ("THING", 1, 2),
        ("THING", 2, 3),
        ("PLACE", 4, 5),
    ]
    assert found[3]["text"] == "Rotterdam"


def test_view_shows_the_tags_at_first_pieces(tokenizer: Any) -> None:
    data = rows(*LISTED)
    learner = Tag(all_pieces=True).bind(data, [], tokenizer)
    strip = learner.view(learner.encode(data), 0).strips[0]
    names = tokenizer.convert_ids_to_tokens(strip.ids)
    assert strip.notes[:5] == ["", "O", "B-THING", "I-THING", "O"] and strip.notes[5:].count("B-PLACE") == 1
    assert strip.supervised == [name not in ("[CLS]", "[SEP]") for name in names]
