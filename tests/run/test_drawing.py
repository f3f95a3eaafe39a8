"""Whole runs of unbalanced rows, mixtures and orders: what they learn from, what they tell, and that they resume exactly."""

from __future__ import annotations

import csv
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish import build
from burnish.core.errors import BurnishError, DataError, RecipeError
from burnish.engine.events import Began, Event, Stepped
from burnish.run.showing import show

MakeRecipe = Callable[..., dict[str, Any]]
PRAISE = ("lovely", "great", "wonderful", "happy", "perfect", "thanks")
COMPLAINT = ("broken", "awful", "late", "angry", "wrong", "refund")


def write(path: Path, praise: int, complaint: int, seed: int = 0) -> Path:
    """A file `text,label,hardness` of so many rows of each label, told apart by one word, shuffled."""
    draw = random.Random(seed)
    labelled = [(PRAISE, "praise")] * praise + [(COMPLAINT, "complaint")] * complaint
    draw.shuffle(labelled)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "hardness"])
        for number, (words, label) in enumerate(labelled):
            padding = " ".join(draw.choices(["candle", "parcel", "kettle", "shears"], k=draw.randrange(1, 9)))
            writer.writerow([f"{padding} {draw.choice(words)} number {number}", label, round(draw.random(), 3)])
    return path


@pytest.fixture
def unbalanced(tmp_path: Path) -> Path:
    """54 rows of praise and 6 of complaint."""
    return write(tmp_path / "unbalanced.csv", 54, 6)


def parts_of(made: dict[str, Any]) -> build.Parts:
    checked = burnish.recipe.load(made)
    return build.assemble(checked, build.gather(checked), lambda message: None)


def epoch(parts: build.Parts, number: int = 0) -> list[list[int]]:
    """The batches of an epoch."""
    order = build.order(parts)
    return [order.batch(number * order.steps_per_epoch + step) for step in range(order.steps_per_epoch)]


def drawn(parts: build.Parts, number: int = 0) -> list[int]:
    """The examples of an epoch, in order."""
    return list(itertools.chain.from_iterable(epoch(parts, number)))


def labels(parts: build.Parts, indices: list[int]) -> Counter[str]:
    return Counter(parts.gathered.rows["train"][index].values["label"] for index in indices)


def weights_of(run: burnish.Run) -> bytes:
    return (run.folder.model / "model.safetensors").read_bytes()


