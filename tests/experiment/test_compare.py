"""A comparison from beginning to end: nothing runs twice, the test rows are opened last, and the numbers are those of the runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from burnish.core.errors import BurnishError, DataError, NonFiniteError, RunError
from burnish.core.rundir import RunFolder
from burnish.engine.events import Noted, OfSeveral, RunBegan, RunEnded
from burnish.experiment.compare import comparing, planned
from burnish.experiment.compare.results import front
from burnish.experiment.crew import Job, Outcome
from burnish.recipe import load
from burnish.run import train

VARY = ["method=full,head"]


@pytest.fixture
def recipe(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> Path:
    """A recipe of four steps with a file of 40 test rows."""
    lines = [f"The kettle is {word} as of day {number},praise" for number, word in enumerate(["great", "lovely", "late", "perfect"] * 5)]
    lines += [f"My parcel was {word} on day {number},complaint" for number, word in enumerate(["broken", "awful", "happy", "late"] * 5)]
    (tmp_path / "test.csv").write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    raw = {
        "model": str(tiny_bert),
        "task": "classify",
        "data": {"train": str(rows_csv), "validation": "25%", "test": str(tmp_path / "test.csv")},
        "optimizer": {"lr": 0.01},
        "train": {"duration": "4st", "batch_size": 8, "device": "cpu", "save_every": "1st"},
    }
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, quick: None, tmp_path: Path) -> Path:
    """Jobs are done in this process, and runs are looked for in a folder of the test."""

    def carry_out(jobs: Sequence[Job], number: int, tell: Callable[[OfSeveral], None], over: Callable[[Outcome], None]) -> None:
        for place, job in enumerate(jobs, start=1):
            tell(RunBegan(job.name, place, len(jobs), number))
            try:
                over(Outcome(job, job.function(*job.arguments, lambda event: None), None, 1.0))
            except BurnishError as error:
                over(Outcome(job, None, str(error), 1.0, isinstance(error, NonFiniteError), isinstance(error, DataError)))

    monkeypatch.setattr(comparing, "carry_out", carry_out)
    monkeypatch.setattr(comparing, "SHELF", tmp_path / "runs")
    return tmp_path


def watching(hook: Callable[[str, tuple[Any, ...]], None]) -> None:
    """Audit hooks of Python see every file that is opened; they cannot be taken away."""
    sys.addaudithook(lambda event, arguments: hook(event, arguments) if event == "open" else None)


def begun(told: Sequence[OfSeveral]) -> list[str]:
    return [event.name for event in told if isinstance(event, RunBegan)]


def test_it_is_what_the_runs_say_and_nothing_runs_twice(recipe: Path, here: Path) -> None:
    told: list[OfSeveral] = []
    folder = comparing.compare(planned([recipe], VARY, seeds="2"), None, 1, told.append)
    assert begun(told) == ["full, seed 0", "head, seed 0", "full, seed 1", "head, seed 1", "test rows"]
    content = json.loads((folder / "comparison.json").read_text())
    assert (content["kind"], content["part"], content["rows"], content["baseline"], content["finished"]) == (
        "comparison",
        "test",
        40,
        "full",
        True,
    )
    full, head = content["systems"]
    assert [run["path"] for run in head["runs"]] == ["runs/head/seed-0", "runs/head/seed-1"] and not any(
        run["reused"] for run in head["runs"]
    )
    scores = [[run["metrics"]["accuracy"] for run in system["runs"]] for system in (full, head)]
    for system, own in zip((full, head), scores, strict=True):
        assert system["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(own))
        assert system["metrics"]["accuracy"]["sd"] == pytest.approx(np.std(own, ddof=1))
        assert 0 <= system["metrics"]["accuracy"]["low"] <= system["metrics"]["accuracy"]["high"] <= 1
    assert head["difference"]["mean"] == pytest.approx(np.mean(scores[1]) - np.mean(scores[0])) and full["difference"] is None
    assert set(head["differences"]) == {"loss", "accuracy", "macro_f1", "mcc"} and len(head["difference"]["mcnemar"]) == 2
    assert head["trainable"] < full["trainable"] == full["total"] and head["seconds"]["mean"] > 0 and head["peak_memory"]["mean"] > 0
    assert (folder / "report" / "index.html").is_file() and len((folder / "rows.jsonl").read_text().splitlines()) == 40
    again: list[OfSeveral] = []
    assert comparing.compare(planned([recipe], VARY, seeds="2"), None, 1, again.append) == folder
    assert begun(again) == []
    more: list[OfSeveral] = []
    comparing.compare(planned([recipe], VARY, seeds="3"), None, 1, more.append)
    assert begun(more) == ["full, seed 2", "head, seed 2", "test rows"]


def test_runs_that_were_made_before_are_taken_where_they_are(recipe: Path, here: Path) -> None:
    own = train(load(recipe, ["method=head", f"run={here / 'runs' / 'own'}"]))
    told: list[OfSeveral] = []
    folder = comparing.compare(planned([recipe], VARY, seeds="1"), here / "c", 1, told.append)
    assert begun(told) == ["full, seed 0", "test rows"]
    run = json.loads((folder / "comparison.json").read_text())["systems"][1]["runs"][0]
    assert run["path"] == str(own.path) and run["reused"] is True
    content = json.loads((folder / "comparison.json").read_text())
    assert any("one seed" in warning for warning in content["warnings"]) and content["systems"][1]["metrics"]["accuracy"]["sd"] is None


def test_the_test_file_is_read_after_all_runs_are_there(recipe: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish.data import sources

    read, opened = sources.read, list[int]()

    def watched(source: str) -> Any:
        if source.endswith("test.csv"):
            opened.append(len(list((here / "c").glob("runs/*/*/summary.json"))))
        return read(source)

    monkeypatch.setattr(sources, "read", watched)
    comparing.compare(planned([recipe], VARY, seeds="2"), here / "c")
    assert opened and set(opened) == {4}


def test_nothing_looks_into_the_test_file_before(recipe: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a digest either: whoever plans and trains never opens it, in any way."""
    opened, told = list[str](), list[str]()

    def watched(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith("test.csv"):
            opened.append(told[-1] if told else "plan")

    def tell(event: OfSeveral) -> None:
        told.append(event.name if isinstance(event, RunBegan) else type(event).__name__)

    watching(watched)
    comparing.compare(planned([recipe], VARY, seeds="1"), here / "c", 1, tell)
    assert opened and set(opened) <= {"Noted", "test rows", "RunEnded"} and "head, seed 0" in told
    assert "head, seed 0" not in opened and "plan" not in opened and opened[0] == "RunEnded"


def test_test_files_of_one_size_are_compared_when_they_are_opened(recipe: Path, here: Path) -> None:
    raw = yaml.safe_load(recipe.read_text())
    other = here / "test2.csv"
    other.write_text((here / "test.csv").read_text().replace("great", "crass"))
    raw["data"]["test"] = str(other)
    second = here / "second.yaml"
    second.write_text(yaml.safe_dump({**raw, "method": "head"}))
    with pytest.raises(DataError, match="different test rows"):
        comparing.compare(planned([recipe, second], seeds="1"), here / "c")
    assert len(list((here / "c").glob("runs/*/seed-0/summary.json"))) == 2
    other.write_text((here / "test.csv").read_text())
    comparing.compare(planned([recipe, second], seeds="1"), here / "c")


def test_test_rows_that_cannot_be_used_are_told_and_the_runs_are_kept(recipe: Path, here: Path) -> None:
    test = here / "test.csv"
    good = test.read_text()
    test.write_text("text,label\nsomething,unheard of\n")
    with pytest.raises(DataError, match="the test rows cannot be used"):
        comparing.compare(planned([recipe], VARY, seeds="1"), here / "c")
    test.write_text(good)
    told: list[OfSeveral] = []
    comparing.compare(planned([recipe], VARY, seeds="1"), here / "c", 1, told.append)
    assert begun(told) == ["test rows"]
    test.write_text(good.replace("late,praise", "late,complaint") + "One parcel more,praise\n")
    told.clear()
    comparing.compare(planned([recipe], VARY, seeds="1"), here / "c", 1, told.append)
    assert begun(told) == ["test rows"], "other test rows: measured again"
    assert json.loads((here / "c" / "comparison.json").read_text())["rows"] == 41


def test_a_run_that_fails_does_not_stop_the_others_and_is_not_run_again(recipe: Path, here: Path) -> None:
    plan = planned([recipe], ["optimizer.lr=0.01,1e30"], ["train.max_grad_norm=null", "schedule=constant"], seeds="1")
    told: list[OfSeveral] = []
    folder = comparing.compare(plan, here / "c", 1, told.append)
    content = json.loads((folder / "comparison.json").read_text())
    good, bad = content["systems"]
    assert good["metrics"]["accuracy"]["mean"] >= 0 and bad["metrics"] == {} and bad["difference"] is None
    assert "not finite" in bad["runs"][0]["failed"] or "NaN" in bad["runs"][0]["failed"] or "nan" in bad["runs"][0]["failed"]
    assert any("failed" in warning for warning in content["warnings"])
    again: list[OfSeveral] = []
    comparing.compare(plan, here / "c", 1, again.append)
    assert begun(again) == [] and [event.how for event in again if isinstance(event, RunEnded)] == ["failed"]


def test_where_every_run_fails_there_is_nothing_to_compare(recipe: Path, here: Path) -> None:
    plan = planned([recipe], ["optimizer.lr=1e29,1e30"], ["train.max_grad_norm=null", "schedule=constant"], seeds="1")
    with pytest.raises(RunError, match="every run failed"):
        comparing.compare(plan, here / "c")


def test_a_folder_that_holds_something_else_is_left_alone(recipe: Path, here: Path) -> None:
    (here / "c").mkdir()
    (here / "c" / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="no comparison"):
        comparing.compare(planned([recipe], VARY, seeds="1"), here / "c")


def test_the_front_is_what_no_other_beats() -> None:
    def system(name: str, quality: float, seconds: float) -> dict[str, Any]:
        return {"name": name, "metrics": {"q": {"mean": quality}}, "seconds": {"mean": seconds}}

    systems = [system("slow best", 0.9, 9), system("quick", 0.7, 1), system("beaten", 0.6, 2), system("equal", 0.7, 1)]
    assert front([*systems, {"name": "none", "metrics": {}, "seconds": {"mean": 1}}], "q", True) == ["slow best", "quick", "equal"]
    assert front(systems, "q", False) == ["quick", "beaten", "equal"]


SCRIPT = """
import sys
from burnish.engine.events import OfRun, RunBegan
from burnish.experiment.compare import compare, planned
from pathlib import Path

def tell(event):
    name = event.name + " " if isinstance(event, OfRun) else ""
    print("began " + event.name if isinstance(event, RunBegan) else name + type(getattr(event, "event", event)).__name__, flush=True)

if __name__ == "__main__":
    compare(planned([sys.argv[1]], ["method=full,head"], sys.argv[3:], seeds="1"), Path(sys.argv[2]), 1, tell)
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_runs_nothing_twice(recipe: Path, tmp_path: Path) -> None:
    """In real processes: kill -9 while the second run trains; what it has done by then is not done again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # Small blocks, but steps enough that the kill comes in the middle of them.
    command = [
        sys.executable,
        str(script),
        str(recipe),
        str(tmp_path / "c"),
        "train.duration=120st",
        "train.save_every=20st",
        "train.evaluate_every=120st",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = {name: RunFolder(tmp_path / "c" / "runs" / name / "seed-0") for name in ("full", "head")}
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(runs["head"].checkpoints.glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert runs["full"].finished and not runs["head"].finished
    time.sleep(1.0)
    lines = {name: run.metrics.read_text().splitlines() for name, run in runs.items()}
    time.sleep(0.5)
    assert runs["head"].metrics.read_text().splitlines() == lines["head"], "no process trains on behind the back of the next"
    second = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=150, check=True)
    assert [line for line in second.stdout.splitlines() if line.startswith("began")] == ["began head, seed 0", "began test rows"]
    assert runs["full"].metrics.read_text().splitlines() == lines["full"]
    after = runs["head"].metrics.read_text().splitlines()
    assert after[:20] == lines["head"][:20], "the steps before the last checkpoint stand as they were"
    steps = [line["step"] for line in runs["head"].read_metrics() if "grad_norm" in line]
    assert steps == list(range(1, 121))
    assert json.loads((tmp_path / "c" / "comparison.json").read_text())["finished"] is True


def test_notes_say_how_much_is_there(recipe: Path, here: Path) -> None:
    comparing.compare(planned([recipe], VARY, seeds="1"), here / "c")
    told: list[OfSeveral] = []
    comparing.compare(planned([recipe], VARY, seeds="1"), here / "c", 1, told.append)
    assert told == [Noted("2 of 2 runs are there already")]
