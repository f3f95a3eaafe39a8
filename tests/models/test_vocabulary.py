"""Trained tokenizers: what comes back, what they add, that they load again the same, and that the same texts give the same one."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from sentences import ENGLISH, FRENCH, SIZES, TEXTS
from transformers import AutoTokenizer

from burnish.core.errors import DataError
from burnish.models import vocabulary
from burnish.models.spec import bundled

KINDS = pytest.mark.parametrize("kind", SIZES)
LOSSLESS = pytest.mark.parametrize("kind", ["bpe", "unigram"])
ODD = [
    *TEXTS,
    " leading, trailing  ",
    "a\n\n\tb\r\nc",
    "unseen: ñ ß 中文 😀👩‍💻 \u200b",
    "the text <0x41> itself, and <0xE9>",
    "12345 a'b don't DON'T",
    "",
]


@LOSSLESS
@pytest.mark.parametrize("text", ODD)
def test_every_text_comes_back(trained: dict[str, Any], kind: str, text: str) -> None:
    tokenizer = trained[kind]
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


def test_bpe_keeps_decomposed_accents_and_unigram_composes_them(trained: dict[str, Any]) -> None:
    text = unicodedata.normalize("NFD", "déjà")
    assert trained["bpe"].decode(trained["bpe"](text)["input_ids"]) == text
    assert trained["unigram"].decode(trained["unigram"](text)["input_ids"]) == "déjà"


@LOSSLESS
def test_nothing_is_added_around_a_text(trained: dict[str, Any], kind: str) -> None:
    tokenizer = trained[kind]
    assert not set(tokenizer("The kettle", "arrived")["input_ids"]) & set(tokenizer.all_special_ids)
    assert tokenizer.all_special_tokens == ["<s>", "</s>", "<unk>", "<pad>", "<mask>"]
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<s>", "</s>")
    assert tokenizer.convert_tokens_to_ids(["<pad>", "<s>", "</s>", "<unk>", "<mask>"]) == [0, 1, 2, 3, 4]
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]


def test_wordpiece_stands_between_cls_and_sep(trained: dict[str, Any]) -> None:
    tokenizer = trained["wordpiece"]
    encoded = tokenizer("The kettle", "arrived late")
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert tokens[0] == "[CLS]" and tokens[-1] == "[SEP]" and tokens.count("[SEP]") == 2
    first = tokens.index("[SEP]") + 1
    assert encoded["token_type_ids"] == [0] * first + [1] * (len(tokens) - first)
    assert tokenizer.decode(encoded["input_ids"], skip_special_tokens=True) == "The kettle arrived late"
    assert tokenizer.decode(tokenizer("élève naïf")["input_ids"], skip_special_tokens=True) == "élève naïf"
    assert tokenizer.unk_token_id in tokenizer("中文")["input_ids"]


@KINDS
def test_frequent_words_become_few_tokens(trained: dict[str, Any], kind: str) -> None:
    tokens = trained[kind].tokenize("The kettle arrived")
    assert len(tokens) < 14 < len("The kettle arrived")
    assert len(trained[kind]) <= SIZES[kind]


@KINDS
def test_lower_case(kind: str) -> None:
    upper, lower = (vocabulary.train(TEXTS, kind, SIZES[kind], lowercase=True)(text)["input_ids"] for text in ("ÉTÉ A", "été a"))  # type: ignore[arg-type]
    assert upper == lower


@KINDS
def test_it_loads_again_the_same(trained: dict[str, Any], folders: dict[str, Path], kind: str) -> None:
    again = AutoTokenizer.from_pretrained(folders[kind])
    assert again(ODD)["input_ids"] == trained[kind](ODD)["input_ids"]
    assert [again.decode(ids) for ids in again(ODD)["input_ids"]] == [trained[kind].decode(ids) for ids in again(ODD)["input_ids"]]
    assert again.model_max_length == 100 and again.special_tokens_map == trained[kind].special_tokens_map
    assert again.model_input_names == trained[kind].model_input_names


def test_the_same_texts_give_the_same_tokenizer_in_another_process(trained: dict[str, Any]) -> None:
    """Hash tables of the library are seeded anew in each process: nothing may depend on their order."""
    script = (
        "import json, sys; from burnish.models import vocabulary; texts, sizes = json.load(sys.stdin); "
        "print(json.dumps({k: vocabulary.train(texts, k, s).backend_tokenizer.to_str() for k, s in sizes.items()}))"
    )
    done = subprocess.run([sys.executable, "-c", script], input=json.dumps([TEXTS, SIZES]), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {kind: tokenizer.backend_tokenizer.to_str() for kind, tokenizer in trained.items()}


def test_an_iterator_will_do(trained: dict[str, Any]) -> None:
    assert vocabulary.train(iter(TEXTS), "bpe", SIZES["bpe"]).get_vocab() == trained["bpe"].get_vocab()


@KINDS
def test_more_than_the_texts_give(kind: str) -> None:
    assert len(vocabulary.train(TEXTS, kind, 100_000)) < 1000  # type: ignore[arg-type]


@KINDS
@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_no_text(kind: str, texts: list[str]) -> None:
    with pytest.raises(DataError, match="every text is empty"):
        vocabulary.train(texts, kind, 1000)  # type: ignore[arg-type]


@KINDS
def test_too_small_a_size_says_what_is_needed(kind: str) -> None:
    with pytest.raises(DataError, match=r"a vocabulary of 50 tokens is too small: .* alone take \d+") as caught:
        vocabulary.train(TEXTS, kind, 50)  # type: ignore[arg-type]
    needed = int(str(caught.value).rpartition(" take ")[2].partition(".")[0])
    with pytest.raises(DataError, match="is too small"):
        vocabulary.train(TEXTS, kind, needed - 1)  # type: ignore[arg-type]
    assert len(vocabulary.train(TEXTS, kind, needed)) == needed  # type: ignore[arg-type]


def test_an_unknown_kind() -> None:
    with pytest.raises(DataError, match="did you mean `wordpiece`"):
        vocabulary.train(TEXTS, "wordpeice", 1000)  # type: ignore[arg-type]


def test_summary(trained: dict[str, Any]) -> None:
    found = vocabulary.summary(trained["bpe"], FRENCH)
    assert found["tokens"] == sum(len(trained["bpe"].tokenize(text)) for text in FRENCH)
    assert found["bytes_per_token"] == sum(len(text.encode()) for text in FRENCH) / found["tokens"] > 1
    assert found["unknown"] == 0 and found["vocabulary"] == len(trained["bpe"])
    assert vocabulary.summary(trained["wordpiece"], ["kettle 中"])["unknown"] == 1 / len(trained["wordpiece"].tokenize("kettle 中"))
    with pytest.raises(DataError, match="every text is empty"):
        vocabulary.summary(trained["bpe"], [""])


def test_the_bundled_tokenizer() -> None:
    tokenizer = AutoTokenizer.from_pretrained(bundled("bundled:tokenizer"))
    assert len(tokenizer) == 2000
    for text in [*ENGLISH, *FRENCH]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert vocabulary.summary(tokenizer, ENGLISH)["bytes_per_token"] > 2.5
