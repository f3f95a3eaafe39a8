"""Whole runs of the tagging task: what was trained is what transformers opens, and is trained as Trainer trains it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from oracles import by_trainer
from safetensors.torch import load_file, save_file

import burnish
from burnish import build
from burnish import recipe as recipes
from burnish.core.errors import DataError

MakeRecipe = Callable[..., dict[str, Any]]
THINGS = ("lovely candle", "kettle", "wonderful parcel", "shears")
PLACES = ("Ghent", "New Rotterdam", "Porto")
TEXTS = [
    "My lovely candle, from Porto!",
    "New Rotterdam's parcel isn't (yet) here...",
    "The kettle: great. Ghent/Porto",
    "thanks",
    "  Ghent  ",
]


def text_row(number: int) -> dict[str, Any]:
    thing, place = THINGS[number % 4], PLACES[number % 3]
    text = f"Number {number}: the {thing}, sent to {place}." if number % 2 else f"In {place} I am happy with my {thing}!"
    spans = [
        {"start": text.index(name), "end": text.index(name) + len(name), "label": label}
        for name, label in ((thing, "THING"), (place, "PLACE"))
    ]
    return {"text": text, "entities": spans}


def word_row(number: int) -> dict[str, Any]:
    thing, place = THINGS[number % 4].split(), PLACES[number % 3].split()
    tagged = [
        ("the", "O"),
        *zip(thing, ["B-THING", "I-THING"], strict=False),
        ("from", "O"),
        *zip(place, ["B-PLACE", "I-PLACE"], strict=False),
    ]
    tagged = tagged[:1] * (number % 3) + tagged[number % 2 :]
    return {"tokens": [word for word, _ in tagged], "tags": [tag for _, tag in tagged]}


def joined(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One word list of several."""
    many = list(rows)
    return {name: [entry for row in many for entry in row[name]] for name in ("tokens", "tags")}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def made(recipe: MakeRecipe, tmp_path: Path) -> MakeRecipe:
    """A recipe for texts with spans, or for word lists."""

    def make(texts: bool, **sections: Any) -> dict[str, Any]:
        source = write(tmp_path / "rows.jsonl", [(text_row if texts else word_row)(number) for number in range(36)])
        task = {"name": "tag", "text": "text"} if texts else {"name": "tag"}
        train = {"duration": "30st", **sections.pop("train", {})}
        return recipe(
            task={**task, **sections.pop("task", {})}, data={"train": source, **sections.pop("data", {})}, train=train, **sections
        )

    return make


def test_texts_give_the_entities_of_transformers_pipeline(made: MakeRecipe) -> None:
    run = burnish.train(made(True))
    ours = burnish.load(run.path).predict(TEXTS)
    pipeline = transformers.pipeline("token-classification", model=str(run.folder.model), aggregation_strategy="first", device="cpu")
    for text, found, theirs in zip(TEXTS, ours, pipeline(TEXTS), strict=True):
        expected = [(one["entity_group"], one["start"], one["end"], text[one["start"] : one["end"]]) for one in theirs]
        assert [(one["label"], one["start"], one["end"], one["text"]) for one in found["entities"]] == expected
        assert [one["score"] for one in found["entities"]] == pytest.approx([float(one["score"]) for one in theirs], abs=1e-5)
    assert {one["label"] for found in ours for one in found["entities"]} == {"PLACE", "THING"}, (
        "both kinds are found, or nothing is compared"
    )
    assert run.metrics["validation"]["f1"] > 0.5


