"""Whole runs on rows in other words: the same however they are cut, stopped and resumed; validation and test rows never change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import burnish
from burnish import build
from burnish.core.errors import DataError, Interrupted, RecipeError
from burnish.data import cache
from burnish.data.augment.rows import Rewording
from burnish.engine.events import Saved
from burnish.recipe import load
from burnish.run.showing import show

Make = Callable[..., dict[str, Any]]
STEPS: list[Any] = [{"name": "swap", "rate": 0.3}, {"name": "delete", "rate": 0.2}, "punctuate"]


@pytest.fixture
def augmented(recipe: Make) -> Make:
    def make(name: str = "run", **sections: Any) -> dict[str, Any]:
        data = {"augment": {"steps": STEPS, "share": 0.7}, **sections.pop("data", {})}
        return recipe(name, data=data, **sections)

    return make


def weights(run: burnish.Run) -> bytes:
    return (run.path / "model/model.safetensors").read_bytes()


def rewording(made: dict[str, Any]) -> tuple[Rewording, build.Parts]:
    checked = load(made)
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    found = build.rewording(parts, "cpu", lambda what, done, total: None)
    assert found is not None
    return found, parts


def texts(prepared: tuple[Any, Any], tokenizer: Any) -> list[str]:
    examples, chosen = prepared
    return [tokenizer.decode(examples.inputs["input_ids"][place]) for place in chosen]


def test_the_share_is_changed_anew_at_every_step_and_labels_go_with_their_rows(augmented: Make) -> None:
    make, parts = rewording(augmented())
    every, tokenizer = list(range(36)), parts.tokenizer
    plain = texts((parts.examples["train"], every), tokenizer)
    drawn = [texts(make(every, step), tokenizer) for step in range(20)]
    changed = np.mean([[new != old for new, old in zip(found, plain, strict=True)] for found in drawn])
    assert 0.6 < changed < 0.8, "a share of 0.7 of 720"
    assert len({found[0] for found in drawn}) > 5
    for step in range(3):
        examples, chosen = make(every, step)
        assert np.array_equal(np.asarray(examples.targets["labels"])[chosen], np.asarray(parts.examples["train"].targets["labels"])[every])
        assert np.array_equal(np.asarray(examples.rows)[chosen], np.asarray(parts.examples["train"].rows)[every])
        assert np.array_equal(examples.weights[chosen], np.ones(36))


def test_what_is_drawn_hangs_on_seed_step_and_example_and_not_on_the_others(augmented: Make) -> None:
    make, parts = rewording(augmented())
    whole = texts(make(list(range(36)), 4), parts.tokenizer)
    assert texts(make([7, 3, 20], 4), parts.tokenizer) == [whole[index] for index in (7, 3, 20)]
    again, other = rewording(augmented())[0], rewording(augmented(train={"seed": 1}))[0]
    assert texts(again(list(range(36)), 4), parts.tokenizer) == whole
    assert texts(make(list(range(36)), 5), parts.tokenizer) != whole != texts(other(list(range(36)), 4), parts.tokenizer)
    twice = texts(make([7] * 8, 4), parts.tokenizer)
    assert twice[0] == whole[7] and len(set(twice)) > 2, "an example that stands in a step several times is several"


def test_micro_batches_change_nothing(augmented: Make) -> None:
    runs = [burnish.train(augmented(f"run-{size}", train={"micro_batch": size, "duration": "3st"})) for size in (8, 3)]
    losses = [[line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_resumed_run_ends_with_the_same_bits(augmented: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = burnish.train(augmented("whole", train={"save_every": "3st"}))

    def stop(event: Any) -> None:
        if isinstance(event, Saved) and event.step == 3:
            raise KeyboardInterrupt

    broken = augmented("broken", train={"save_every": "3st"})
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        burnish.train(broken, listeners=[stop])
    resumed = burnish.resume(broken["run"])
    assert resumed.summary["steps"] == 10 and weights(resumed) == weights(whole)
    assert resumed.predict(["lovely candle"]) == burnish.load(whole.path).predict(["lovely candle"])


def test_it_does_something_and_says_so(augmented: Make, recipe: Make) -> None:
    plain, other = burnish.train(recipe("plain", train={"duration": "2st"})), burnish.train(augmented(train={"duration": "2st"}))
    assert weights(plain) != weights(other)
    notes = json.loads((other.path / "plan.json").read_text())["notes"]
    assert "training rows in other words: 70% of each step, by swap, delete, punctuate" in notes
    assert not any("other words" in note for note in json.loads((plain.path / "plan.json").read_text())["notes"])


def test_validation_and_test_rows_and_the_kept_tokens_stay_as_they_are(
    augmented: Make, rows_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    run = burnish.train(augmented(data={"test": str(rows_csv)}, train={"duration": "3st"}))
    kept = {path: path.read_bytes() for path in sorted(cache.root().rglob("*.npy"))}
    entries = list(cache.root().iterdir())
    assert len(entries) == 3, "train, validation, test: nothing that was made anew is kept"
    loaded = burnish.load(run.path)
    rows = rows_csv.read_text().splitlines()[1:]
    told = [json.loads(line) for line in (run.path / "evaluations/test.predictions.jsonl").read_text().splitlines()]
    texts = [line.rpartition(",")[0].strip('"') for line in rows]
    assert [one["label"] for one in loaded.predict(texts)] == [one["label"] for one in told]
    assert kept == {path: path.read_bytes() for path in sorted(cache.root().rglob("*.npy"))}


def test_rows_read_in_windows_stay_as_they_are(tiny_bert: Path, tmp_path: Path) -> None:
    long = " ".join(["the lovely kettle was broken on a great day"] * 20)
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in (long, "the lovely kettle was broken on a great day")))
    data = {"train": str(source), "augment": {"steps": ["swap"], "share": 1.0}}
    made = {"model": str(tiny_bert), "task": "fill", "data": data, "train": {"device": "cpu"}}
    make, parts = rewording(made)
    examples = parts.examples["train"]
    own, alone = np.flatnonzero(np.asarray(examples.rows) == 0).tolist(), int(np.flatnonzero(np.asarray(examples.rows) == 1)[0])
    assert len(own) > 1
    plain = texts((examples, [*own, alone]), parts.tokenizer)
    found = [texts(make([*own, alone], step), parts.tokenizer) for step in range(5)]
    assert all(one[:-1] == plain[:-1] for one in found) and any(one[-1] != plain[-1] for one in found)


def test_a_row_that_no_longer_fits_stays_as_it_is(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "longer_words.py").write_text("def longer(text, draw):\n    return ' '.join([text] * 40)\n")
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "texts.jsonl"
    source.write_text(json.dumps({"text": "the lovely kettle was broken"}) + "\n")
    data = {"train": str(source), "augment": {"steps": [{"name": "paraphrase", "callable": "longer_words:longer"}], "share": 1.0}}
    make, parts = rewording({"model": str(tiny_bert), "task": "fill", "data": data, "train": {"device": "cpu"}})
    assert make([0], 0) == (parts.examples["train"], [0]), "forty times as long it is read in windows"


QUESTION = {
    "question": "Who sold lovely kettles there?",
    "context": "The old gardener Anna sold lovely kettles in the town.",
    "answers": "Anna",
}
TAGGED = {"tokens": ["the", "old", "gardener", "Anna", "sold", "lovely", "kettles"], "tags": ["O", "O", "O", "B-PER", "O", "O", "O"]}
TALK = {"prompt": "the lovely kettle is broken today, what now", "response": "send it back"}
KINDS = {
    "tag": ("tiny_bert", TAGGED),
    "answer": ("tiny_bert", QUESTION),
    "fill": ("tiny_bert", {"text": "the lovely kettle was broken on a great day"}),
    "continue": ("tiny_llama", {"text": "the lovely kettle was broken on a great day"}),
    "chat": ("tiny_llama", TALK),
    "rewrite": ("tiny_t5", {"source": "the lovely kettle was broken on a great day", "target": "kettle broken"}),
}


@pytest.mark.parametrize("task", KINDS)
def test_every_task_trains_so(task: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model, values = KINDS[task]
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(values) + "\n" + json.dumps(values) + "\n" + json.dumps(values) + "\n")
    made = {
        "model": str(request.getfixturevalue(model)),
        "task": task,
        "data": {"train": str(source), "augment": {"steps": STEPS, "share": 1.0}},
        "train": {"duration": "2st", "batch_size": 3, "device": "cpu"},
        "run": str(tmp_path / "run"),
    }
    make, parts = rewording(made)
    examples, chosen = make([0, 1, 2], 0)
    assert examples is not parts.examples["train"] and sorted(chosen) == [0, 1, 2]
    batch = parts.learner.collate(examples, chosen, (0, 0))
    assert batch.weight > 0 and len(batch.examples) == 3
    run = burnish.train(made)
    assert run.summary["steps"] == 2 and np.isfinite(run.summary["mean_loss"])


def test_what_cannot_be_is_refused_with_the_reason(augmented: Make, recipe: Make, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"`data\.augment\.steps\.0`: there is no `synonym` - did you mean `synonyms`"):
        load(recipe(data={"augment": {"steps": ["synonym"]}}))
    with pytest.raises(RecipeError, match=r"`data\.augment\.steps\.1\.rat` is unknown"):
        load(recipe(data={"augment": {"steps": ["swap", {"name": "delete", "rat": 0.1}]}}))
    with pytest.raises(RecipeError, match=r"`data\.augment\.steps\.0\.there` is missing"):
        load(recipe(data={"augment": {"steps": [{"name": "back_translation", "back": "x"}]}}))
    with pytest.raises(RecipeError, match=r"`data\.augment\.steps` is missing"):
        load(recipe(data={"augment": {"share": 0.5}}))
    with pytest.raises(RecipeError, match=r"`data\.augment`: swap, delete would leave words without a tag.*only synonyms"):
        load(augmented(task={"name": "tag", "scheme": "plain"}, data={"augment": {"steps": ["synonyms", "swap", "delete"]}}))


def test_plain_tags_that_only_the_rows_tell_are_refused_before_the_model_is_loaded(tiny_bert: Path, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps({"tokens": ["the", "kettle", "boils"], "tags": ["DET", "NOUN", "VERB"]}) + "\n")
    made = {
        "model": str(tiny_bert),
        "task": "tag",
        "data": {"train": str(source), "augment": {"steps": ["swap"]}},
        "run": str(tmp_path / "r"),
    }
    with pytest.raises(DataError, match=r"`data\.augment`: swap would leave words without a tag"):
        burnish.train(made)
    assert not (tmp_path / "r").exists()
    with pytest.raises(DataError, match="swap would leave words"):
        show(made, augmented=True)


def test_folders_of_translators_are_found_beside_the_recipe(recipe: Make, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    made = recipe(data={"augment": {"steps": [{"name": "back_translation", "there": "there", "back": "Helsinki-NLP/opus-mt-de-en"}]}})
    path = tmp_path / "made.json"
    path.write_text(json.dumps(made))
    step = load(path).data.augment.steps[0]  # type: ignore[union-attr]
    assert step.there == str(tmp_path / "there") and step.back == "Helsinki-NLP/opus-mt-de-en"


def test_rows_are_shown_beside_what_becomes_of_them(augmented: Make) -> None:
    made = augmented()
    make, parts = rewording(made)
    order, rows = build.order(parts), parts.gathered.rows["train"]
    shown = show(made, rows=36, augmented=True)
    places = [example.place for example in shown.examples]
    for step in range(order.steps_per_epoch):
        batch = order.batch(step)
        for index, text in zip(batch, texts(make(batch, step), parts.tokenizer), strict=True):
            old = texts((parts.examples["train"], [index]), parts.tokenizer)[0]
            name = f"{rows[index].place}: {'in other words' if text != old else 'as it is'} in step {step + 1}"
            found = shown.examples[places.index(name)]
            assert "".join("".join(piece.text for piece in found.strips[0].pieces).split()) == "".join(text.split())
            assert any(piece.changed for piece in found.strips[0].pieces) <= (text != old)
            assert found.target == parts.recipe.task.stratum(rows[index])
    assert shown.changed and sum("in other words" in place for place in places) > 18
    assert not show(made, rows=3).changed
    with pytest.raises(DataError, match="validation rows are never changed"):
        show(made, part="validation", augmented=True)


def test_without_augment_there_is_nothing_to_show(recipe: Make) -> None:
    with pytest.raises(DataError, match=r"the recipe has no data\.augment"):
        show(recipe(), augmented=True)


def test_the_recipe_says_it_all_again(augmented: Make) -> None:
    checked = load(augmented())
    assert load(checked) == checked
    written = json.loads(json.dumps(checked.model_dump(mode="json")))["data"]["augment"]
    assert written["steps"][1] == {"name": "delete", "rate": 0.2} and written["share"] == 0.7


def test_changed_words_are_marked_in_terminal_and_page(augmented: Make) -> None:
    from io import StringIO

    from rich.console import Console

    from burnish.report.tokens import render
    from burnish.terminal import show_tokens

    shown = show(augmented(data={"augment": {"steps": [{"name": "swap", "rate": 0.5}], "share": 1.0}}), rows=2, augmented=True)
    plain, colored = StringIO(), StringIO()
    show_tokens(Console(file=plain, width=200), shown)
    show_tokens(Console(file=colored, width=200, force_terminal=True, color_system="standard"), shown)
    assert "{changed}" in plain.getvalue() and plain.getvalue().count("in other words in step") == 2
    changed = [piece.text.strip() for strip in shown.examples[1].strips for piece in strip.pieces if piece.changed]
    assert changed and any(f"{{{changed[0]}" in line for line in plain.getvalue().splitlines()[2:])
    assert "\x1b[7m" in colored.getvalue()
    page = render(shown)
    assert page.count('class="t n"') > len(changed) and "in other words</span>" in page
    bare = show(augmented(), rows=2)
    assert 'class="t n"' not in render(bare)
    text = StringIO()
    show_tokens(Console(file=text, width=200), bare)
    assert "{" not in text.getvalue()


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"balance": "oversample"}, "train": {"ema": 0.9}},
        {"method": {"name": "lora", "r": 2}, "loss": {"smoothing": 0.1}},
        {"data": {"order": "length"}, "selective": {"layer_decay": 0.8}, "train": {"checkpoint_blocks": 1}},
    ],
    ids=["balance and average", "lora and smoothing", "length, decay and recomputing"],
)
def test_it_goes_with_what_else_a_recipe_may_say(augmented: Make, sections: dict[str, Any]) -> None:
    chosen = {"save_every": "3st", "duration": "6st", **sections.pop("train", {})}
    whole = burnish.train(augmented("whole", train=chosen, **dict(sections)))

    def stop(event: Any) -> None:
        if isinstance(event, Saved) and event.step == 3:
            raise KeyboardInterrupt

    broken = augmented("broken", train=chosen, **dict(sections))
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        burnish.train(broken, listeners=[stop])
    resumed = burnish.resume(broken["run"])
    files = [sorted((run.path / "model").glob("*.safetensors")) for run in (whole, resumed)]
    assert files[0] and [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
