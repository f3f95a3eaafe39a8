"""The command line: what every command prints, and that what a user can mend is told on one screen, with exit code 2 and no traceback."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from burnish import cli
from burnish.core.errors import BurnishError, Interrupted

SCREEN = 24


@dataclass
class Told:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Told]


@pytest.fixture
def burnish(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `burnish ...` in this process, in an empty folder, exactly as the entry point does."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: object) -> Told:
        capsys.readouterr()
        try:
            code = cli.guarded(lambda: cli.app([str(word) for word in words], standalone_mode=True))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Told(code, *capsys.readouterr())

    return run


@pytest.fixture
def recipe(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a sound recipe with some keys changed, `data.train` for a key in a section."""

    def written(**changes: Any) -> Path:
        raw: dict[str, Any] = {
            "model": str(tiny_bert),
            "task": {"name": "classify"},
            "data": {"train": str(rows_csv), "validation": "25%"},
            "train": {"duration": "2st", "batch_size": 4},
        }
        for key, value in changes.items():
            section, _, inner = key.partition("_")
            if inner:
                raw.setdefault(section, {})[inner] = value
            else:
                raw[section] = value
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return written


def write_csv(path: Path, *rows: tuple[str, str], header: tuple[str, str] = ("text", "label")) -> str:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return str(path)


SOUND = [("lovely", "praise"), ("broken", "complaint"), ("great", "praise"), ("late", "complaint")]


# What must be told before anything is trained


def refused(told: Told, *words: str) -> None:
    """Exit code 2, one screen on standard error that holds all `words`, no traceback, and no run left behind."""
    assert told.code == 2, told
    assert told.err.startswith("burnish: ") or told.err.startswith("Usage:")
    assert "Traceback" not in told.err + told.out
    assert len(told.err.splitlines()) <= SCREEN
    for word in words:
        assert word in told.err, (word, told.err)
    runs = Path("runs")
    assert not runs.exists() or not list(runs.iterdir())


def test_a_wrong_key(burnish: Command, recipe: Any) -> None:
    path = recipe(optimiser="adamw")
    refused(burnish("train", path), str(path), "`optimiser` is unknown - did you mean `optimizer`?")
    refused(burnish("train", recipe(), "train.sed=1"), "`train.sed` is unknown - did you mean `seed`?")


def test_a_wrong_column(burnish: Command, recipe: Any) -> None:
    refused(
        burnish("train", recipe(), "task.label=lable"), "rows.csv has no column `lable` - did you mean `label`?", "its columns: text, label"
    )


def test_a_missing_file(burnish: Command, recipe: Any, rows_csv: Path) -> None:
    wrong = rows_csv.with_name("row.csv")
    refused(burnish("train", recipe(data_train=str(wrong))), f"`data.train`: the file {wrong} does not exist - did you mean `rows.csv`?")
    refused(burnish("train", "no-such.yaml"), "the recipe no-such.yaml does not exist")


def test_an_empty_file(burnish: Command, recipe: Any, tmp_path: Path) -> None:
    for name, content in [("a.csv", ""), ("b.csv", "text,label\n"), ("c.jsonl", "\n"), ("d.json", "[]")]:
        (tmp_path / name).write_text(content)
        refused(burnish("train", recipe(data_train=str(tmp_path / name))), name, "is empty: it holds no rows")


def test_a_label_that_validation_has_and_training_lacks(burnish: Command, recipe: Any, tmp_path: Path) -> None:
    validation = write_csv(tmp_path / "validation.csv", ("fine", "praise"), ("hm", "complain"))
    told = burnish("train", recipe(data_validation=validation))
    refused(
        told, "validation.csv row 2 (line 3)", "the label 'complain' does not occur in training - did you mean `complaint`?", "task.labels"
    )


def test_a_label_that_the_recipe_does_not_know(burnish: Command, recipe: Any) -> None:
    told = burnish("train", recipe(), "task.labels=[praise, question]")
    refused(told, "24 rows with an unknown label (known: praise, question)", "rows.csv row 2", "... and 12 more")