def by_transformers(folder: Path, words: list[str]) -> list[str]:
    """The tags at the words' first pieces, as the model card of any tagger tells to take them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
    encoding = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        best = model(**encoding).logits[0].argmax(dim=-1).tolist()
    return [model.config.id2label[best[encoding.word_ids().index(word)]] for word in range(len(words))]


def test_word_lists_give_the_tags_of_the_exported_model(made: MakeRecipe) -> None:
    run = burnish.train(made(False))
    words = ["the", "New", "Rotterdam", "kettle", "from", "Ghent"]
    found = burnish.load(run.path).predict({"tokens": words})[0]
    assert found["tags"] == by_transformers(run.folder.model, words) and len(set(found["tags"])) > 2
    for one in found["entities"]:
        assert one["text"] == " ".join(words[one["start"] : one["end"]])
        assert found["tags"][one["start"]] in (f"B-{one['label']}", f"I-{one['label']}") and 0 < one["score"] <= 1
    assert run.recipe.task.scheme == "BIO" and run.recipe.task.labels[0] == "O"
    again = burnish.load(run.path).evaluate()
    assert again.metrics == pytest.approx(run.metrics["validation"], abs=1e-6)


def test_byte_level_models_are_exported_with_the_pieces_they_learned(made: MakeRecipe, tiny_llama: Path, tmp_path: Path) -> None:
    """A RoBERTa, whose tokenizer counts a blank to the word after it."""
    pieces = json.loads((tiny_llama / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocab = {name: place for place, name in enumerate(dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *pieces["vocab"]]))}
    tokenizer = transformers.RobertaTokenizer(vocab=vocab, merges=[tuple(merge) for merge in pieces["merges"]], model_max_length=64)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 66}
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    transformers.RobertaModel(transformers.RobertaConfig(vocab_size=len(tokenizer), **size, **ids)).save_pretrained(tmp_path / "roberta")
    tokenizer.save_pretrained(tmp_path / "roberta")
    run = burnish.train(made(False, model={"name": str(tmp_path / "roberta")}))
    words = ["New", "Rotterdam", "kettle", "from", "Ghent"]
    found = burnish.load(run.path).predict(" ".join(words))[0]["tags"]
    assert found == by_transformers(run.folder.model, words) and len(set(found)) > 2


def test_standard_input_is_text_for_both_kinds(
    made: MakeRecipe, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from burnish.cli import main

    for texts in (True, False):
        run = burnish.train(made(texts, run=f"{made(texts)['run']}-{texts}"))
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO("the kettle from Ghent\n"))
        monkeypatch.setattr("sys.argv", ["burnish", "predict", str(run.path)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        found = json.loads(capsys.readouterr().out)
        expected = run.predict("the kettle from Ghent")[0]
        assert found["entities"] == expected["entities"] and found.get("tags") == expected.get("tags")
        assert found["text" if texts else "tokens"] == "the kettle from Ghent"


def test_rows_in_windows_are_learned_and_measured_whole(made: MakeRecipe, tmp_path: Path) -> None:
    long = [joined([word_row(number), word_row(number + 1)]) for number in range(24)]
    held = write(tmp_path / "long.jsonl", long)
    run = burnish.train(made(False, data={"max_length": 14, "validation": held}))
    facts = run.folder.read("data.json")["parts"]["validation"]
    assert facts["rows"] == 24 and facts["examples"] > 30 and facts["truncated"] == 0
    records = [json.loads(line) for line in (run.folder.evaluations / "validation.predictions.jsonl").read_text().splitlines()]
    assert [len(record["predicted"]) for record in records] == [len(row["tags"]) for row in long]
    assert [record["predicted"] for record in records] == [one["tags"] for one in burnish.load(run.path).predict(long)]


def test_faulty_rows_are_refused_or_dropped(made: MakeRecipe, tmp_path: Path) -> None:
    broken = {"tokens": ["a", "b"], "tags": ["O", "I-PLACE"]}
    source = write(tmp_path / "broken.jsonl", [word_row(0), broken, *map(word_row, range(1, 20))])
    with pytest.raises(DataError, match=r"broken.jsonl row 2 \(line 2\): `tags`: word 2 is tagged `I-PLACE`"):
        burnish.train(made(False, data={"train": source}))
    run = burnish.train(made(False, data={"train": source, "bad_rows": "drop"}, train={"duration": "2st"}))
    assert any("1 row of broken.jsonl left out" in warning for warning in run.folder.read("data.json")["warnings"])


def test_labels_of_a_test_file_are_checked_when_it_is_opened(made: MakeRecipe, tmp_path: Path) -> None:
    run = burnish.train(made(False, train={"duration": "2st"}))
    held = write(tmp_path / "held.jsonl", [{"tokens": ["a"], "tags": ["B-PLACES"]}])
    with pytest.raises(DataError, match=r"held.jsonl row 1 \(line 1\): 'B-PLACES' does not occur in training - did you mean"):
        run.evaluate(source=held)


def test_cells_of_csv_files_are_read(made: MakeRecipe, tmp_path: Path) -> None:
    import csv

    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["tokens", "tags"])
        for number in range(20):
            tokens, tags = word_row(number).values()
            writer.writerow([" ".join(tokens), " ".join(tags)] if number % 2 else [json.dumps(tokens), str(tags)])
    run = burnish.train(made(False, data={"train": str(tmp_path / "rows.csv")}, train={"duration": "2st"}))
    assert run.recipe.task.labels == ["O", "B-PLACE", "I-PLACE", "B-THING", "I-THING"]


# Parity

BATCH, STEPS, LR, SEED = 8, 10, 1e-3, 4


@pytest.mark.parametrize("micro_batch", ["auto", 3])
def test_ten_steps_as_trainer_takes_them(made: MakeRecipe, tiny_bert: Path, tmp_path: Path, micro_batch: Any) -> None:
    rows = [joined(word_row(number + place) for place in range(1 + number % 4)) for number in range(48)]
    torch.manual_seed(6)
    weights = {name: tensor + 0.2 * torch.randn_like(tensor) for name, tensor in load_file(tiny_bert / "model.safetensors").items()}
    lively = tmp_path / "lively"
    transformers.AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(lively)
    transformers.AutoConfig.from_pretrained(tiny_bert).save_pretrained(lively)
    save_file(weights, lively / "model.safetensors", metadata={"format": "pt"})
    train = {"duration": f"{STEPS}st", "batch_size": BATCH, "seed": SEED, "micro_batch": micro_batch, "max_grad_norm": 1.0}
    recipe = made(
        False,
        model={"name": str(lively)},
        data={"train": write(tmp_path / "parity.jsonl", rows), "validation": None},
        train=train,
        optimizer={"name": "adamw", "lr": LR, "weight_decay": 0.01},
        schedule={"name": "linear", "warmup": 2},
    )
    checked = recipes.load(recipe)
    lengths = build.assemble(checked, build.gather(checked), lambda message: None).examples["train"].lengths
    assert len(lengths) == 48 and lengths.max() > 2 * lengths.min()
    losses, _, expected = by_trainer(recipe, tmp_path / "trainer", STEPS, lambda batch: {**batch.inputs, "labels": batch.targets["labels"]})
    run = burnish.train(recipe)
    steps = [line for line in run.folder.read_metrics() if line["kind"] == "step"]
    assert [line["loss"] for line in steps] == pytest.approx(losses, rel=1e-4) and len(losses) == STEPS
    assert max(losses) - min(losses) > 0.03
    final = load_file(run.folder.model / "model.safetensors")
    assert final.keys() == expected.keys()
    for name, tensor in final.items():
        if not name.endswith(".key.bias"):  # its slope is zero but for rounding, which Adam blows up
            np.testing.assert_allclose(tensor.numpy(), expected[name].numpy(), rtol=0, atol=1e-4, err_msg=name)