class Breaker:
    """A listener that fails when a step is told: the run ends there as if killed."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped) and event.step == self.step:
            raise ZeroDivisionError


# Balance


@pytest.mark.parametrize(
    ("balance", "an_epoch"),
    [
        ("oversample", {"praise": 54, "complaint": 54}),
        ("undersample", {"praise": 6, "complaint": 6}),
        ("batches", {"praise": 30, "complaint": 30}),
    ],
)
def test_an_epoch_holds_labels_alike(recipe: MakeRecipe, unbalanced: Path, balance: str, an_epoch: dict[str, int]) -> None:
    made = recipe(data={"train": str(unbalanced), "validation": None, "balance": balance}, train={"duration": "2ep", "batch_size": 8})
    parts = parts_of(made)
    for number in (0, 1, 5):
        batches = epoch(parts, number)
        assert labels(parts, drawn(parts, number)) == an_epoch
        assert len(batches) == -(-sum(an_epoch.values()) // 8)
        if balance == "batches":
            assert all(abs(found["praise"] - found["complaint"]) <= 1 for found in (labels(parts, batch) for batch in batches))
    heard: list[Event] = []
    run = burnish.train(made, listeners=[heard.append])
    steps = [event for event in heard if isinstance(event, Stepped)]
    assert len(steps) == 2 * len(epoch(parts)) and steps[-1].epoch == 2
    assert sum(event.examples for event in steps) == 2 * sum(an_epoch.values())
    (began,) = (event for event in heard if isinstance(event, Began))
    rare = an_epoch["complaint"]
    assert any(
        f"balance={balance}: an epoch draws" in note and f"complaint (each of 6 is seen {rare / 6:.2f} times)" in note
        for note in began.facts["notes"]
    )
    assert json.loads((run.path / "plan.json").read_text())["strata"] == [["complaint", 6, rare], ["praise", 54, an_epoch["praise"]]]
    assert burnish.load(run.path).predict("a lovely candle")[0]["label"] in ("praise", "complaint")


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"balance": "undersample"}, "loss": {"name": "focal", "class_weights": "balanced"}},
        {"data": {"balance": "batches"}},
        {"data": {"balance": "oversample", "order": "length"}},
        {"data": {"order": {"name": "curriculum", "by": "hardness"}}, "loss": {"class_weights": {"complaint": 9}}},
        {"data": {"balance": "oversample", "augment": {"share": 0.5, "steps": ["swap"]}}, "method": "lora", "loss": {"smoothing": 0.1}},
    ],
    ids=["undersample-focal", "batches", "oversample-length", "curriculum-weights", "oversample-augmented-lora"],
)
def test_a_broken_run_resumes_to_the_same_weights(recipe: MakeRecipe, unbalanced: Path, sections: dict[str, Any]) -> None:
    settings = {"batch_size": 5, "duration": "3ep", "save_every": "2st", "micro_batch": 2}
    data = {"train": str(unbalanced), "validation": "20%", **sections.pop("data")}
    whole = burnish.train(recipe("whole", data=data, train=settings, **sections))
    made = recipe("broken", data=data, train=settings, **sections)
    with pytest.raises(ZeroDivisionError):
        burnish.train(made, listeners=[Breaker(5)])
    heard: list[Event] = []
    resumed = burnish.resume(made["run"], [heard.append])
    assert next(event.step for event in heard if isinstance(event, Stepped)) == 5
    assert weights_of(resumed) == weights_of(whole)
    assert resumed.metrics == whole.metrics


def test_balance_needs_one_label_a_row(recipe: MakeRecipe, unbalanced: Path) -> None:
    for problem, words in (("multi_label", "may have several"), ("regression", "rows with a number have none")):
        made = recipe(task={"problem": problem}, data={"train": str(unbalanced), "balance": "oversample"})
        with pytest.raises(RecipeError, match=f"`data.balance`: rows are balanced by their label, and .*{words}"):
            burnish.recipe.load(made)
    made = recipe(task={"name": "fill"}, data={"train": str(unbalanced), "balance": "oversample"})
    with pytest.raises(RecipeError, match="rows of this task have none"):
        burnish.recipe.load(made)
    made = recipe(data={"train": str(unbalanced), "balance": "batches", "order": "length"})
    with pytest.raises(RecipeError, match="both decide what a batch holds"):
        burnish.recipe.load(made)


# Class weights


def test_class_weights_are_told_and_a_rare_label_is_learned(recipe: MakeRecipe, unbalanced: Path) -> None:
    made = recipe(data={"train": str(unbalanced), "validation": None}, loss={"class_weights": "balanced"})
    run = burnish.train(made)
    plan = json.loads((run.path / "plan.json").read_text())
    assert plan["classes"] == [["complaint", 6.0, pytest.approx(5.0)], ["praise", 54.0, pytest.approx(60 / 108)]]
    assert "class weights, with mean 1 over an epoch: complaint 5 (6 rows), praise 0.556 (54 rows)" in plan["notes"]
    plain = burnish.train(recipe("plain", data={"train": str(unbalanced), "validation": None}))
    texts = [f"candle {word} number 3" for word in COMPLAINT]
    complaint = [sum(one["probabilities"]["complaint"] for one in found.predict(texts)) for found in (run, plain)]
    assert complaint[0] > complaint[1]
    report = run.path / "report" / "index.html"
    assert not report.exists() or "class weights" in report.read_text()


def test_balanced_rows_leave_nothing_to_weigh(recipe: MakeRecipe, unbalanced: Path) -> None:
    """Classes are counted as an epoch holds them, so that nothing is corrected twice."""
    made = recipe(data={"train": str(unbalanced), "validation": None, "balance": "oversample"}, loss={"class_weights": "balanced"})
    found = build.class_weights(parts_of(made))
    assert found == {"complaint": (54.0, pytest.approx(1.0)), "praise": (54.0, pytest.approx(1.0))}


def test_class_weights_of_a_label_that_there_is_not(recipe: MakeRecipe, unbalanced: Path) -> None:
    made = recipe(data={"train": str(unbalanced)}, loss={"class_weights": {"complant": 2}})
    with pytest.raises(DataError, match=r"no label `complant` - did you mean `complaint`\? \(known: complaint, praise\)"):
        burnish.train(made)
    assert not Path(made["run"]).exists()


@pytest.mark.parametrize("loss", [{"name": "focal"}, {"smoothing": 0.1}, {"class_weights": "balanced"}])
def test_a_number_has_no_probabilities_to_reshape(recipe: MakeRecipe, unbalanced: Path, loss: dict[str, Any]) -> None:
    made = recipe(task={"problem": "regression", "label": "hardness"}, data={"train": str(unbalanced)}, loss=loss)
    with pytest.raises(RecipeError, match="`loss`: the task predicts a number by squared error and chooses nothing"):
        burnish.train(made)


# Mixtures


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Two files of the same name: 30 rows and 10."""
    for folder in ("shop", "news"):
        (tmp_path / folder).mkdir()
    return {"shop": write(tmp_path / "shop" / "rows.csv", 20, 10, 1), "news": write(tmp_path / "news" / "rows.csv", 5, 5, 2)}


