"""Causal language modeling: beginnings and ends, windows in which every token is foretold once, bits per byte, continuations."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.core.errors import DataError
from burnish.core.evaluation import Samples
from burnish.core.generation import Generation
from burnish.core.protocols import IGNORED, Row, Written
from burnish.data.encode import Encoded
from burnish.engine.inference import Engine
from burnish.engine.runtime import Runtime
from burnish.tasks.continue_ import Continue, Continuer, beginning, windows

LONG = " ".join(f"The parcel number {number} is late – said Zoë." for number in range(12))
SHORT = "The kettle is lovely."
Tokens = Callable[..., Any]
BRIEF = Generation(samples=2, max_new_tokens=6)


def rows(*texts: Any) -> list[Row]:
    return [Row({"text": text}, "a.jsonl", number, number) for number, text in enumerate(texts, start=1)]


@pytest.fixture(scope="module")
def tokens(tiny_llama: Path) -> Tokens:
    """Makes tokenizers of byte-level pieces, which put nothing around a text and read 32 tokens at once."""
    from transformers import AutoTokenizer

    def make(**options: Any) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
        for name, value in {"model_max_length": 32, **options}.items():
            setattr(tokenizer, name, value)
        return tokenizer

    return make


ONE_FOR_ALL = {"bos_token": "</s>", "pad_token": "</s>"}
"""As GPT-2 has it: one token is beginning, end and padding, and none is put in front of a text."""


def bound(tokenizer: Any, **settings: Any) -> Continuer:
    return Continue(**{"generation": BRIEF, **settings}).bind([], [], tokenizer)


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture
def learner(tokens: Tokens) -> Continuer:
    return bound(tokens())


def engine(model: Any, learner: Continuer) -> Engine:
    return Engine(model, learner, Runtime("cpu"))


# Rows and tokenizers


def test_rows_without_text_and_the_column_to_take() -> None:
    assert "is empty" in str(Continue().fault(rows(" ")[0], True))
    assert "holds dict" in str(Continue().fault(rows({})[0], False))
    assert Continue().fault(rows(SHORT)[0], True) is Continue().fault(rows(12)[0], False) is None
    assert Continue.guess([Row({"id": "7", "story": SHORT}, "a.csv", 1)]).text == "story"
    assert Continue(text="story").columns(True) == Continue(text="story").columns(False) == ["story"]


def test_a_tokenizer_with_a_beginning_of_its_own_puts_it_in_front_from_now_on(tokens: Tokens, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = tokens()
    assert beginning(tokenizer) == []
    learner = bound(tokenizer)
    assert learner.beginning == beginning(tokenizer) == [tokenizer.bos_token_id]
    tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved(SHORT)["input_ids"] == tokenizer(SHORT)["input_ids"] == learner.encode(rows(SHORT)).inputs["input_ids"][0].tolist()[:-1]
    assert bound(saved).beginning == [tokenizer.bos_token_id], "never twice"


def test_other_tokenizers_stay_as_they_are(tokens: Tokens) -> None:
    marked = tokens()
    marked.chat_template = "{% for message in messages %}<s>{{ message.role }}{% endfor %}"
    for tokenizer in (tokens(**ONE_FOR_ALL), marked):
        before = tokenizer(SHORT)["input_ids"]
        assert bound(tokenizer).beginning == [] and tokenizer(SHORT)["input_ids"] == before
    ended = tokens()
    ended.add_bos_token = ended.add_eos_token = True
    assert ended("a")["input_ids"][-1] == ended.eos_token_id
    assert bound(ended).beginning == [ended.bos_token_id]


def test_tokenizers_that_will_not_do(tokens: Tokens) -> None:
    from transformers import PreTrainedTokenizerFast

    endless = PreTrainedTokenizerFast(tokenizer_object=tokens().backend_tokenizer, pad_token="<pad>", model_max_length=32)
    with pytest.raises(DataError, match=r"no end token.*task\.end=false"):
        bound(endless)
    learner = bound(endless, end=False)
    assert learner.encode(rows(SHORT)).inputs["input_ids"][0].tolist() == endless(SHORT)["input_ids"]
    assert learner.generation["eos_token_id"] is None


def test_beginning_and_end_stand_once(learner: Continuer, tokens: Tokens) -> None:
    tokenizer = learner.tokenizer
    first, last = tokenizer.bos_token_id, tokenizer.eos_token_id
    plain, written = (learner.encode(rows(text)).inputs["input_ids"][0].tolist() for text in (SHORT, f"<s>{SHORT}</s>"))
    assert plain == written == [first, *tokenizer(SHORT, add_special_tokens=False)["input_ids"], last]
    assert bound(tokens(), end=False).encode(rows(SHORT)).inputs["input_ids"][0].tolist() == plain[:-1]


# Windows


@given(length=st.integers(1, 400), limit=st.integers(3, 60), overlap=st.integers(0, 59))
def test_every_token_but_the_first_is_foretold_once(length: int, limit: int, overlap: int) -> None:
    overlap = min(overlap, limit - 1)
    foretold: list[int] = []
    for part, context in windows(length, limit, overlap):
        covered = range(length)[part]
        assert 1 <= len(covered) <= limit and 1 <= context <= max(1, overlap)
        assert len(covered) > context or length == 1
        assert not foretold or covered[context] - covered[0] == max(1, overlap)
        foretold += covered[context:]
    assert foretold == list(range(1, length))


@pytest.mark.parametrize("overlap", [0, 1, 5, 31])
@pytest.mark.parametrize("marks", [{}, ONE_FOR_ALL])
def test_long_documents_are_read_in_windows_that_lose_nothing(tokens: Tokens, marks: dict[str, str], overlap: int) -> None:
    tokenizer = tokens(**marks)
    learner = bound(tokenizer, overlap=overlap)
    data = rows(LONG, SHORT, LONG[5:])
    examples = learner.encode(data)
    assert examples.lengths.max() == 32 and examples.cut == {"read in consecutive windows, nothing is lost": 2}
    batch = learner.collate(examples, range(len(examples)), (0,))
    for row, text in enumerate(row.values["text"] for row in data):
        expected = [*learner.beginning, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        labels = [label for index in np.flatnonzero(examples.rows == row) for label in batch.targets["labels"][index].tolist()]
        assert [label for label in labels if label != IGNORED] == expected[1:]
        assert examples.weights[examples.rows == row].sum() == len(expected) - 1
    assert batch.weight == examples.weights.sum()


def test_windows_begin_with_the_context_they_say(tokens: Tokens) -> None:
    learner = bound(tokens(), overlap=8)
    examples = learner.encode(rows(LONG))
    first, second = (examples.inputs["input_ids"][index].tolist() for index in (0, 1))
    assert second[:8] == first[-8:]
    assert list(learner.view(examples, 1).strips[0].supervised) == [False] * 8 + [True] * 24
    assert list(learner.view(examples, 0).strips[0].supervised) == [False] + [True] * 31


def test_an_overlap_needs_room(tokens: Tokens) -> None:
    with pytest.raises(DataError, match=r"task\.overlap`: 32 tokens of context leave nothing to learn in windows of 32"):
        bound(tokens(), overlap=32).encode(rows(LONG))


def test_each_row_is_encoded_for_itself(learner: Continuer) -> None:
    data = rows(LONG, SHORT, "late", LONG)
    whole, parts = learner.encode(data), [learner.encode(data[:1]), learner.encode(data[1:])]
    joined = Encoded.joined(parts, [1, 3])
    for name, column in {**whole.inputs, "labels": whole.targets["labels"]}.items():
        assert column.values.tolist() == {**joined.inputs, **joined.targets}[name].values.tolist()  # type: ignore[union-attr]
    assert joined.rows.tolist() == whole.rows.tolist() and joined.cut == whole.cut
    assert joined.targets["bytes"].tolist() == whole.targets["bytes"].tolist()  # type: ignore[union-attr]


# Losses and scores


def by_hand(model: Any, learner: Continuer, text: str) -> list[float]:
    """Nats of every token of a short document but its first, from transformers' logits."""
    ids = torch.tensor(
        [[*learner.beginning, *learner.tokenizer(text, add_special_tokens=False)["input_ids"], learner.tokenizer.eos_token_id]]
    )
    with torch.no_grad():
        chances = model(input_ids=ids).logits[0].double().log_softmax(-1)
    return [-chances[place - 1, ids[0, place]].item() for place in range(1, ids.shape[1])]


