"""A disk that fills up: a clear error that names it, and the last checkpoint whole."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy import ToyModel

from burnish.core.errors import RunError
from burnish.core.rundir import RunFolder
from burnish.engine import checkpoint
from burnish.engine.callbacks import Recorder
from burnish.engine.events import Noted
from burnish.engine.progress import Progress
from burnish.engine.step import Step

MakeStep = Callable[..., Step]


@pytest.fixture
def wide_step(make_step: MakeStep) -> Step:
    """A model of some 160 KB, with moments of 320 KB."""
    step = make_step(ToyModel(width=1000))
    step(range(8), 0, 1.0)
    return step


def keep(folder: RunFolder, step: Step, number: int) -> int:
    return checkpoint.save(folder, checkpoint.Trained(step.model, step.optimizer), Progress(step=number), 99)


def assert_intact(folder: RunFolder, number: int, make_step: MakeStep) -> None:
    newest = checkpoint.newest_whole(folder, pytest.fail)
    assert newest is not None and newest.name == f"step-{number:08d}"
    other = make_step(ToyModel(width=1000))
    assert checkpoint.load(newest, checkpoint.Trained(other.model, other.optimizer)).step == number
    assert [path.name for path in folder.checkpoints.iterdir() if path.name.startswith(".")] == []


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the system then refuses as a full disk does, with another number."""
    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, action)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True) if os.geteuid() == 0 else None
    if made is None or made.returncode != 0:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_checkpoint_that_will_not_fit_is_not_begun(
    wide_step: Step, make_step: MakeStep, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = keep(folder, wide_step, 1)
    assert 480_000 < size < 520_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size + 100_000))
    with pytest.raises(
        RunError, match=r"The disk is full: a checkpoint of 1 MB does not fit into the 1 MB left .*burnish resume"
    ) as caught:
        keep(folder, wide_step, 2)
    assert caught.value.exit_code == 2 and str(folder.path) in str(caught.value)
    assert_intact(folder, 1, make_step)
    monkeypatch.undo()
    keep(folder, wide_step, 2)
    assert_intact(folder, 2, make_step)


@pytest.mark.parametrize("limit", [600, 20_000, 200_000], ids=["at-json", "at-the-model", "at-the-optimizer"])
def test_a_write_that_fails_midway_leaves_the_last_checkpoint(wide_step: Step, make_step: MakeStep, folder: RunFolder, limit: int) -> None:
    keep(folder, wide_step, 1)
    with largest_file(limit), pytest.raises(RunError, match=r"Writing .*step-00000002 failed: .*size limit.*burnish resume"):
        keep(folder, wide_step, 2)
    assert_intact(folder, 1, make_step)
    keep(folder, wide_step, 2)
    assert_intact(folder, 2, make_step)


def test_a_disk_that_is_really_full_is_named(
    wide_step: Step, make_step: MakeStep, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(small_disk / "run", "model: none\n")
    keep(folder, wide_step, 1)
    with pytest.raises(RunError, match=f"The disk is full: a checkpoint of .* left at {folder.path}"):
        keep(folder, wide_step, 2)
    assert_intact(folder, 1, make_step)
    monkeypatch.setattr(checkpoint, "require_space", lambda run, size: None)  # another program takes what was free a moment ago
    for number in (2, 3):
        keep(folder, wide_step, number)
    with pytest.raises(RunError, match=r"Writing .*step-00000004 failed: the disk is full.*Free some space"):
        keep(folder, wide_step, 4)
    assert_intact(folder, 3, make_step)
    shutil.rmtree(checkpoint.folder_of(folder, 1))
    keep(folder, wide_step, 4)
    assert_intact(folder, 4, make_step)


def test_files_of_the_run_are_whole_or_as_before(small_disk: Path) -> None:
    folder = RunFolder.create(small_disk / "run", "model: none\n")
    folder.write("data.json", {"rows": 1})
    (small_disk / "other").write_bytes(bytes(1_900_000))
    with pytest.raises(RunError, match=r"Writing .*data.json failed: the disk is full"):
        folder.write("data.json", {"rows": list(range(99_999))})
    assert folder.read("data.json") == {"rows": 1}
    assert sorted(path.name for path in folder.path.iterdir()) == ["data.json", "recipe.yaml"]
    with pytest.raises(RunError, match=r"Making the run folder .*another failed: the disk is full"):
        (small_disk / "more").write_bytes(bytes(shutil.disk_usage(small_disk).free))
        RunFolder.create(small_disk / "another", "model: none\n" * 9999)
    assert not (small_disk / "another").exists() and not list(small_disk.glob(".another*"))


def test_metrics_that_cannot_be_written_stop_the_run_with_a_word(small_disk: Path) -> None:
    folder = RunFolder.create(small_disk / "run", "model: none\n")
    recorder = Recorder(folder)
    recorder(Noted("fits"))
    (small_disk / "other").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(RunError, match=r"metrics.jsonl failed: the disk is full.*Earlier checkpoints are intact"):
        for _ in range(999):
            recorder(Noted("does not fit " * 99))
    assert folder.read_metrics()[0] == {"kind": "note", "step": 0, "message": "fits"}


def test_a_folder_without_write_permission_is_named(folder: RunFolder, wide_step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match=r"Writing .*step-00000001 failed: no permission to write there \(.*step-00000001.part\)"):
        keep(folder, wide_step, 1)