def test_a_mixture_draws_by_weight(recipe: MakeRecipe, sources: dict[str, Path]) -> None:
    train = {str(sources["shop"]): 1, str(sources["news"]): 3}
    made = recipe(data={"train": train, "validation": "20%"}, train={"duration": "2ep", "batch_size": 8, "save_every": "1st"})
    parts = parts_of(made)
    files = [row.file for row in parts.gathered.rows["train"]]
    assert Counter(files) == {"shop/rows.csv": 24, "news/rows.csv": 8}, "a share is cut from each source alike"
    assert Counter(row.file for row in parts.gathered.rows["validation"]) == {"shop/rows.csv": 6, "news/rows.csv": 2}
    seen = [Counter(files[index] for index in drawn(parts, number)) for number in range(3)]
    assert seen == [{"shop/rows.csv": 8, "news/rows.csv": 24}] * 3
    whole = burnish.train(made)
    data = json.loads((whole.path / "data.json").read_text())["parts"]["train"]
    assert data["source"] == "1 of shop/rows.csv + 3 of news/rows.csv" and data["rows"] == 32
    assert [(line["weight"], line["rows"]) for line in data["sources"]] == [(1.0, 24), (3.0, 8)]
    again = {**made, "run": made["run"] + "-broken"}
    with pytest.raises(ZeroDivisionError):
        burnish.train(again, listeners=[Breaker(4)])
    assert weights_of(burnish.resume(again["run"])) == weights_of(whole)
    assert burnish.load(whole.path).predict("a lovely candle")


def test_epoch_rows_set_the_length_of_an_epoch(recipe: MakeRecipe, sources: dict[str, Path]) -> None:
    train = {str(sources["shop"]): 0.5, str(sources["news"]): 0.5}
    parts = parts_of(recipe(data={"train": train, "validation": None, "epoch_rows": 12}, train={"batch_size": 5}))
    order = build.order(parts)
    assert (order.num_examples, order.steps_per_epoch) == (12, 3)
    files = [row.file for row in parts.gathered.rows["train"]]
    ever = [index for number in range(5) for index in drawn(parts, number)]
    assert Counter(files[index] for index in ever) == {"shop/rows.csv": 30, "news/rows.csv": 30}
    assert len(set(ever)) == 40, "after 5 epochs each of 30 rows has come once, each of 10 three times"


def test_a_changed_source_is_refused_on_resume(recipe: MakeRecipe, sources: dict[str, Path]) -> None:
    made = recipe(data={"train": {str(path): 1 for path in sources.values()}, "validation": None}, train={"save_every": "1st"})
    with pytest.raises(ZeroDivisionError):
        burnish.train(made, listeners=[Breaker(3)])
    with sources["news"].open("a") as stream:
        stream.write("late again,complaint,0.5\n")
    with pytest.raises(DataError, match=r"the train rows \(1 of shop/rows.csv \+ 1 of news/rows.csv\) are not those"):
        burnish.resume(made["run"])


