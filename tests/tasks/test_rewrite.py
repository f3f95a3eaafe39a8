"""The rewriting task: what the encoder reads, what the decoder reads and learns, and how documents of any length are written about."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.core.errors import DataError, ModelError
from burnish.core.evaluation import Samples
from burnish.core.protocols import IGNORED, Batch, Row, Written
from burnish.metrics.text import TEXT
from burnish.tasks.rewrite import LEAST_ROOM, Rewrite, Rewriter, moved_right

KEY = (0, 0)
PAIRS = [
    ("two kettles to Leeds, please", "kettle 2; Leeds"),
    ("a lamp", "lamp 1"),
    ("could I have three throws and the candle sent to Porto?", "throw 3; candle 1; Porto"),
]
SENTENCES = [
    f"Number {number} is the {thing}." for number, thing in enumerate(["kettle", "lamp", "throw", "candle", "planter", "clock"] * 4)
]
DOCUMENT = " ".join(SENTENCES)


def row(number: int = 1, **values: Any) -> Row:
    return Row(values, "a.jsonl", number, number)


ROWS = [row(number, source=source, target=target) for number, (source, target) in enumerate(PAIRS, start=1)]


def opened(folder: Path, length: int = 64) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = length
    return tokenizer


@pytest.fixture
def tokenizer(tiny_t5: Path) -> Any:
    """One that adds no token by itself, as long as 64."""
    return opened(tiny_t5)


@pytest.fixture
def framed(tiny_t5: Path) -> Callable[..., Any]:
    """The same, made to put tokens around every text, such as `<s> $A </s>`."""

    def make(frame: str, length: int = 64) -> Any:
        from tokenizers.processors import TemplateProcessing

        made = opened(tiny_t5, length)
        special = [(name, made.convert_tokens_to_ids(name)) for name in ("<s>", "</s>", "<mask>") if name in frame]
        made.backend_tokenizer.post_processor = TemplateProcessing(single=frame, special_tokens=special)
        return made

    return make


def learner(tokenizer: Any, **settings: Any) -> Rewriter:
    return Rewrite(**settings).bind([], [], tokenizer)


def plain(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


SIZES = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
SIZES |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128, "vocab_size": 400, "dropout": 0.0}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
KINDS = ("t5", "bart", "marian", "mbart", "m2m_100")


def model_of(kind: str, **changes: Any) -> Any:
    """A small model of random weights, large enough that every token that is read matters."""
    import transformers

    torch.manual_seed(0)
    if kind == "t5":
        small = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0, "vocab_size": 400}
    else:
        small = SIZES
    start = {"decoder_start_token_id": 2 if kind in ("bart", "mbart", "m2m_100") else 0}
    config = transformers.AutoConfig.for_model(kind, **{**small, **IDS, **start, **changes})
    made = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


# Which rows can be used


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": "x", "target": ""}, "the text in `target` is empty"),
        ({"source": " \n", "target": "x"}, "the text in `source` is empty"),
        ({"source": None, "target": "x"}, "the text in `source` is missing"),
        ({"source": "x"}, "the text in `target` is missing"),
        ({"source": math.nan, "target": "x"}, "the text in `source` is missing"),
        ({"source": ["x"], "target": "x"}, "`source` holds list where a text is expected"),
        ({"source": "x", "target": True}, "`target` holds bool where a text is expected"),
        ({"source": "half \ud83d", "target": "x"}, "half a character"),
    ],
)
def test_what_is_no_text_is_refused(values: dict[str, Any], words: str) -> None:
    assert words in str(Rewrite().fault(row(**values), True))


def test_rows_to_predict_need_no_target_but_their_query(tokenizer: Any) -> None:
    assert Rewrite().fault(row(source="x"), False) is None
    assert "`query` is missing" in str(Rewrite(query="query").fault(row(source="x", target="y"), True))
    assert Rewrite(query="q").columns(True) == ["source", "q", "target"] and Rewrite(query="q").columns(False) == ["source", "q"]


def test_numbers_are_texts(tokenizer: Any) -> None:
    given = row(source=3.5, target=12)
    assert Rewrite().fault(given, True) is None
    encoded = learner(tokenizer).encode([given])
    assert tokenizer.decode(encoded.inputs["input_ids"][0]) == "3.5" and tokenizer.decode(encoded.targets["labels"][0]) == "12</s>"


def test_a_first_recipe_is_guessed() -> None:
    assert Rewrite.guess([row(request="a", order="b")]) == Rewrite(source="request", target="order")
    assert Rewrite.guess([row(id="7", title="short", body="much longer " * 9)]) == Rewrite(source="body", target="title")
    with pytest.raises(DataError, match="two columns of text are needed"):
        Rewrite.guess([row(text="only", number=4)])


def test_a_tokenizer_without_an_end_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(DataError, match="has no end token"):
        learner(opened(tiny_bert))


# What the model reads and learns


def test_the_source_is_what_the_tokenizer_makes_and_the_target_has_its_end(tokenizer: Any) -> None:
    encoded = learner(tokenizer, prefix="order: ").encode(ROWS)
    for index, (source, target) in enumerate(PAIRS):
        assert encoded.inputs["input_ids"][index].tolist() == tokenizer("order: " + source)["input_ids"]
        assert encoded.targets["labels"][index].tolist() == [*plain(tokenizer, target), tokenizer.eos_token_id]  # type: ignore[index]
    assert encoded.weights.tolist() == [len(plain(tokenizer, target)) + 1 for _, target in PAIRS]
    assert encoded.lengths.tolist() == [len(encoded.inputs["input_ids"][at]) + encoded.weights[at] for at in range(3)]
    assert encoded.rows.tolist() == [0, 1, 2] and encoded.cut == {}


@pytest.mark.parametrize("frame", ["$A </s>", "<s> $A </s>", "<mask> $A </s>", "$A </s> <mask>", "<s> $A"])
def test_ends_that_the_tokenizer_puts_itself_are_not_doubled(framed: Callable[..., Any], frame: str) -> None:
    made = framed(frame)
    encoded = learner(made).encode(ROWS)
    for index, (source, target) in enumerate(PAIRS):
        assert encoded.inputs["input_ids"][index].tolist() == made(source)["input_ids"]
        labels = encoded.targets["labels"][index].tolist()  # type: ignore[index]
        assert labels == made(target)["input_ids"] + ([] if "</s>" in frame else [made.eos_token_id])
        assert labels.count(made.eos_token_id) == 1


@pytest.mark.parametrize(("frame", "first"), [("$A", None), ("$A </s>", None), ("<s> $A </s>", 1), ("$A </s> <mask>", None)])
def test_the_saved_settings_begin_and_end_texts_as_they_were_learned(framed: Callable[..., Any], frame: str, first: int | None) -> None:
    settings = learner(framed(frame), generation={"beams": 4, "max_new_tokens": 9}).generation
    assert settings["forced_bos_token_id"] == first and settings["eos_token_id"] == 2
    assert settings["num_beams"] == 4 and settings["max_new_tokens"] == 9
    for name in ("forced_eos_token_id", "min_length", "no_repeat_ngram_size", "max_length", "temperature", "length_penalty"):
        assert settings[name] is None


def test_a_query_stands_before_the_text(tokenizer: Any) -> None:
    given = [replace(ROWS[0], values={**ROWS[0].values, "ask": "how many?"})]
    encoded = learner(tokenizer, query="ask", prefix="answer: ").encode(given)
    assert tokenizer.decode(encoded.inputs["input_ids"][0]) == "answer: how many?\n" + PAIRS[0][0]


def test_a_text_without_tokens_is_still_read(tokenizer: Any) -> None:
    assert learner(tokenizer).encode([row(source="", target="x")]).inputs["input_ids"][0].tolist() == [tokenizer.eos_token_id]


def test_the_end_of_a_long_target_is_not_learned(tokenizer: Any) -> None:
    whole = [[*plain(tokenizer, target), tokenizer.eos_token_id] for _, target in PAIRS]
    most = len(whole[1])
    encoded = learner(tokenizer, target_length=most).encode(ROWS)
    assert [encoded.targets["labels"][index].tolist() for index in range(3)] == [ids[:most] for ids in whole]  # type: ignore[index]
    assert encoded.cut == {"the end of the target is cut and not learned": 2}, "the shortest fits with its end"
    assert encoded.weights.tolist() == [most] * 3


@pytest.mark.parametrize("frame", ["$A", "<s> $A </s>"])
def test_sources_are_cut_where_that_is_asked_for(framed: Callable[..., Any], frame: str) -> None:
    made = framed(frame, length=20)
    given = [ROWS[1], row(2, source=DOCUMENT, target="things"), row(3, source=DOCUMENT, target="things")]
    encoded = learner(made, long="cut").encode(given)
    whole = made(DOCUMENT)["input_ids"]
    ids = encoded.inputs["input_ids"][1].tolist()
    assert len(ids) == 20 and ids[:19] == whole[:19] and ids[-1] == (2 if "</s>" in frame else whole[19])
    assert encoded.cut == {"the end of the source is cut": 2} and encoded.rows.tolist() == [0, 1, 2]


# Documents longer than the model reads


def summary_row(number: int = 1) -> Row:
    return row(number, source=DOCUMENT, target="Number 1 is the lamp. Number 23 is the clock.", ask="what is what?")


@pytest.mark.parametrize("frame", ["$A", "<s> $A </s>"])
def test_each_chunk_learns_its_share_behind_prefix_and_query(framed: Callable[..., Any], frame: str) -> None:
    made = framed(frame)
    encoded = learner(made, prefix="tell: ", query="ask").encode([summary_row(), summary_row(2)])
    assert encoded.rows.tolist() == [0, 0, 1, 1], "the chunks between know nothing of the target"
    assert encoded.cut == {"read in chunks, nothing is lost": 2}
    first, last = (made.decode(encoded.inputs["input_ids"][index], skip_special_tokens=True) for index in (0, 1))
    assert first.startswith("tell: what is what?\nNumber 0 is the kettle. Number 1 is the lamp.")
    assert last.startswith("tell: what is what?\nNumber ") and last.endswith("Number 23 is the clock.")
    written = [made.decode(encoded.targets["labels"][index], skip_special_tokens=True) for index in (0, 1)]  # type: ignore[index]
    assert written == ["Number 1 is the lamp.", "Number 23 is the clock."]
    assert max(encoded.inputs["input_ids"].lengths) <= 64
    assert all(encoded.targets["labels"][index][-1] == made.eos_token_id for index in range(4))  # type: ignore[index]


def test_a_translation_is_learned_piece_by_piece(tokenizer: Any) -> None:
    given = row(source=DOCUMENT, target=" ".join(["Nummer soundso ist dies oder das."] * len(SENTENCES)))
    encoded = learner(tokenizer, long="join").encode([given])
    assert len(encoded) >= 3 and encoded.rows.tolist() == [0] * len(encoded)
    texts = [
        [tokenizer.decode(column[index], skip_special_tokens=True) for index in range(len(encoded))]
        for column in (encoded.inputs["input_ids"], encoded.targets["labels"])  # type: ignore[index]
    ]
    assert "".join(texts[0]) == DOCUMENT and " ".join(texts[1]) == given.values["target"]


@pytest.mark.parametrize("ask", ["why? " * 40, "why? " * 15])
def test_a_query_that_leaves_no_room_is_refused(tokenizer: Any, ask: str) -> None:
    taken = len(tokenizer(ask + "\n")["input_ids"])
    given = [row(7, source=DOCUMENT, ask=ask, target="x")]
    tokenizer.model_max_length = taken + LEAST_ROOM - 1
    with pytest.raises(DataError, match=rf"a.jsonl row 7 \(line 7\): what stands before the text takes {taken} of {taken + 15} tokens"):
        learner(tokenizer, query="ask").encode(given)
    tokenizer.model_max_length = taken + LEAST_ROOM
    assert len(learner(tokenizer, query="ask").read(given, [DOCUMENT])[0]) > 10


@dataclass
class Recorder:
    """Writes what `answer` makes of each prompt, and keeps the prompts of each round."""

    tokenizer: Any
    answer: Callable[[str], str]
    rounds: list[list[str]] = field(default_factory=list)
    ended: bool = True

    def generate(self, prompts: Sequence[Sequence[int]], generation: Any) -> list[Written]:
        assert all(len(prompt) <= self.tokenizer.model_max_length for prompt in prompts)
        self.rounds.append([self.tokenizer.decode(list(prompt), skip_special_tokens=True) for prompt in prompts])
        return [Written(plain(self.tokenizer, self.answer(text)), self.ended) for text in self.rounds[-1]]

    def outputs(self, examples: Any) -> list[np.ndarray]:
        return [np.array([2.0 * weight, weight]) for weight in examples.weights]


@pytest.mark.parametrize("frame", ["$A", "<s> $A </s>"])
@pytest.mark.parametrize("long", ["reduce", "join"])
def test_every_character_is_read_exactly_once(framed: Callable[..., Any], frame: str, long: str) -> None:
    made = framed(frame)
    text = DOCUMENT + "\n\n" + "a" * 300 + "\n \n" + "漢字" * 60 + "。 end\n"
    recorder = Recorder(made, lambda prompt: "x")
    given = [ROWS[1], row(2, source=text), ROWS[0]]
    found = learner(made, prefix="tell: ", long=long).predict(recorder, given)
    prompts = recorder.rounds[0]
    assert prompts[0] == "tell: a lamp" and prompts[-1] == "tell: " + PAIRS[0][0]
    assert all(prompt.startswith("tell: ") for prompt in prompts)
    assert "".join(prompt.removeprefix("tell: ") for prompt in prompts[1:-1]) == text
    assert [one["chunks"] for one in found] == [1, len(prompts) - 2, 1] and len(prompts) > 8


def test_what_was_written_is_written_again_until_it_fits(tokenizer: Any) -> None:
    """Each chunk becomes its first three words: the words of the first round are read in a second, and so on."""
    recorder = Recorder(tokenizer, lambda prompt: " ".join(prompt.split()[:3]))
    given = [row(1, source=DOCUMENT * 4), ROWS[1]]
    found = learner(tokenizer).predict(recorder, given)
    assert len(recorder.rounds) >= 3
    assert len(recorder.rounds[0]) == found[0]["chunks"] + 1 and found[1] == {"written": "a lamp", "ended": True, "chunks": 1}
    for before, after in zip(recorder.rounds, recorder.rounds[1:], strict=False):
        written = "\n".join(" ".join(prompt.split()[:3]) for prompt in before[: len(before) - (before is recorder.rounds[0])])
        assert "".join(after) == written, "all of a round's texts, and nothing else, are read in the next"
    assert len(recorder.rounds[-1]) == 1 and found[0]["written"] == "Number 0 is"


@pytest.mark.parametrize("answer", [lambda prompt: prompt, lambda prompt: prompt + " and more", lambda prompt: ""])
def test_rounds_end_when_nothing_is_gained(tokenizer: Any, answer: Callable[[str], str]) -> None:
    recorder = Recorder(tokenizer, answer, ended=False)
    found = learner(tokenizer).predict(recorder, [row(source=DOCUMENT)])
    assert len(recorder.rounds) == 1 and found[0]["chunks"] == len(recorder.rounds[0]) > 3
    assert (
        found[0]["written"] == "\n".join(filter(None, (answer(prompt).strip() for prompt in recorder.rounds[0]))) and not found[0]["ended"]
    )


def test_a_text_has_ended_where_all_its_parts_have(tokenizer: Any) -> None:
    class Breaking(Recorder):
        def generate(self, prompts: Sequence[Sequence[int]], generation: Any) -> list[Written]:
            return [replace(one, ended=place != 1) for place, one in enumerate(super().generate(prompts, generation))]

    found = learner(tokenizer, long="join").predict(Breaking(tokenizer, lambda prompt: "x"), [row(source=DOCUMENT)])
    assert found[0]["chunks"] > 2 and not found[0]["ended"]


def test_what_is_joined_is_never_written_again(tokenizer: Any) -> None:
    text = "\n\n".join(SENTENCES[:9]) + "\n\n" + "ab" * 90
    recorder = Recorder(tokenizer, lambda prompt: prompt.strip().lower().replace("number ", ""))
    found = learner(tokenizer, long="join").predict(recorder, [row(source=text)])
    assert len(recorder.rounds) == 1 and found[0]["chunks"] > 3
    assert found[0]["written"] == text.lower().replace("number ", ""), "paragraphs and whole words stay as they were"


# Batches and losses


def batch_of(rewriter: Rewriter, rows: Sequence[Row] = ROWS) -> Batch:
    return rewriter.collate(rewriter.encode(rows), range(len(rows)), KEY)


def test_a_batch_is_padded_on_the_right(tokenizer: Any) -> None:
    rewriter = learner(tokenizer)
    examples = rewriter.encode(ROWS)
    batch = rewriter.collate(examples, [1, 2], KEY)
    ids, labels = batch.inputs["input_ids"], batch.targets["labels"]
    for place, index in enumerate([1, 2]):
        source, target = examples.inputs["input_ids"][index].tolist(), examples.targets["labels"][index].tolist()  # type: ignore[index]
        assert ids[place].tolist() == source + [tokenizer.pad_token_id] * (ids.shape[1] - len(source))
        assert batch.inputs["attention_mask"][place].tolist() == [1] * len(source) + [0] * (ids.shape[1] - len(source))
        assert labels[place].tolist() == target + [IGNORED] * (labels.shape[1] - len(target))
    assert torch.equal(batch.inputs["decoder_input_ids"], labels.masked_fill(labels == IGNORED, tokenizer.pad_token_id))
    assert batch.weight == examples.weights[[1, 2]].sum() and batch.tokens == examples.lengths[[1, 2]].sum()
    assert batch.slots == ids.numel() + labels.numel() and batch.examples == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_models_own(kind: str, framed: Callable[..., Any]) -> None:
    rewriter = learner(framed("<s> $A </s>" if kind != "t5" else "$A </s>"))
    model, batch = model_of(kind), batch_of(rewriter)
    given = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        losses = rewriter.losses(model, batch)
        expected = model(**given, labels=batch.targets["labels"]).loss
        alone = [rewriter.losses(model, rewriter.collate(rewriter.encode([one]), [0], KEY)) for one in ROWS]
    assert losses.shape == (3,) and (losses.sum() / batch.weight).item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(losses, torch.cat(alone), rtol=1e-4, atol=1e-4)
    outputs = rewriter.outputs(model, batch)
    torch.testing.assert_close(outputs, torch.stack([losses, torch.tensor(rewriter.encode(ROWS).weights).float()], dim=1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_reads_what_the_model_makes_of_labels(kind: str, tokenizer: Any) -> None:
    labels = batch_of(learner(tokenizer)).targets["labels"]
    model = model_of(kind)
    read = moved_right(model, labels)
    assert torch.equal(read[:, 1:], labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, 0))
    if kind == "mbart":
        assert read[:, 0].tolist() == [2, 2, 2], "the last token of a target, which here is its end"
    else:
        assert read[:, 0].tolist() == [model.config.decoder_start_token_id] * 3
    assert (labels == IGNORED).any(), "the labels stay as they were"


def test_an_adapter_reads_the_same(tokenizer: Any) -> None:
    import peft

    rewriter = learner(tokenizer)
    model, batch = model_of("t5"), batch_of(rewriter)
    with torch.no_grad():
        expected = rewriter.losses(model, batch)
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q", "v"]))
        torch.testing.assert_close(rewriter.losses(wrapped.eval(), batch), expected)


def test_a_model_that_cannot_begin_a_text_is_refused(tokenizer: Any) -> None:
    rewriter = learner(tokenizer)
    for kind in ("t5", "bart"):
        model = model_of(kind)
        model.config.decoder_start_token_id = None
        with pytest.raises(ModelError, match="says no `decoder_start_token_id`"):
            rewriter.losses(model, batch_of(rewriter))
    model = model_of("t5")
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match=r"generation_config\.json"):
        rewriter.losses(model, batch_of(rewriter))


def test_texts_longer_than_the_decoder_can_write_are_refused(tokenizer: Any) -> None:
    batch = batch_of(learner(tokenizer))
    bart = model_of("bart", max_position_embeddings=100)
    for settings, words in (
        (
            {"target_length": 101, "generation": {"max_new_tokens": 100}},
            "`task.target_length`: 101 tokens are more than the model can write, 100",
        ),
        ({"target_length": 100, "generation": {"max_new_tokens": 101}}, "`task.generation.max_new_tokens`: 101 tokens"),
    ):
        with pytest.raises(ModelError, match=words):
            learner(tokenizer, **settings).losses(bart, batch)
        learner(tokenizer, **settings).losses(model_of("t5"), batch)
    learner(tokenizer, target_length=100, generation={"max_new_tokens": 100}).losses(bart, batch)


# Evaluation


def test_the_metrics_are_those_of_what_was_written(tokenizer: Any) -> None:
    rewriter = learner(tokenizer)
    answers = {source: target if number != 1 else "a lamp" for number, (source, target) in enumerate(PAIRS)}
    found = rewriter.evaluate(Recorder(tokenizer, answers.__getitem__), rewriter.encode(ROWS), ROWS)
    assert set(rewriter.task.metrics) == set(TEXT) <= set(found.metrics)
    assert found.metrics["exact_match"] == pytest.approx(2 / 3) and found.metrics["loss"] == 2.0 and found.metrics["ended"] == 1.0
    assert 0.6 < found.metrics["rougeL"] < 1
    assert [record["written"] for record in found.predictions] == ["kettle 2; Leeds", "a lamp", "throw 3; candle 1; Porto"]
    assert [(record["row"], record["reference"]) for record in found.predictions] == [
        (n + 1, target) for n, (_, target) in enumerate(PAIRS)
    ]
    section = found.sections[0]
    assert isinstance(section, Samples) and [(one.prompt, one.reference) for one in section.samples] == PAIRS
    assert section.samples[1].answer == "a lamp" and section.note == "3 of 3 ended by themselves within 128 tokens."


def test_the_loss_is_a_mean_over_tokens_and_a_rows_is_that_of_its_chunks(tokenizer: Any) -> None:
    rewriter = learner(tokenizer, generation={"samples": 0})
    given = [ROWS[1], summary_row(2)]
    examples = rewriter.encode(given)
    assert examples.rows.tolist() == [0, 1, 1]

    class Costly(Recorder):
        def outputs(self, examples: Any) -> list[np.ndarray]:
            return [np.array([cost, weight]) for cost, weight in zip([5.0, 1.0, 2.0], examples.weights, strict=True)]

    found = rewriter.evaluate(Costly(tokenizer, str), examples, given)
    assert dict(found.metrics) == {"loss": pytest.approx(8 / examples.weights.sum())} and found.sections == []
    assert found.predictions[1]["loss"] == pytest.approx(3 / examples.weights[1:].sum())
    assert set(rewriter.task.metrics) == {"loss"}


def test_only_as_many_rows_are_written_as_asked_for(tokenizer: Any) -> None:
    rewriter = learner(tokenizer, generation={"samples": 2})
    recorder = Recorder(tokenizer, lambda prompt: "lamp", ended=False)
    found = rewriter.evaluate(recorder, rewriter.encode(ROWS), ROWS)
    assert recorder.rounds == [[source for source, _ in PAIRS[:2]]]
    assert [set(record) >= {"written"} for record in found.predictions] == [True, True, False]
    assert found.metrics["ended"] == 0 and len(found.sections[0].samples) == 2  # type: ignore[union-attr]


def test_a_view_shows_what_is_read_and_what_is_learned(tokenizer: Any) -> None:
    rewriter = learner(tokenizer)
    source, target = rewriter.view(rewriter.encode(ROWS), 2).strips
    assert tokenizer.decode(source.ids) == PAIRS[2][0] and not any(source.supervised)
    assert tokenizer.decode(target.ids) == PAIRS[2][1] + "</s>" and all(target.supervised)
    assert (source.name, target.name) == ("source", "target")
