"""Masked language modeling: windows that lose nothing, what is hidden and how, the loss, guesses, blanks to be filled."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.core.errors import DataError
from burnish.core.protocols import IGNORED, Row
from burnish.data.encode import Encoded
from burnish.engine.inference import Engine
from burnish.engine.runtime import Runtime
from burnish.tasks.fill import AROUND, BLANK, SHOWN, Fill, Filler

KEY = (3, 7)
LONG = " ".join(f"The parcel number {number} is late, and my zinnias were broken." for number in range(12))
SHORT = "The kettle is lovely."


def rows(*texts: Any) -> list[Row]:
    return [Row({"text": text}, "a.jsonl", number, number) for number, text in enumerate(texts, start=1)]


def bound(tokenizer: Any, **settings: Any) -> Filler:
    return Fill(**settings).bind([], [], tokenizer)


def opened(folder: Path) -> Any:
    """A new tokenizer of a folder, that reads 32 tokens at once."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 32
    return tokenizer


def roberta_tokenizer(folder: Path) -> Any:
    """Byte-level pieces between <s> and </s>, with a mask that swallows the space before it, as RoBERTa has."""
    from tokenizers import AddedToken, processors

    tokenizer = opened(folder)
    ends = (("</s>", tokenizer.eos_token_id), ("<s>", tokenizer.bos_token_id))
    tokenizer.backend_tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=True)
    tokenizer.add_special_tokens({"mask_token": AddedToken("<mask>", lstrip=True, special=True)})
    return tokenizer


def unigram_tokenizer() -> Any:
    from burnish.data import sources
    from burnish.models import vocabulary

    return vocabulary.train([row.values["text"] for row in sources.read("bundled:messages-train")], "unigram", 500, max_length=32)


@pytest.fixture(scope="module", params=["wordpiece", "byte-level", "unigram"])
def tokenizer(request: pytest.FixtureRequest, tiny_bert: Path, tiny_llama: Path) -> Any:
    if request.param == "unigram":
        return unigram_tokenizer()
    return opened(tiny_bert) if request.param == "wordpiece" else roberta_tokenizer(tiny_llama)


@pytest.fixture
def wordpiece(tiny_bert: Path) -> Any:
    return opened(tiny_bert)


@pytest.fixture(scope="module")
def bert(tiny_bert: Path) -> Any:
    from transformers import AutoModelForMaskedLM

    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_pretrained(tiny_bert).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def filler(wordpiece: Any) -> Filler:
    return bound(wordpiece)


def engine(model: Any, learner: Filler) -> Engine:
    return Engine(model, learner, Runtime("cpu"))


# Rows and tokenizers


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"text": ""}, "the text in `text` is empty"),
        ({"text": " \n"}, "the text in `text` is empty"),
        ({"text": None}, "the text in `text` is missing"),
        ({}, "the text in `text` is missing"),
        ({"text": ["x"]}, "holds list where a text is expected"),
        ({"text": True}, "holds bool where a text is expected"),
        ({"text": "half \ud83d"}, "half a character (a lone surrogate) at position 6"),
    ],
)
def test_rows_without_text(values: dict[str, Any], words: str) -> None:
    assert words in str(Fill().fault(Row(values, "a.csv", 1), True))
    assert words in str(Fill().fault(Row(values, "a.csv", 1), False))


def test_rows_to_fill_have_a_blank(filler: Filler) -> None:
    (plain,) = rows(SHORT)
    assert Fill().fault(plain, True) is None
    assert "nothing to fill in `text`: write [MASK]" in str(Fill().fault(plain, False))
    for blank in ("[MASK]", "<mask>"):
        assert filler.task.fault(rows(f"a {blank} kettle")[0], False) is None
    assert Fill().fault(rows("a ___ kettle")[0], False) is not None
    assert Fill(mask="___").fault(rows("a ___ kettle")[0], False) is None