def test_a_row_without_text(burnish: Command, recipe: Any, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "holes.csv", *SOUND, ("  ", "praise"), ("x", ""))
    told = burnish("train", recipe(data_train=path))
    refused(
        told, "holes.csv row 5 (line 6): the text in `text` is empty", "row 6 (line 7): the label in `label` is empty", "data.bad_rows=drop"
    )


def test_bytes_that_are_no_text(burnish: Command, recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("text,label\nfine,praise\nZürich,complaint\n".encode("latin-1"))
    told = burnish("train", recipe(data_train=str(tmp_path / "latin.csv")))
    refused(told, "latin.csv line 3: byte 0xfc at position 2 is not UTF-8", "iconv")


def test_a_single_label(burnish: Command, recipe: Any, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "one.csv", ("a", "praise"), ("b", "praise"), ("c", "praise"))
    refused(burnish("train", recipe(data_train=path), "data.validation=null"), "1 label in `label` (praise)", "at least two")


def test_more_rows_held_out_than_there_are(burnish: Command, recipe: Any) -> None:
    refused(burnish("train", recipe(), "data.validation=48"), "48 of 48 rows cannot be set aside")


def test_a_run_folder_that_cannot_be_written(burnish: Command, recipe: Any) -> None:
    refused(burnish("train", recipe(), "run=/proc/x/y"), "Making the run folder /proc/x/y failed", "run=FOLDER")


def test_a_run_folder_that_stands_already(burnish: Command, recipe: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("model: x\n")
    refused(burnish("train", recipe(), f"run={run}"), f"{run} already holds a run", f"burnish resume {run}", "--overwrite")
    (run / "recipe.yaml").rename(run / "notes.txt")
    refused(burnish("train", recipe(), f"run={run}", "--overwrite"), "exists and is not a run: it is left alone")
    assert (run / "notes.txt").is_file()


def test_a_folder_where_a_recipe_is_expected(burnish: Command, tmp_path: Path) -> None:
    refused(burnish("train", tmp_path), str(tmp_path))


def test_a_model_that_is_not_there(burnish: Command, recipe: Any, tiny_bert: Path) -> None:
    refused(burnish("train", recipe(model=str(tiny_bert.parent / "tiny-brt"))), "tiny-brt does not exist - did you mean `tiny-bert`?")
    refused(burnish("train", recipe(model="starter:minlm")), "there is no starter `minlm` - did you mean `minilm`?")
    refused(burnish("train", recipe(model=str(tiny_bert.parent))), "holds no config.json: give the folder of a whole model")


def test_half_a_weights_file(burnish: Command, recipe: Any, tiny_bert: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bert, tmp_path / "half"))
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[: len(data) // 2])
    refused(burnish("train", recipe(model=str(copy))), str(copy), "damaged or half written", "Copy or download it again")


def test_pickled_weights(burnish: Command, recipe: Any, tiny_bert: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bert, tmp_path / "pickled"))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refused(burnish("train", recipe(model=str(copy))), str(copy), "pickled weights only (.bin)", "Convert them to safetensors")


def test_a_model_with_code_of_its_own(burnish: Command, recipe: Any, tiny_bert: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bert, tmp_path / "foreign"))
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "foreign", "auto_map": {"AutoConfig": "code.Config"}}
    (copy / "config.json").write_text(json.dumps(config))
    refused(burnish("train", recipe(model=str(copy))), str(copy), "model.trust_remote_code=true")


def test_a_hub_model_that_cannot_be_reached(burnish: Command, recipe: Any) -> None:
    refused(burnish("train", recipe(model="nobody/no-such-model")), "nobody/no-such-model", "the hub cannot be reached")


def test_a_hub_data_set_that_cannot_be_reached(burnish: Command, recipe: Any) -> None:
    refused(burnish("train", recipe(data_train="hub:nobody/nothing:train")), "hub:nobody/nothing:train cannot be loaded")


