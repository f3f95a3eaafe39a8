"""`burnish check` finds what is planted in recipes, rows, labels and parts: by the line, the rows that it names, and the exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burnish.experiment.check.inspect import NAMES

pytestmark = pytest.mark.usefixtures("quick")
Plant = Callable[..., dict[str, Any]]
Texts = Callable[..., list[str]]
Check = Callable[..., Any]


def labelled(texts: list[str]) -> list[dict[str, Any]]:
    return [{"text": text, "label": ("praise", "complaint")[number % 2]} for number, text in enumerate(texts)]


def test_a_sound_recipe_passes(plant: Plant, check: Check, tmp_path: Path) -> None:
    done = check(plant(), "--hoped", "20")
    assert (done.code, done.failing(), done.found["passed"]) == (0, [], True), done.out
    assert [each["name"] for each in done.found["checks"]] == list(NAMES)
    assert {each["state"] for each in done.found["checks"]} == {"pass", "left out"}, done.out
    assert "[CLS]" in done.out and "target: praise" in done.out, "rows are shown as the model gets them"
    assert not (tmp_path / "run").exists()


def test_a_test_file_is_not_opened(plant: Plant, check: Check, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("this is no table of rows")
    done = check(plant(data={"test": str(tmp_path / "test.csv")}))
    assert done.code == 0 and "the test file is there and stays closed" in done.out


def test_a_misspelt_key_and_an_unknown_method_are_told_at_once(plant: Plant, check: Check) -> None:
    done = check(plant(train={"sed": 1}, method={"name": "lroa"}))
    assert done.code == 1 and done.failing() == ["config"]
    assert "did you mean `seed`" in done.out and "there is no `lroa`" in done.told("config")
    assert done.line("lengths")["seen"] == "not looked at: mend `config` first"


def test_a_recipe_with_ranges_is_looked_at_in_their_middle(plant: Plant, check: Check) -> None:
    ranges = {"optimizer": {"lr": {"log": [1e-5, 1e-3]}}, "method": {"choice": ["head", "full"]}, "sweep": {"trials": 3}}
    done = check(plant(**ranges))
    assert done.code == 0 and "one point is looked at: " in done.line("config")["seen"], done.out
    assert "optimizer.lr=0.0001" in done.line("config")["seen"] and "method=head" in done.line("config")["seen"]
    assert done.line("learning rate")["measured"]["lr"] == pytest.approx(1e-4)
    wrong = check(plant(optimizer={"lr": {"log": [1e-3, 1e-5]}}))
    assert wrong.failing() == ["config"] and "optimizer.lr" in wrong.told("config")


def test_a_recipe_that_cannot_be_read_gives_exit_code_2(tmp_path: Path) -> None:
    from burnish import cli

    assert cli.guarded(lambda: cli.app(["check", str(tmp_path / "none.yaml")], standalone_mode=True)) == 2


def test_a_missing_column(plant: Plant, check: Check) -> None:
    done = check(plant(task={"label": "lable"}))
    assert done.code == 1 and "no column `lable` - did you mean `label`" in done.told("rows and columns")


def test_a_missing_file(plant: Plant, check: Check, tmp_path: Path) -> None:
    done = check(plant(data={"validation": str(tmp_path / "validaton.jsonl")}))
    assert done.code == 1 and "did you mean `validation.jsonl`" in done.told("rows and columns")


def test_bad_rows_of_all_files_are_told_at_once_and_the_others_looked_at(plant: Plant, check: Check, texts: Texts) -> None:
    train, held = labelled(texts(60)), labelled(texts(24, seed=1))
    train[3]["text"], held[5]["label"] = "  ", ""
    done = check(plant(train, held))
    told = done.told("rows and columns")
    assert done.code == 1 and "train.jsonl row 4 (line 4)" in told and "validation.jsonl row 6 (line 6)" in told
    assert done.failing() == ["rows and columns"] and done.state("gradients") == "pass"


def test_an_unknown_label_in_validation(plant: Plant, check: Check, texts: Texts) -> None:
    held = labelled(texts(24, seed=1))
    held[2]["label"] = "prase"
    done = check(plant(held=held))
    assert done.code == 1 and "'prase' does not occur in training - did you mean `praise`" in done.told("task meets rows")
    assert done.state("gradients") == "pass", "training rows are looked at all the same"
    assert done.line("validation size")["measured"]["rows"] == 24, "the rows are held out, whatever their labels"


def test_one_label_only(plant: Plant, check: Check, texts: Texts) -> None:
    done = check(plant([{"text": text, "label": "praise"} for text in texts(60)]))
    assert done.code == 1 and "1 label in `label`" in done.told("task meets rows")


def test_a_rare_label_that_nobody_measures(plant: Plant, check: Check, texts: Texts) -> None:
    train = [*labelled(texts(60)), *({"text": text, "label": "question"} for text in texts(3, seed=2))]
    done = check(plant(train))
    assert (
        done.code == 0
        and "question (3)" in done.told("rare labels")
        and "no validation row has question" in done.told("labels in validation")
    )
    assert "WARN: rare labels" in done.out


@pytest.mark.parametrize("variant", ["Praise", "PRAISE", " praise  "])
def test_a_label_that_is_written_in_two_ways(plant: Plant, check: Check, texts: Texts, variant: str) -> None:
    train = labelled(texts(60))
    train[4]["label"] = variant
    done = check(plant(train))
    if variant.strip() == "praise":
        assert done.state("label names") == "pass", "blanks around a label are taken off"
    else:
        assert done.code == 1 and f"one label is written in 2 ways: '{variant}' (1), 'praise' (29)" in done.told("label names")


def test_a_label_that_is_misspelt_and_one_that_is_missing(plant: Plant, check: Check, texts: Texts) -> None:
    train = labelled(texts(60))
    train[5]["label"], train[6]["label"], train[8]["label"] = "complant", "NaN", "NaN"
    told = check(plant(train)).told("label names")
    assert "complant (1) looks like complaint (29) misspelt" in told and "is a label missing where it says 'NaN' (2)?" in told


def test_texts_that_hold_their_label(plant: Plant, check: Check, texts: Texts) -> None:
    train = [{**row, "text": f"{row['text']} {row['label']}."} for row in labelled(texts(60))]
    told = check(plant(train)).told("label in text")
    assert "60 rows of 60 (100%) hold the name of their own label, such as train.jsonl row 1" in told
    column = check(plant(task={"name": "classify", "text": "label", "label": "label"}))
    assert column.state("label in text") == "warn", "the label's column given as the text's"
    both = [{**row, "text": f"{row['text']} praise or complaint"} for row in labelled(texts(60))]
    assert check(plant(both)).state("label in text") == "pass"


def test_labels_that_are_none(plant: Plant, check: Check, texts: Texts) -> None:
    rows = [{"text": text, "label": f"order {number}"} for number, text in enumerate(texts(40))]
    done = check(plant(rows, rows[:10]))
    assert done.code == 1 and "40 labels in 40 rows: these are no labels but numbers" in done.told("label balance")


@pytest.mark.parametrize(("change", "state", "told"), [
    (lambda number: 3.0, "fail", "all 60 rows have the number 3"),
    (lambda number: 9e9 if number == 7 else number % 5, "warn", "1 number lies far from all others, such as 9e+09 in train.jsonl row 8"),
    (lambda number: number % 5, "pass", ""),
])  # fmt: skip
def test_numbers_to_be_learned(plant: Plant, check: Check, texts: Texts, change: Callable[[int], float], state: str, told: str) -> None:
    rows = [{"text": text, "label": change(number)} for number, text in enumerate(texts(60))]
    held = [{"text": text, "label": number % 5} for number, text in enumerate(texts(24, seed=1))]
    done = check(plant(rows, held, task={"name": "classify", "problem": "regression"}))
    assert done.state("label balance") == state and told in done.told("label balance")


def test_a_label_that_swamps_the_others(plant: Plant, check: Check, texts: Texts) -> None:
    train = [{"text": text, "label": "praise" if number % 20 else "complaint"} for number, text in enumerate(texts(80))]
    done = check(plant(train))
    assert done.state("label balance") == "warn" and "95% of the rows are praise" in done.told("label balance")


def test_a_rare_tag(plant: Plant, check: Check, texts: Texts, words: list[str]) -> None:
    rows = [{"text": text, "entities": [{"start": 0, "end": len(text.split()[0]), "label": "THING"}]} for text in texts(40)]
    rows[7]["entities"][0]["label"] = "PLACE"
    done = check(plant(rows, rows[30:], task={"name": "tag", "text": "text", "spans": "entities"}))
    assert "PLACE (1)" in done.told("rare labels") and "THING comes 39 times as often as PLACE" in done.told("label balance")


def test_rows_that_repeat_each_other(plant: Plant, check: Check, texts: Texts) -> None:
    train = labelled(texts(60))
    train.append({"text": train[4]["text"].upper() + "  ", "label": train[4]["label"]})
    done = check(plant(train))
    assert done.state("repeated rows") == "warn" and "1 row (1.64%) repeat another, such as train.jsonl row 61" in done.told(
        "repeated rows"
    )


def test_a_row_with_one_word_changed(plant: Plant, check: Check, texts: Texts) -> None:
    train = labelled(texts(60))
    changed = [*train[4]["text"].split()[:-1], "otherwise"]
    train.append({"text": " ".join(changed), "label": train[4]["label"]})
    done = check(plant(train))
    assert "train.jsonl row 61 (line 61) and train.jsonl row 5 (line 5) share 80% of their words" in done.told("repeated rows")
    assert done.line("repeated rows")["measured"] == {"rows": 61, "exact": 0, "near": 1}


def test_a_training_row_in_validation(plant: Plant, check: Check, texts: Texts) -> None:
    train = labelled(texts(60))
    done = check(plant(train, [*labelled(texts(24, seed=1)), train[8]]))
    assert done.code == 1 and "1 validation row of 25 (4%) stands in training too: validation.jsonl row 25" in done.told(
        "rows in two parts"
    )


def test_a_training_row_in_validation_with_one_word_changed(plant: Plant, check: Check, texts: Texts) -> None:
    train = labelled(texts(60))
    near = {**train[8], "text": "otherwise " + train[8]["text"].partition(" ")[2]}
    done = check(plant(train, [*labelled(texts(24, seed=1)), near]))
    assert done.state("rows in two parts") == "warn"
    assert "validation.jsonl row 25 (line 25) and train.jsonl row 9 (line 9) share" in done.told("rows in two parts")


def test_a_leak_by_small_edits(plant: Plant, check: Check, texts: Texts) -> None:
    train = labelled(texts(60))
    edited = [{**row, "text": "otherwise " + row["text"].partition(" ")[2]} for row in train[:10]]
    done = check(plant(train, [*labelled(texts(24, seed=1)), *edited]))
    assert done.code == 1 and "10 validation rows of 34 (29.4%) nearly stand in training" in done.told("rows in two parts")


def test_data_that_repeat_themselves_everywhere_leak_nothing(plant: Plant, check: Check, texts: Texts) -> None:
    """One row in ten of training is said again there, and one in twenty of validation in training: that is how headlines are."""
    train, held = labelled(texts(90)), labelled(texts(38, seed=1))
    done = check(plant([*train, *train[:10]], [*held, *train[:2]]))
    assert done.state("rows in two parts") == "warn" and "2 validation rows of 40 (5%) stand in training too" in done.told(
        "rows in two parts"
    )
    assert "rows in two parts" in check(plant(train, [*held, *train[:2]])).failing(), "where training repeats nothing, it is a leak"


def test_few_repeated_rows_are_told_in_passing(plant: Plant, check: Check, texts: Texts) -> None:
    rows = labelled(texts(1100, size=7))
    near = {**rows[4], "text": " ".join([*rows[4]["text"].split()[:-1], "otherwise"])}
    done = check(plant([*rows, near]))
    assert done.state("repeated rows") == "pass" and "1 row (0.0908%) nearly repeat another" in done.line("repeated rows")["seen"]


def test_a_training_row_in_a_share_cut_for_the_test(plant: Plant, check: Check, texts: Texts) -> None:
    rows = labelled(texts(60))
    done = check(plant([*rows, *rows], data={"validation": None, "test": "20%"}))
    assert done.code == 1 and "test rows of 24" in done.told("rows in two parts")


def test_contradicting_labels(plant: Plant, check: Check, texts: Texts) -> None:
    train = labelled(texts(60))
    train += [{"text": row["text"], "label": "praise" if row["label"] == "complaint" else "complaint"} for row in train[:3]]
    done = check(plant(train))
    assert done.code == 1 and "contradictions" in done.failing()
    assert "train.jsonl row 1 (line 1) (praise) and train.jsonl row 61 (line 61) (complaint)" in done.told("contradictions")


def test_a_validation_that_cannot_show_what_is_hoped_for(plant: Plant, check: Check) -> None:
    done = check(plant(data={"validation": 20}), "--hoped", "2")
    measured = done.line("validation size")["measured"]
    assert done.state("validation size") == "warn" and measured["rows"] == 20
    assert measured["standard_error"] == pytest.approx(100 * (0.8 * 0.2 / 20) ** 0.5) and measured["needed"] == 961
    assert "standard error 8.9 points" in done.out and "961 rows" in done.told("validation size")


def test_no_validation_at_all(plant: Plant, check: Check) -> None:
    done = check(plant(data={"validation": None}))
    assert done.code == 0 and "no rows are held out" in done.told("validation size")
