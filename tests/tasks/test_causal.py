"""What the tasks of causal language models share: which token foretells which, sums over rows, texts written after prompts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.core.evaluation import Samples
from burnish.core.generation import Generation
from burnish.core.protocols import IGNORED, Row, Written
from burnish.data.encode import Encoded
from burnish.tasks import causal

IDS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
MASKS = [[False, False, True, True], [True, True], [True, False, True]]
PAD = 3


@pytest.fixture
def examples() -> Encoded:
    return causal.encoded(IDS, MASKS, [0, 0, 1], {})


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def test_a_position_is_compared_with_the_token_after_it(examples: Encoded) -> None:
    """An example's first token is never supervised, whatever its mask says, for nothing stands before it."""
    batch = causal.collate(examples, [0, 1, 2], PAD)
    assert batch.inputs["input_ids"].tolist() == [[5, 6, 7, 8], [9, 10, PAD, PAD], [11, 12, 13, PAD]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    off = IGNORED
    assert batch.targets["labels"].tolist() == [[off, 7, 8, off], [10, off, off, off], [off, 13, off, off]]
    assert examples.weights.tolist() == [2, 1, 1] and batch.weight == 4 and batch.tokens == 9
    assert list(batch.examples) == [0, 1, 2]


def test_an_end_that_is_also_padding_is_learned() -> None:
    examples = causal.encoded([[5, PAD], [5, 6, 7, PAD]], [[True] * 2, [True] * 4], [0, 1], {})
    batch = causal.collate(examples, [0, 1], PAD)
    assert batch.targets["labels"].tolist() == [[PAD, IGNORED, IGNORED, IGNORED], [6, 7, PAD, IGNORED]]
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [2, 4]


def test_the_loss_is_that_of_transformers_own_head(examples: Encoded, llama: Any) -> None:
    batch = causal.collate(examples, [0, 1, 2], PAD)
    labels = torch.full((3, 4), IGNORED)
    for row, (ids, mask) in enumerate(zip(IDS, MASKS, strict=True)):
        labels[row, : len(ids)] = torch.tensor([token if learned else IGNORED for token, learned in zip(ids, mask, strict=True)])
    with torch.no_grad():
        expected = llama(**batch.inputs, labels=labels).loss.item()
        losses, outputs = causal.losses(llama, batch), causal.outputs(llama, batch)
        alone = causal.losses(llama, causal.collate(examples, [1], PAD))
    assert losses.sum().item() / batch.weight == pytest.approx(expected, rel=1e-6)
    assert outputs[:, 0].equal(losses) and outputs[:, 1].tolist() == [2, 1, 1]
    assert alone.item() == pytest.approx(losses[1].item(), rel=1e-5), "padding changes nothing"


def test_sums_of_rows_are_those_of_their_examples(examples: Encoded) -> None:
    rows = [Row({}, "a.csv", number) for number in (1, 2)]
    found = [np.array(values, dtype=np.float32) for values in ([2, 2, 1], [4, 1, 0], [3, 1, 5])]
    sums = causal.by_row(found, examples, rows)
    assert sums.tolist() == [[6, 3, 1], [3, 1, 5]]
    assert causal.perplexities(sums) == {"loss": 9 / 4, "perplexity": pytest.approx(math.exp(9 / 4))}


def test_the_view_marks_what_is_foretold(examples: Encoded) -> None:
    views = [causal.view(examples, index).strips[0] for index in range(3)]
    assert [list(view.ids) for view in views] == IDS
    assert [list(view.supervised) for view in views] == [[False, False, True, True], [False, True], [False, False, True]]


class Scripted:
    """A model that writes what it is told to."""

    def __init__(self, *written: Written) -> None:
        self.written, self.asked = list(written), []

    def outputs(self, examples: Any) -> list[np.ndarray]:
        raise AssertionError("only texts are asked for")

    def generate(self, prompts: Any, generation: Any) -> list[Written]:
        self.asked = list(prompts)
        return self.written


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_llama)


def test_written_texts_are_shown_and_measured(tokenizer: Any) -> None:
    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    model = Scripted(Written(ids(" late late late late late"), False), Written(ids(" is here"), True))
    rows = [Row({}, "a.csv", number) for number in (4, 9)]
    prompts = [ids("The parcel is"), ids("My lamp")]
    scores, sections, texts = causal.answered(model, tokenizer, Generation(max_new_tokens=7), prompts, rows, ["in Leeds", "is here"])
    assert model.asked == prompts and texts == ["late late late late late", "is here"]
    assert scores["written_ended"] == 0.5 and scores["written_words"] == 3.5
    assert scores["written_repeated_4grams"] == pytest.approx(0.5)
    assert scores["written_rougeL"] == pytest.approx(0.5), "the second is right, the first shares no word with its reference"
    (section,) = sections
    assert isinstance(section, Samples) and section.note == "1 of 2 ended by themselves within 7 tokens."
    assert [(one.row, one.prompt, one.answer, one.reference, one.ended) for one in section.samples] == [
        (4, "The parcel is", "late late late late late", "in Leeds", False),
        (9, "My lamp", "is here", "is here", True),
    ]


def test_where_nothing_is_to_be_written_nothing_is_measured(tokenizer: Any) -> None:
    assert causal.answered(Scripted(), tokenizer, Generation(samples=0), [], [], []) == ({}, [], [])


def test_settings_that_a_model_keeps_can_be_saved(llama: Any, tmp_path: Path) -> None:
    """Chat models come with a temperature, which transformers refuses to save beside greedy choice."""
    for name, value in {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 20,
        "length_penalty": 2.0,
        "eos_token_id": [2, 9],
    }.items():
        setattr(llama.generation_config, name, value)
    for generation in (Generation(max_new_tokens=5), Generation(temperature=0.7, top_p=0.8), Generation(beams=3)):
        for name, value in causal.saved(generation, 2).items():
            setattr(llama.generation_config, name, value)
        llama.save_pretrained(tmp_path)
        kept = type(llama.generation_config).from_pretrained(tmp_path)
        assert kept.do_sample == (generation.temperature > 0) and kept.eos_token_id == 2
        assert (kept.temperature, kept.top_p) == ((0.7, 0.8) if generation.temperature else (None, None))
        assert kept.max_new_tokens == generation.max_new_tokens and kept.num_beams == generation.beams