def test_settings_that_the_model_cannot_follow(burnish: Command, recipe: Any) -> None:
    refused(burnish("train", recipe(), "data.max_length=65"), "`data.max_length`: 65 tokens are more than", "64")
    refused(burnish("train", recipe(), "method={name: freeze, blocks: 3}"), "3 blocks cannot be frozen, the model has 2")
    refused(burnish("train", recipe(), "method={name: lora, target: [qeury]}"), "did you mean `query`?")


def test_a_device_that_is_not_there(burnish: Command, recipe: Any) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    refused(burnish("train", recipe(), "train.device=cuda"), "train.device=cuda: this machine has no such device", "auto or cpu")


@pytest.mark.parametrize("command", ["resume", "evaluate", "predict", "report"])
def test_what_is_no_run(burnish: Command, command: str, tmp_path: Path) -> None:
    refused(burnish(command, tmp_path / "nothing"), f"{tmp_path / 'nothing'} is not a run: there is no such folder")
    refused(burnish(command, tmp_path), "is not a run: there is no recipe.yaml in it")


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_run_that_is_not_finished(burnish: Command, command: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model: x\n")
    refused(burnish(command, tmp_path), "the run is not finished", f"burnish resume {tmp_path}")


@pytest.mark.parametrize("words", [["trian"], ["train"], ["train", "r.yaml", "--fast"], ["predict"]])
def test_usage_errors_are_exit_code_2_too(burnish: Command, words: list[str]) -> None:
    told = burnish(*words)
    assert told.code == 2 and "Usage:" in told.err and "Traceback" not in told.err


def test_the_process_itself_ends_with_code_2(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "burnish", "train", "no.yaml"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "burnish: the recipe no.yaml does not exist\n"


# The guard


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def test_the_guard_gives_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.guarded(lambda: None) == 0
    assert cli.guarded(raising(BurnishError("what and how"))) == 2
    assert capsys.readouterr().err == "burnish: what and how\n"
    assert cli.guarded(raising(Interrupted("saved", 15))) == 143
    assert cli.guarded(raising(KeyboardInterrupt())) == 130
    assert cli.guarded(raising(OSError(28, "No space left on device"))) == 2
    assert "the disk is full" in capsys.readouterr().err


def test_a_fault_of_burnish_itself_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.guarded(raising(ZeroDivisionError()))


# Commands that need no model


def test_help_names_every_command(burnish: Command) -> None:
    told = burnish("--help")
    assert told.code == 0
    for command in ("train", "resume", "evaluate", "predict", "report", "init", "schema", "list"):
        assert f"  {command} " in told.out
        assert burnish(command, "--help").code == 0


def test_list(burnish: Command) -> None:
    told = burnish("list")
    assert told.code == 0
    for word in (
        "tasks",
        "classify",
        "methods",
        "lora",
        "freeze",
        "optimizers",
        "adamw",
        "schedules",
        "cosine",
        "starter:minilm",
        "bundled:messages-train",
    ):
        assert word in told.out


def test_schema_is_json(burnish: Command) -> None:
    schema = json.loads(burnish("schema").out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["required"] == ["model", "task", "data"]


def test_init_writes_a_recipe_that_loads(burnish: Command, rows_csv: Path, tiny_bert: Path) -> None:
    from burnish.recipe import load

    told = burnish("init", rows_csv, "--model", tiny_bert)
    assert told.code == 0 and "burnish train rows.yaml" in told.out
    recipe = load("rows.yaml")
    assert (recipe.task.text, recipe.task.label) == ("text", "label")
    before = Path("rows.yaml").read_text()
    refused(burnish("init", rows_csv, "--model", tiny_bert), "rows.yaml exists", "--output", "--overwrite")
    assert Path("rows.yaml").read_text() == before
    assert burnish("init", rows_csv, "--overwrite", "--model", tiny_bert).code == 0
    assert burnish("init", rows_csv, "-o", "other.yaml", "--model", tiny_bert).code == 0
    assert Path("other.yaml").read_text() == before


def test_init_errors(burnish: Command, rows_csv: Path) -> None:
    refused(burnish("init", "no-such.csv"), "the file no-such.csv does not exist")
    refused(burnish("init", rows_csv, "--task", "clasify"), "there is no task `clasify` - did you mean `classify`?")
    refused(burnish("init", rows_csv, "-o", "/proc/x.yaml"), "Writing /proc/x.yaml failed")


# A whole run, seen from the command line


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A run of two steps on eight rows."""
    import burnish as library

    folder = tmp_path_factory.mktemp("cli")
    data = write_csv(folder / "rows.csv", *SOUND * 2)
    raw = {
        "model": str(tiny_bert),
        "task": "classify",
        "data": {"train": data, "validation": "50%"},
        "train": {"duration": "2st", "batch_size": 4},
        "run": str(folder / "run"),
    }
    return library.train(raw).path


def test_predict_from_standard_input(burnish: Command, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('It is lovely\n\n{"text": "broken", "id": 7}\n'))
    told = burnish("predict", finished)
    assert told.code == 0, told.err
    first, second = map(json.loads, told.out.splitlines())
    assert first["text"] == "It is lovely" and second["id"] == 7
    assert set(first["probabilities"]) == {"complaint", "praise"}
    assert sum(first["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_predict_from_file_to_file(burnish: Command, finished: Path, rows_csv: Path, ending: str) -> None:
    told = burnish("predict", finished, rows_csv, "-o", f"out/found.{ending}")
    assert told.code == 0 and f"48 predictions in out/found.{ending}" in told.out
    with Path(f"out/found.{ending}").open(newline="", encoding="utf-8") as stream:
        records = list(csv.DictReader(stream)) if ending == "csv" else [json.loads(line) for line in stream]
    assert len(records) == 48
    assert records[1]["given_label"] == "complaint" and records[1]["label"] in ("praise", "complaint")
    if ending == "csv":
        assert float(records[0]["probability_praise"]) + float(records[0]["probability_complaint"]) == pytest.approx(1)


def test_predict_as_a_table(burnish: Command, finished: Path, rows_csv: Path) -> None:
    told = burnish("predict", finished, rows_csv, "--table")
    assert told.code == 0 and "score" in told.out and "probabilities" not in told.out


def test_predict_errors(burnish: Command, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = write_csv(tmp_path / "wrong.csv", ("a", "b"), header=("txt", "label"))
    refused(burnish("predict", finished, wrong), "wrong.csv has no column `text` - did you mean `txt`?")
    holes = write_csv(tmp_path / "holes.csv", ("a", "b"), ("", "b"))
    refused(burnish("predict", finished, holes), "holes.csv row 2 (line 3): the text in `text` is empty")
    refused(burnish("predict", finished, holes, "-o", "found.xlsx"), ".jsonl or .csv")
    refused(burnish("predict", finished, write_csv(tmp_path / "good.csv", ("a", "b")), "-o", "/proc/x.csv"), "Writing /proc/x.csv failed")


def test_evaluate_on_a_part_and_on_a_file(burnish: Command, finished: Path, rows_csv: Path) -> None:
    told = burnish("evaluate", finished)
    assert told.code == 0 and "validation, 4 rows" in told.out and "accuracy" in told.out
    told = burnish("evaluate", finished, Path("..") / rows_csv.name)
    assert told.code == 0 and "../rows.csv, 48 rows" in told.out
    assert json.loads((finished / "evaluations" / "of-rows.json").read_text())["rows"] == 48
    refused(burnish("evaluate", finished, "--part", "test"), "has no test rows")


def test_evaluate_errors(burnish: Command, finished: Path, tmp_path: Path) -> None:
    strange = write_csv(tmp_path / "strange.csv", ("a", "prais"))
    refused(burnish("evaluate", finished, strange), "strange.csv row 1 (line 2)", "did you mean `praise`?")
    refused(burnish("evaluate", finished, tmp_path / "no.csv"), "does not exist")
    refused(burnish("evaluate", finished, "--part", "tset"), "tset")


def test_resume_of_a_finished_run_says_so(burnish: Command, finished: Path) -> None:
    told = burnish("resume", finished)
    assert told.code == 0 and "there is nothing to resume" in told.out and "report: " in told.out


def test_report_is_written_again(burnish: Command, finished: Path) -> None:
    (finished / "report" / "index.html").unlink()
    assert burnish("report", finished).code == 0
    assert (finished / "report" / "index.html").is_file()


def test_train_prints_what_it_came_to(burnish: Command, recipe: Any, tmp_path: Path) -> None:
    told = burnish("train", recipe(), f"run={tmp_path / 'whole'}")
    assert told.code == 0, told.err
    for word in (
        "validation, 12 rows",
        "accuracy",
        "samples/s",
        "FLOPs",
        "peak memory",
        f"report: {tmp_path / 'whole' / 'report' / 'index.html'}",
    ):
        assert word in told.out
    assert "Traceback" not in told.err


# burnish data show


def test_rows_are_shown_as_the_model_gets_them(burnish: Command, recipe: Any, tmp_path: Path) -> None:
    told = burnish("data", "show", recipe(), "data.max_length=8", "--rows", 2, "--html", "page.html")
    assert told.code == 0, told.err
    for word in (
        "train (rows.csv): 36 rows, 36 examples of at most 8 tokens",
        "rows too long",
        "[CLS] ",
        "~",
        "target: ",
        "page: page.html",
    ):
        assert word in told.out, word
    assert told.out.count("target: ") == 2 and "\x1b" not in told.out
    assert "What the model gets" in Path("page.html").read_text(encoding="utf-8")
    refused(burnish("data", "show", recipe(), "--row", 999), "there is no row 999 among the 36 train rows")
    refused(burnish("data", "show", recipe(), "data.max_lenght=8"), "did you mean `max_length`?")


def test_rows_without_anything_supervised_are_shown_before_they_are_refused(
    burnish: Command, recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from burnish.report.tokens import Shown, ShownExample, Summary

    found = Shown(
        "m", "t", Summary("train", "f", 8, 1, 1, 3, 0, {}, 0, 1), [ShownExample("f row 1", [])], (), "nothing is supervised in f row 1"
    )
    monkeypatch.setattr("burnish.run.showing.show", lambda *given: found)
    told = burnish("data", "show", recipe())
    assert told.code == 2 and "f row 1: 0 tokens, 0 supervised  nothing supervised" in told.out
    assert told.err == "burnish: nothing is supervised in f row 1\n"


# burnish tokenizer train


def test_a_tokenizer_is_trained_and_opens_like_any(burnish: Command) -> None:
    from transformers import AutoTokenizer

    told = burnish("tokenizer", "train", "bundled:messages-train", "bundled:journal-validation", "--size", 600, "-o", "pieces")
    assert told.code == 0 and "600 tokens learned from" in told.out and "0.00% unknown" in told.out
    tokenizer = AutoTokenizer.from_pretrained("pieces")
    text = "Où est « l’œuvre » de l'été ?\n Deux\u202f!"
    assert len(tokenizer) == 600 and tokenizer.decode(tokenizer(text)["input_ids"]) == text
    again = burnish("tokenizer", "train", "bundled:messages-train", "-o", "pieces")
    assert again.code == 2 and "--overwrite" in again.err
    assert (
        burnish("tokenizer", "train", "bundled:messages-train", "--column", "text", "--size", 500, "-o", "pieces", "--overwrite").code == 0
    )
    assert len(AutoTokenizer.from_pretrained("pieces")) == 500


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--kind", "bep"], "there is no kind of tokenizer `bep` - did you mean `bpe`?"),
        (["--size", "20"], "256 bytes"),
        (["--column", "txt"], "no column `txt` - did you mean `text`?"),
    ],
)
def test_what_is_wrong_with_a_tokenizer_is_told(burnish: Command, words: list[str], reason: str) -> None:
    told = burnish("tokenizer", "train", "bundled:messages-train", "-o", "pieces", *words)
    assert told.code == 2 and reason in told.err and not Path("pieces").exists()