def test_the_tokenizers_own_blank_is_kept_in_the_task(wordpiece: Any, tiny_llama: Path) -> None:
    assert bound(roberta_tokenizer(tiny_llama)).task.mask == "<mask>"
    learner = bound(wordpiece)
    assert learner.task.mask == "[MASK]" and learner.task.bind([], [], wordpiece).task == learner.task
    assert bound(wordpiece, mask="___").task.mask == "___"


def test_tokenizers_that_will_not_do(tiny_llama: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    none = PreTrainedTokenizerFast(tokenizer_object=opened(tiny_llama).backend_tokenizer, eos_token="</s>")
    with pytest.raises(DataError, match=r"no mask token.*task=continue"):
        bound(none)

    class Slow:
        is_fast = False

    with pytest.raises(DataError, match=r"Slow\) is written in Python"):
        bound(Slow())


def test_guess_takes_the_column_with_most_text() -> None:
    found = [Row({"id": 5, "title": "short", "body": "a much longer text", "label": "x"}, "a.csv", 1)]
    assert Fill.guess(found).text == "body"
    with pytest.raises(DataError, match=r"no column holds text \(its columns: id\)"):
        Fill.guess([Row({"id": 5}, "a.csv", 1)])


# Windows


def text_tokens(learner: Filler, examples: Encoded, row: int) -> list[int]:
    """The tokens of a row's windows, one after another, without the special ones."""
    windows = [examples.inputs["input_ids"][index] for index in np.flatnonzero(examples.rows == row)]
    return [int(token) for window in windows for token in window if int(token) not in learner.special]


def test_long_texts_are_read_in_windows_that_lose_nothing(tokenizer: Any) -> None:
    learner = bound(tokenizer)
    data = rows(LONG, SHORT, LONG[7:])
    examples = learner.encode(data)
    assert examples.lengths.max() == 32 and examples.rows.tolist() == sorted(examples.rows.tolist())
    assert (examples.rows == 0).sum() > 3 and (examples.rows == 1).sum() == 1
    for index, row in enumerate(data):
        assert text_tokens(learner, examples, index) == tokenizer(row.values["text"], add_special_tokens=False)["input_ids"]
    frame = tokenizer("")["input_ids"]
    for index in range(len(examples)):
        window = examples.inputs["input_ids"][index].tolist()
        assert window[: len(frame) // 2] + window[len(window) - len(frame) // 2 :] == frame
    assert examples.cut == {"read in consecutive windows, nothing is lost": 2}
    assert examples.weights.tolist() == [length - len(frame) for length in examples.lengths]


def test_each_row_is_encoded_for_itself(tokenizer: Any) -> None:
    learner, data = bound(tokenizer, whole_words=True), rows(LONG, SHORT, "late", LONG)
    whole, parts = learner.encode(data), [learner.encode(data[:1]), learner.encode(data[1:])]
    joined = Encoded.joined(parts, [1, 3])
    assert joined.inputs["input_ids"].values.tolist() == whole.inputs["input_ids"].values.tolist()
    assert joined.targets["words"].values.tolist() == whole.targets["words"].values.tolist()  # type: ignore[union-attr]
    assert joined.rows.tolist() == whole.rows.tolist() and joined.cut == whole.cut


def test_a_window_of_unknown_characters_teaches_nothing_and_is_left_out(filler: Filler) -> None:
    examples = filler.encode(rows("late " * 30 + "字 " * 40, "字 字", SHORT))
    assert examples.rows.tolist() == [0, 1, 2] and examples.weights.tolist() == [30, 0, 5]
    batch = filler.collate(examples, [1, 2], KEY)
    assert (batch.targets["labels"][0] != IGNORED).sum() == 0 and batch.weight == 1


def test_words(tokenizer: Any) -> None:
    """Tokens of one word share its number, those of two never do, and special tokens have none."""
    text = "Where is wonderful Zoë's parcel-number 123?\nIt was  broken, and late."
    learner = bound(tokenizer, whole_words=True)
    encoding = tokenizer(text).encodings[0]
    numbers = learner.words(encoding, text)
    words: dict[int, set[int]] = {}
    for number, token, (start, end) in zip(numbers, encoding.ids, encoding.offsets, strict=True):
        assert (number < 0) == (token in learner.special)
        if number >= 0:
            words.setdefault(number, set()).update(place for place in range(start, end) if not text[place].isspace())
    spelled = ["".join(text[place] for place in sorted(places)) for places in words.values()]
    for word in ("Where", "is", "wonderful", "It", "was", "late"):
        assert any(found.startswith(word) for found in spelled)
    assert "".join(spelled) == "".join(text.split())
    assert not any(a + b in found for found in spelled for a, b in [("Where", "is"), ("was", "broken"), ("and", "late")])
    assert len(set(numbers)) < len(encoding.ids), "some words have several tokens"
    singles = bound(tokenizer).words(encoding, text)
    assert len({number for number in singles if number >= 0}) == sum(number >= 0 for number in singles)


# What is hidden


def draws(learner: Filler, examples: Encoded, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [learner.hidden(examples, 0, (1, step)) for step in range(number)]


def test_so_many_are_hidden_and_at_least_one(filler: Filler) -> None:
    examples = filler.encode(rows(LONG, "late", SHORT))
    for index, tokens in enumerate(examples.weights):
        expected = max(1, round(0.15 * tokens))
        for step in range(5):
            assert (filler.hidden(examples, index, (0, step))[1] != IGNORED).sum() == expected
    half = replace(filler, task=filler.task.model_copy(update={"mask_share": 0.5}))
    assert (half.hidden(examples, 0, KEY)[1] != IGNORED).sum() == 15


def test_hidden_tokens_become_mask_another_or_stay(filler: Filler) -> None:
    """80, 10 and 10 percent (Devlin et al. 2019); what is not hidden stays, and special tokens are never hidden nor put in."""
    examples = filler.encode(rows(LONG))
    ids = np.array(examples.inputs["input_ids"][0])
    masked = same = other = total = 0
    for read, labels in draws(filler, examples, 2000):
        hidden = labels != IGNORED
        assert (read[~hidden] == ids[~hidden]).all() and (labels[hidden] == ids[hidden]).all()
        assert not set(ids[hidden].tolist()) & filler.special
        masked += (read[hidden] == filler.tokenizer.mask_token_id).sum()
        same += (read[hidden] == ids[hidden]).sum()
        other += (~np.isin(read[hidden], [filler.tokenizer.mask_token_id]) & (read[hidden] != ids[hidden])).sum()
        assert not (set(read[hidden].tolist()) & filler.special) - {filler.tokenizer.mask_token_id}
        total += hidden.sum()
    assert masked / total == pytest.approx(0.8, abs=0.02)
    assert other / total == pytest.approx(0.1, abs=0.015) and same / total == pytest.approx(0.1, abs=0.015)


def test_every_token_is_hidden_equally_often(filler: Filler) -> None:
    examples = filler.encode(rows(LONG))
    counts = np.sum([labels != IGNORED for _, labels in draws(filler, examples, 2000)], axis=0)
    assert counts[0] == counts[-1] == 0
    assert counts[1:-1].min() > 2000 * 4 / 30 * 0.75 and counts[1:-1].max() < 2000 * 4 / 30 * 1.3


def test_whole_words_are_hidden_whole(tokenizer: Any) -> None:
    learner = bound(tokenizer, whole_words=True, mask_share=0.3)
    examples = learner.encode(rows(LONG))
    words = np.array(examples.targets["words"][0])
    several = 0
    for _, labels in draws(learner, examples, 30):
        hidden = set(words[labels != IGNORED].tolist())
        assert -1 not in hidden and len(hidden) == round(0.3 * len(set(words[words >= 0].tolist())))
        assert ((labels != IGNORED) == np.isin(words, list(hidden))).all()
        several += (labels != IGNORED).sum() - len(hidden)
    assert several > 0


def test_draws_depend_on_key_and_example_alone(filler: Filler) -> None:
    examples = filler.encode(rows(LONG, SHORT, LONG[9:]))
    together, alone = filler.collate(examples, [4, 0, 2], KEY), filler.collate(examples, [2], KEY)
    length = int(examples.lengths[2])
    assert together.inputs["input_ids"][2, :length].equal(alone.inputs["input_ids"][0])
    assert together.targets["labels"][2, :length].equal(alone.targets["labels"][0])
    assert not filler.collate(examples, [2], (3, 8)).targets["labels"].equal(alone.targets["labels"])
    assert not filler.collate(examples, [0], KEY).targets["labels"].equal(alone.targets["labels"]), "examples differ"


def test_batches(filler: Filler) -> None:
    examples = filler.encode(rows(LONG, SHORT))
    chosen = [len(examples) - 1, 0]
    batch = filler.collate(examples, chosen, KEY)
    assert batch.weight == float((batch.targets["labels"] != IGNORED).sum()) == 1 + round(0.15 * 30)
    assert batch.tokens == int(batch.inputs["attention_mask"].sum()) == examples.lengths[chosen].sum()
    assert batch.inputs["input_ids"].shape == batch.targets["labels"].shape == (2, 32)
    assert batch.inputs["input_ids"][0, 8:].tolist() == [filler.tokenizer.pad_token_id] * 24
    assert (batch.targets["labels"][0, 8:] == IGNORED).all() and (batch.inputs["token_type_ids"] == 0).all()


def test_the_loss_is_that_of_transformers_own_head(filler: Filler, bert: Any) -> None:
    examples = filler.encode(rows(LONG, SHORT))
    batch = filler.collate(examples, list(range(len(examples))), KEY)
    with torch.no_grad():
        expected = bert(**batch.inputs, labels=batch.targets["labels"]).loss.item()
        losses = filler.losses(bert, batch)
    assert losses.shape == (len(examples),) and (losses > 0).all()
    assert losses.sum().item() / batch.weight == pytest.approx(expected, rel=1e-6)


# Evaluation


def test_evaluation(filler: Filler, bert: Any) -> None:
    data = rows(LONG, SHORT, "late, late, late")
    examples = filler.encode(data)
    found = filler.evaluate(engine(bert, filler), examples, data)
    nats, right, hidden = (np.zeros(3) for _ in range(3))
    for index, row in enumerate(examples.rows):
        batch = filler.collate(examples, [index], (0,))
        with torch.no_grad():
            logits = bert(**batch.inputs).logits[0].double()
        for place, label in enumerate(batch.targets["labels"][0].tolist()):
            if label != IGNORED:
                nats[row] -= logits[place].log_softmax(-1)[label].item()
                right[row] += logits[place].argmax().item() == label
                hidden[row] += 1
    assert found.metrics["loss"] == pytest.approx(nats.sum() / hidden.sum(), rel=1e-5)
    assert found.metrics["perplexity"] == pytest.approx(math.exp(nats.sum() / hidden.sum()), rel=1e-4)
    assert found.metrics["masked_accuracy"] == pytest.approx(right.sum() / hidden.sum())
    assert set(found.metrics) == set(filler.task.metrics)
    assert [record["hidden"] for record in found.predictions] == hidden.tolist()
    assert [record["right"] for record in found.predictions] == right.tolist()
    assert [record["loss"] for record in found.predictions] == pytest.approx((nats / hidden).tolist(), rel=1e-5)
    assert [(record["row"], record["file"]) for record in found.predictions] == [(1, "a.jsonl"), (2, "a.jsonl"), (3, "a.jsonl")]
    again = filler.evaluate(engine(bert, filler), examples, data)
    assert again.metrics == found.metrics and again.sections == found.sections, "the same tokens are hidden each time"


def test_guesses_are_shown_in_their_context(filler: Filler, bert: Any) -> None:
    data = rows(SHORT, *[LONG] * 5)
    examples = filler.encode(data)
    table = filler.evaluate(engine(bert, filler), examples, data).sections[0]
    assert table.title == "Filled" and len(table.rows) == SHOWN  # type: ignore[union-attr]
    entries = [dict(zip(table.columns, entry, strict=True)) for entry in table.rows]  # type: ignore[union-attr]
    assert [entry["row"] for entry in entries] == sorted(entry["row"] for entry in entries)
    assert {entry["row"] for entry in entries} == {1, 2, 3, 4, 5, 6}, "they are spread over the rows"
    first = entries[0]
    batch = filler.collate(examples, [0], (0,))
    (place,) = np.flatnonzero(batch.targets["labels"][0] != IGNORED)
    ids = examples.inputs["input_ids"][0].tolist()
    with torch.no_grad():
        chances = bert(**batch.inputs).logits[0, place].softmax(-1)
    assert first["row"] == 1 and first["truth"] == filler.tokenizer.decode([ids[place]])
    assert first["guess"] == filler.tokenizer.decode([int(chances.argmax())])
    assert first["probability"] == pytest.approx(chances.max().item(), rel=1e-4)
    assert first["probability of truth"] == pytest.approx(chances[ids[place]].item(), rel=1e-4)
    assert filler.tokenizer(first["text"].replace(BLANK, first["truth"]))["input_ids"] == ids
    for entry in entries:
        assert entry["text"].count(BLANK) == 1 and "[CLS]" not in entry["text"] and "[SEP]" not in entry["text"]
        assert len(entry["text"].split()) <= 2 * AROUND + 1


def test_the_view_shows_text_and_what_is_read_instead(filler: Filler) -> None:
    examples = filler.encode(rows(LONG))
    (strip,) = filler.view(examples, 1).strips
    read, labels = filler.hidden(examples, 1, (0,))
    assert list(strip.ids) == examples.inputs["input_ids"][1].tolist()
    assert list(strip.supervised) == (labels != IGNORED).tolist() and sum(strip.supervised) == 4
    assert [note for note in strip.notes if note] == [filler.tokenizer.decode([int(token)]) for token in read[labels != IGNORED]]


# Blanks to be filled


def test_blanks_are_filled_each_by_itself(filler: Filler, bert: Any) -> None:
    texts = ["My [MASK] is late.", "The <mask> was [MASK], and late", "[MASK]"]
    found = filler.predict(engine(bert, filler), rows(*texts))
    assert [len(one["fills"]) for one in found] == [1, 2, 1]
    for text, one in zip(texts, found, strict=True):
        inputs = filler.tokenizer(text.replace("<mask>", "[MASK]"), return_tensors="pt")
        with torch.no_grad():
            chances = bert(**inputs).logits[0].softmax(-1)
        places = (inputs["input_ids"][0] == filler.tokenizer.mask_token_id).nonzero()[:, 0]
        for place, fills in zip(places, one["fills"], strict=True):
            best = chances[place].topk(5)
            assert [fill["token"] for fill in fills] == [filler.tokenizer.decode([int(token)]) for token in best.indices]
            assert [fill["score"] for fill in fills] == pytest.approx(best.values.tolist(), rel=1e-4)
            inputs["input_ids"][0, place] = best.indices[0]
        assert one["text"] == filler.tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=True)


def test_a_blank_of_ones_own(bert: Any, wordpiece: Any) -> None:
    learner = bound(wordpiece, mask="___")
    one, other = learner.predict(engine(bert, learner), rows("my ___ is late", "my [MASK] is late"))
    assert one == other and len(one["fills"]) == 1


def test_texts_too_long_to_be_filled_are_named(filler: Filler, bert: Any) -> None:
    data = rows("My [MASK] is late", LONG + " [MASK]")
    with pytest.raises(DataError) as caught:
        filler.predict(engine(bert, filler), data)
    assert "1 text longer than the 32 tokens that the model reads at once" in str(caught.value)
    assert "a.jsonl row 2 (line 2): " in str(caught.value) and "row 1" not in str(caught.value)
