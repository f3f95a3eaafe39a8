"""Runs that are there already, side by side: grouped by all but the seed, refused where they do not measure the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from burnish import cli
from burnish.core.errors import BurnishError, RunError
from burnish.core.rundir import RunFolder
from burnish.experiment.compare.gathering import bare, gather, names
from burnish.recipe import Recipe
from burnish.run import train

BARE = {"model": "starter:minilm", "task": {"name": "classify"}, "data": {"train": "a.csv"}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> dict[str, Path]:
    """Two systems, the first with two seeds, and a run on other rows."""
    folder = tmp_path_factory.mktemp("gathering")
    for name, size in (("train", 16), ("test", 24), ("other", 8)):
        lines = [
            f"The kettle is {word} on day {day},{label}" for day in range(size // 2) for word, label in (("great", "good"), ("late", "bad"))
        ]
        (folder / f"{name}.csv").write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")

    def trained(name: str, test: str = "test", **changes: Any) -> Path:
        data = {"train": str(folder / "train.csv"), "validation": "25%", "test": str(folder / f"{test}.csv")}
        raw = {"model": str(tiny_bert), "task": "classify", "data": data, "run": str(folder / name), "engine": {"forecast": False}}
        settings = {"duration": "2st", "batch_size": 8, "device": "cpu", "seed": changes.pop("seed", 0)}
        return train({**raw, "train": settings, **changes}).path

    return {
        "full-0": trained("full-0"),
        "full-1": trained("full-1", seed=1),
        "head-0": trained("head-0", method="head"),
        "apart": trained("apart", test="other", method="head"),
    }


def test_runs_are_grouped_by_all_but_their_seed(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = gather([runs["head-0"], runs["full-0"], runs["full-1"]], tmp_path / "out", baseline="full")
    content = json.loads((folder / "comparison.json").read_text())
    assert {system["name"]: [run["seed"] for run in system["runs"]] for system in content["systems"]} == {"head": [0], "full": [0, 1]}
    assert content["baseline"] == "full" and content["part"] == "test" and content["rows"] == 24 and content["finished"]
    scores = {name: RunFolder(path).read("evaluations/test.json")["metrics"]["accuracy"] for name, path in runs.items()}
    means = {system["name"]: system["metrics"]["accuracy"]["mean"] for system in content["systems"]}
    assert means == pytest.approx({"head": scores["head-0"], "full": (scores["full-0"] + scores["full-1"]) / 2})
    head = next(system for system in content["systems"] if system["name"] == "head")
    assert head["difference"]["mean"] == pytest.approx(scores["head-0"] - scores["full-0"]), "paired by seed"
    texts = [json.loads(line)["text"] for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len(texts) == 24 and texts[1] == "The kettle is late on day 0"


def test_runs_that_do_not_measure_the_same_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BurnishError, match="cannot be compared, their test rows differ"):
        gather([runs["full-0"], runs["apart"]], tmp_path / "out")
    with pytest.raises(BurnishError, match="are the same run twice"):
        gather([runs["full-0"], shutil.copytree(runs["full-0"], tmp_path / "copy")], tmp_path / "out")
    half = shutil.copytree(runs["full-0"], tmp_path / "half")
    (half / "summary.json").unlink()
    with pytest.raises(RunError, match=r"only finished runs can be compared(.|\n)*half"):
        gather([runs["head-0"], half], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_without_test_results_are_compared_on_validation(runs: dict[str, Path], tmp_path: Path) -> None:
    closed = shutil.copytree(runs["full-1"], tmp_path / "closed")
    (closed / "evaluations" / "test.json").unlink()
    content = json.loads((gather([runs["head-0"], closed], tmp_path / "out") / "comparison.json").read_text())
    assert content["part"] == "validation" and any("has not been measured on test rows" in warning for warning in content["warnings"])


def test_names_are_of_what_differs() -> None:
    lora = {"method": {"name": "lora", "r": 8}, "optimizer": {"name": "adamw", "lr": 0.1}}
    assert names([lora, {**lora, "optimizer": {"name": "adamw", "lr": 0.2}}]) == ["lr=0.1", "lr=0.2"]
    assert names([lora, {**lora, "method": {"name": "full"}}]) == ["lora", "full"]
    assert names([{**lora, "model": {"name": "/a/b/bert"}}, {**lora, "model": {"name": "/a/c/gpt"}}]) == ["bert", "gpt"]
    assert names([lora]) == ["lora"]
    student = {**lora, "model": {"name": "bert", "layers": [0, 3]}}
    assert names([{**lora, "model": {"name": "bert", "layers": None}}, student]) == ["lora", "layers=[0, 3]"], (
        "nothing is said of what is off"
    )
    assert bare(Recipe.model_validate({**BARE, "engine": {"forecast": False}})) == bare(Recipe.model_validate(BARE))


def test_report_of_several_runs_from_the_command_line(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def burnish(*words: object) -> int:
        return cli.guarded(lambda: cli.app([str(word) for word in words], standalone_mode=False))

    pair = [runs["full-0"], runs["head-0"]]
    assert burnish("report", *pair, "--slides") == 0
    folder = tmp_path / "runs" / "report-classify-full-head-1"
    assert capsys.readouterr().out.startswith(f"report: {folder / 'report' / 'index.html'}\nslides: ")
    assert gather(pair) == folder, "the same runs go to the same folder"
    assert sorted(path.name for path in (folder / "report").iterdir()) == ["index.html", "slides.pptx", "slides.yaml"]
    assert burnish("report", runs["full-0"], folder) == 2
    assert "is a comparison, which is reported by itself" in capsys.readouterr().err
    assert burnish("report", runs["full-0"], "--baseline", "full") == 2
    assert "are for several runs" in capsys.readouterr().err


def test_a_sweep_that_has_not_ended_is_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trials" / "000").mkdir(parents=True)
    assert cli.guarded(lambda: cli.app(["report", str(tmp_path)], standalone_mode=False)) == BurnishError("").exit_code
    assert "is a sweep that has not ended" in capsys.readouterr().err