def test_paths_of_a_mixture_are_found_beside_the_recipe(recipe: MakeRecipe, sources: dict[str, Path], tmp_path: Path) -> None:
    given = tmp_path / "mixed.yaml"
    made = recipe(data={"train": {"shop/rows.csv": 2, "bundled:messages-train": 1}, "validation": "10%"}, task={"label": "label"})
    given.write_text(json.dumps(made))
    with pytest.raises(RecipeError, match=r"messages-train\.jsonl has no column `label`"):
        burnish.recipe.load(given)
    given.write_text(json.dumps(recipe(data={"train": {"shop/rows.csv": 2, "news/rows.csv": 1}})))
    checked = burnish.recipe.load(given)
    assert checked.data.train == {str(sources["shop"]): 2.0, str(sources["news"]): 1.0}
    assert burnish.recipe.load(checked).data == checked.data
    given.write_text(checked.to_yaml())
    assert burnish.recipe.load(given) == checked


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"train": {"shop/rows.csv": 1, "shop/../shop/rows.csv": 1}}, "is named twice"),
        ({"train": {"shop/rows.csv": 0}}, "weight of shop/rows.csv has to be a number over 0; got 0"),
        ({"train": {"shop/rows.csv": "much"}}, "has to be a number over 0; got 'much'"),
        ({"train": {}}, "write a file, or several with their weights"),
        ({"train": {"shop/rows.csv": 1, "shop/row.csv": 1}}, "row.csv does not exist"),
        ({"train": {"shop/rows.csv": 1, "news/rows.csv": 1}, "balance": "oversample"}, "the weights of a mixture decide already"),
        ({"train": "shop/rows.csv", "epoch_rows": 5}, "`data.epoch_rows` is for a mixture"),
        ({"train": "shop/rows.csv", "order": {"name": "curriculum", "by": "hardnes"}}, "no column `hardnes` - did you mean `hardness`"),
    ],
)
def test_faulty_mixtures(recipe: MakeRecipe, sources: dict[str, Path], tmp_path: Path, data: dict[str, Any], words: str) -> None:
    given = tmp_path / "faulty.yaml"
    made = recipe()
    given.write_text(json.dumps({**made, "data": data}))
    with pytest.raises(RecipeError) as caught:
        burnish.recipe.load(given)
    assert words in str(caught.value) and len(caught.value.problems) == 1


def test_a_source_of_which_nothing_is_drawn(recipe: MakeRecipe, sources: dict[str, Path]) -> None:
    shop, news = map(str, sources.values())
    with pytest.raises(BurnishError, match=r"not one of 40 rows an epoch is of news/rows\.csv: give it more weight"):
        burnish.train(recipe(data={"train": {shop: 1000, news: 1}, "validation": None}))
    task = {"labels": ["complaint", "praise"]}
    with pytest.raises(BurnishError, match=r"no row of (shop|news)/rows\.csv is left for training: raise data\.limit"):
        burnish.train(recipe(task=task, data={"train": {shop: 1, news: 1}, "validation": None, "limit": 1}))


def test_a_mixture_is_shown(recipe: MakeRecipe, sources: dict[str, Path]) -> None:
    made = recipe(data={"train": {str(path): 1 for path in sources.values()}, "validation": "25%"})
    shown = show(made, rows=2)
    assert (shown.summary.source, shown.summary.rows) == ("1 of shop/rows.csv + 1 of news/rows.csv", 30)
    assert "shop/rows.csv row" in shown.examples[0].place
    assert show(made, part="validation").summary.source == "25% of 1 of shop/rows.csv + 1 of news/rows.csv"


# Order


def test_a_curriculum_goes_from_easy_to_hard_in_its_first_epoch(recipe: MakeRecipe, unbalanced: Path) -> None:
    order = {"name": "curriculum", "by": "hardness"}
    made = recipe(data={"train": str(unbalanced), "validation": None, "order": order}, train={"batch_size": 7, "duration": "1ep"})
    parts = parts_of(made)
    hardness = [float(row.values["hardness"]) for row in parts.gathered.rows["train"]]
    first, second = ([hardness[index] for index in drawn(parts, number)] for number in (0, 1))
    assert first == sorted(hardness) and second != first and sorted(second) == first
    run = burnish.train(made)
    assert any(
        "from easy to hard by `hardness` in the first 1 epoch" in note for note in json.loads((run.path / "plan.json").read_text())["notes"]
    )


def test_batches_of_like_length_pad_less(recipe: MakeRecipe, unbalanced: Path) -> None:
    settings = {"batch_size": 6, "micro_batch": 6}
    padding = {}
    for name in ("random", "length"):
        data = {"train": str(unbalanced), "validation": None, "order": name}
        engine = {"savings": {"unpadded": False}}
        padding[name] = burnish.train(recipe(name, data=data, train=settings, engine=engine)).summary["padding_share"]
    assert padding["length"] < 0.6 * padding["random"]


@pytest.mark.usefixtures("with_report")
@pytest.mark.parametrize(("loss", "own"), [({"name": "focal"}, True), ({"smoothing": 0.1}, True), ({"smoothing": 0.0}, False)])
def test_the_report_tells_a_curve_of_another_loss_from_the_likelihood(recipe: MakeRecipe, loss: dict[str, Any], own: bool) -> None:
    run = burnish.train(recipe(loss=loss))
    page = run.folder.report.read_text(encoding="utf-8")
    assert ("training, by the recipe" in page) is own