@pytest.mark.parametrize("marks", [{}, ONE_FOR_ALL])
def test_evaluation(tokens: Tokens, marks: dict[str, str], llama: Any) -> None:
    learner = bound(tokens(**marks))
    texts = [SHORT, "Zoë is late", "late – late"]
    data = rows(*texts)
    found = learner.evaluate(engine(llama, learner), learner.encode(data), data)
    nats = [by_hand(llama, learner, text) for text in texts]
    loss = sum(map(sum, nats)) / sum(map(len, nats))
    assert found.metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert found.metrics["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    # Without a beginning, nothing foretells the first token: its bytes do not count either. Ends are no text.
    lost = [0 if learner.beginning else learner.tokenizer(text, add_special_tokens=False).token_to_chars(0).end for text in texts]
    sizes = [len(text[start:].encode()) for text, start in zip(texts, lost, strict=True)]
    bits = [sum(each[:-1]) / math.log(2) / size for each, size in zip(nats, sizes, strict=True)]
    assert found.metrics["bits_per_byte"] == pytest.approx(np.dot(bits, sizes) / sum(sizes), rel=1e-5)
    assert [record["bits_per_byte"] for record in found.predictions] == pytest.approx(bits, rel=1e-5)
    assert [record["tokens"] for record in found.predictions] == [len(each) for each in nats]
    assert [record["loss"] for record in found.predictions] == pytest.approx([np.mean(each) for each in nats], rel=1e-5)
    assert set(learner.task.metrics) < set(found.metrics)


def test_windows_change_what_is_known_and_nothing_else(llama: Any, tokens: Tokens) -> None:
    """Windows change what stands before a token, never how many tokens and bytes count."""
    data = rows(SHORT + " " + SHORT + " The candle is great")
    found = {}
    for limit, overlap in ((60, 0), (16, 0), (16, 15)):
        learner = bound(tokens(model_max_length=limit), overlap=overlap, generation=Generation(samples=0))
        examples = learner.encode(data)
        found[limit, overlap] = learner.evaluate(engine(llama, learner), examples, data)
    records = [each.predictions[0] for each in found.values()]
    assert len({record["tokens"] for record in records}) == 1 and found[60, 0].predictions[0]["tokens"] > 30
    whole, apart, sliding = (each.metrics["bits_per_byte"] for each in found.values())
    assert whole != pytest.approx(apart, rel=1e-3) and whole != pytest.approx(sliding, rel=1e-3)
    assert "written_ended" not in found[60, 0].metrics and found[60, 0].sections == []


def test_texts_are_written_after_the_beginnings_of_rows(llama: Any, tokens: Tokens) -> None:
    learner = bound(tokens(), prompt_tokens=4)
    data = rows(LONG, "late", SHORT)
    found = learner.evaluate(engine(llama, learner), learner.encode(data), data)
    (section,) = found.sections
    assert isinstance(section, Samples) and [one.row for one in section.samples] == [1, 2], "as many rows as generation.samples says"
    ids = learner.tokenizer(LONG, add_special_tokens=False)["input_ids"]
    first = section.samples[0]
    assert first.prompt == learner.tokenizer.decode([*learner.beginning, *ids[:4]])
    assert first.reference == learner.tokenizer.decode(ids[4:10]).strip()
    with torch.no_grad():
        written = llama.generate(torch.tensor([[*learner.beginning, *ids[:4]]]), max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert first.answer == learner.tokenizer.decode(written[0, 5:], skip_special_tokens=True).strip()
    assert found.predictions[0]["continuation"] == first.answer and "continuation" not in found.predictions[2]
    assert {"written_ended", "written_rougeL"} < set(found.metrics)


# Continuations


class Asked:
    """A model that writes always the same, and remembers what it was asked."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.prompts = ids, list[list[int]]()

    def outputs(self, examples: Any) -> list[np.ndarray]:
        raise AssertionError("nothing is scored")

    def generate(self, prompts: Any, generation: Any) -> list[Written]:
        self.prompts = list(prompts)
        return [Written(self.ids, True) for _ in prompts]


@pytest.mark.parametrize("kind", ["byte-level", "unigram"])
def test_a_text_and_its_continuation_are_a_text(kind: str, tokens: Tokens) -> None:
    from burnish.data import sources
    from burnish.models import vocabulary

    texts = [row.values["text"] for row in sources.read("bundled:messages-train")]
    tokenizer = tokens() if kind == "byte-level" else vocabulary.train(texts, "unigram", 500, max_length=32)
    learner = bound(tokenizer)
    model = Asked(tokenizer(" late, and sad", add_special_tokens=False)["input_ids"])
    assert learner.predict(model, rows("The parcel is", "A")) == [{"continuation": " late, and sad", "ended": True}] * 2
    assert model.prompts == [tokenizer(text)["input_ids"] for text in ("The parcel is", "A")]


def test_of_a_long_prompt_the_end_is_read(learner: Continuer) -> None:
    model = Asked([])
    learner.predict(model, rows(LONG))
    ids = learner.tokenizer(LONG, add_special_tokens=False)["input_ids"]
    assert model.prompts == [ids[-26:]], "32 tokens less the 6 that are to be written"


def test_a_text_without_tokens_is_named(tokens: Tokens) -> None:
    """Some tokenizers drop characters that cannot be seen; with a beginning in front there still is something to go on from."""
    from tokenizers import normalizers

    found = []
    for marks in (ONE_FOR_ALL, {}):
        tokenizer = tokens(**marks)
        tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
        learner, model = bound(tokenizer), Asked([])
        found.append((learner, model))
    with pytest.raises(DataError, match=r"(?s)1 text of which the tokenizer leaves nothing.*a\.jsonl row 2"):
        found[0][0].predict(found[0][1], rows("late", "\u200b"))
    found[1][0].predict(found[1][1], rows("\u200b"))
    assert found[1][1].prompts == [found[1][0].beginning]
