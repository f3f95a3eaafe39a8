"""The run folder: made whole, locked, written whole, read even where a kill has cut it off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.core import rundir
from burnish.core.errors import RunError
from burnish.core.rundir import RunFolder, next_free


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs" / "first", "model: x\n")


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.name.endswith(".part") or path.name.startswith(".first-")]


def test_create_makes_parents_and_holds_the_recipe(folder: RunFolder) -> None:
    assert folder.recipe.read_text() == "model: x\n"
    assert not folder.finished
    assert os.listdir(folder.path.parent) == ["first"]
    assert folder.path.stat().st_mode & 0o777 == 0o755


def test_create_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert RunFolder.create(tmp_path / "run", "a: 1\n").recipe.is_file()


def test_create_leaves_an_existing_run_alone_unless_told(folder: RunFolder) -> None:
    folder.write("summary.json", {"steps": 1})
    with pytest.raises(RunError, match=r"already holds a run.*burnish resume.*--overwrite"):
        RunFolder.create(folder.path, "model: y\n")
    assert folder.recipe.read_text() == "model: x\n"
    again = RunFolder.create(folder.path, "model: y\n", overwrite=True)
    assert again.recipe.read_text() == "model: y\n"
    assert not again.finished


def test_create_never_removes_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="is not a run: it is left alone"):
            RunFolder.create(tmp_path, "a: 1\n", overwrite)
    file = tmp_path / "thesis.txt"
    with pytest.raises(RunError, match="is not a run"):
        RunFolder.create(file, "a: 1\n", overwrite=True)
    assert file.read_text() == "years of work"


def test_create_where_nothing_can_be_written() -> None:
    with pytest.raises(RunError, match=r"Making the run folder /proc/x/y failed.*run=FOLDER"):
        RunFolder.create("/proc/x/y", "a: 1\n")


def test_create_leaves_nothing_behind_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rundir.os, "rename", full)
    with pytest.raises(RunError, match="the disk is full"):
        RunFolder.create(tmp_path / "run", "a: 1\n")
    assert os.listdir(tmp_path) == []


def test_open_names_the_nearest_run(folder: RunFolder, tmp_path: Path) -> None:
    assert RunFolder.open(folder.path).recipe == folder.recipe
    with pytest.raises(RunError, match="there is no such folder - did you mean `first`"):
        RunFolder.open(tmp_path / "runs" / "frist")
    with pytest.raises(RunError, match=r"there is no recipe\.yaml in it"):
        RunFolder.open(tmp_path)


HOLDER = """
import sys
from burnish.core.rundir import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_a_second_process_out_until_the_first_is_killed(folder: RunFolder) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        with pytest.raises(RunError, match=f"in use by process {holder.pid}"), folder.lock():
            pass
        with pytest.raises(RunError, match="in use by process"):
            RunFolder.create(folder.path, "a: 1\n", overwrite=True)
        assert folder.recipe.read_text() == "model: x\n"
    finally:
        holder.kill()
        holder.communicate()
    with folder.lock():
        assert (folder.path / ".lock").read_text() == str(os.getpid())


def test_writes_are_whole_and_read_again(folder: RunFolder) -> None:
    content = {"a": [1, float("nan"), (2.5, float("inf"))], "b": {"é": "ß"}}
    path = folder.write("evaluations/validation.json", content)
    assert folder.read("evaluations/validation.json") == {"a": [1, None, [2.5, None]], "b": {"é": "ß"}}
    assert "é" in path.read_text(encoding="utf-8")
    folder.write_lines("lines.jsonl", [{"x": 1}, {"x": float("nan")}])
    assert (folder.path / "lines.jsonl").read_text() == '{"x": 1}\n{"x": null}\n'
    assert leftovers(folder.path) == []
    assert folder.read("nowhere.json") is None


def test_a_failed_write_keeps_what_was_there(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("summary.json", {"steps": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rundir.os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full"):
        folder.write("summary.json", {"steps": 2})
    assert folder.read("summary.json") == {"steps": 1}
    assert leftovers(folder.path) == []


def test_a_damaged_file_is_named(folder: RunFolder) -> None:
    (folder.path / "summary.json").write_text('{"steps": ')
    with pytest.raises(RunError, match=r"summary\.json is damaged"):
        folder.read("summary.json")


def test_metrics_survive_a_tail_cut_within_a_character(folder: RunFolder) -> None:
    whole = [{"step": step, "text": "é" * step} for step in (1, 2, 3)]
    data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in whole).encode()
    for cut in range(len(data) + 1):
        folder.metrics.write_bytes(data[:cut])
        kept = folder.read_metrics()
        assert kept == whole[: len(kept)]
        assert len(kept) >= data[:cut].count(b"\n")
    folder.metrics.write_bytes(data[:-6])
    folder.rewind_metrics(3)
    assert [line["step"] for line in folder.read_metrics()] == [1, 2]
    assert folder.metrics.read_bytes().endswith(b"}\n")


def test_metrics_skip_what_is_no_record(folder: RunFolder) -> None:
    folder.metrics.write_text('12\n[1]\n{"no": 1}\n\n{"step": 4, "text": "a\u2028b"}\n', encoding="utf-8")
    assert folder.read_metrics() == [{"step": 4, "text": "a\u2028b"}]


def test_rewind_drops_what_came_later(folder: RunFolder) -> None:
    folder.metrics.write_text("".join(f'{{"step": {step}, "loss": 0.{step}}}\n' for step in range(6)))
    folder.rewind_metrics(3)
    assert [line["step"] for line in folder.read_metrics()] == [0, 1, 2, 3]
    folder.rewind_metrics(0)
    assert [line["step"] for line in folder.read_metrics()] == [0]


def test_rewind_drops_evaluations_that_will_come_again(folder: RunFolder) -> None:
    lines = [{"kind": kind, "step": step} for step in (1, 2, 3) for kind in ("step", "evaluation")]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder.rewind_metrics(2, evaluated=1)
    assert [(line["kind"], line["step"]) for line in folder.read_metrics()] == [("step", 1), ("evaluation", 1), ("step", 2)]


def test_rewind_begins_a_file_that_is_not_there(folder: RunFolder) -> None:
    folder.rewind_metrics(0)
    assert folder.metrics.read_bytes() == b""
    assert folder.read_metrics() == []


def test_replace_folder_is_all_or_nothing(folder: RunFolder) -> None:
    target = folder.checkpoints / "step-00000001"
    folder.replace_folder(target, lambda aside: (aside / "a").write_text("old") and None)

    def half(aside: Path) -> None:
        (aside / "a").write_text("new")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"the disk is full.*burnish resume"):
        folder.replace_folder(target, half)
    assert (target / "a").read_text() == "old"
    assert leftovers(folder.path) == []
    folder.replace_folder(target, lambda aside: (aside / "b").write_text("new") and None)
    assert [path.name for path in target.iterdir()] == ["b"]


def test_next_free(tmp_path: Path) -> None:
    assert next_free(tmp_path / "runs", "x") == tmp_path / "runs" / "x-1"
    (tmp_path / "x-1").mkdir()
    (tmp_path / "x-3").mkdir()
    assert next_free(tmp_path, "x") == tmp_path / "x-2"
