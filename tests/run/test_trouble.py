"""Runs that are broken off, resumed, locked, in the way, out of memory or out of disk: each ends with a word, and none loses more than it must."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import burnish
from burnish.core.errors import DataError, Interrupted, NonFiniteError, RunError
from burnish.core.rundir import RunFolder
from burnish.engine import checkpoint
from burnish.engine.events import Began, Event, Noted, Stepped

MakeRecipe = Callable[..., dict[str, Any]]


def lines(run: burnish.Run, kind: str) -> list[dict[str, Any]]:
    return [line for line in run.folder.read_metrics() if line["kind"] == kind]


# Resume, locks, and runs that are in the way


def test_resuming_a_finished_run_changes_nothing(recipe: MakeRecipe) -> None:
    run = burnish.train(recipe())
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.path.rglob("*") if path.is_file()}
    heard: list[Event] = []
    again = burnish.resume(run.path, [heard.append])
    assert again.summary == run.summary and heard == []
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.path.rglob("*") if path.is_file()} == before


class Breaker:
    """A listener that fails when a step is told: the run ends there as if killed, but the process lives."""

    def __init__(self, step: int, error: type[BaseException] = ZeroDivisionError) -> None:
        self.step, self.error = step, error

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped) and event.step == self.step:
            raise self.error


def broken_at(made: dict[str, Any], step: int) -> RunFolder:
    with pytest.raises(ZeroDivisionError):
        burnish.train(made, listeners=[Breaker(step)])
    return RunFolder.open(made["run"])


def test_a_resumed_run_computes_with_the_threads_it_began_with(recipe: MakeRecipe, dropout_bert: Path) -> None:
    model = {"name": str(dropout_bert)}
    whole = burnish.train(recipe("whole", model=model, train={"save_every": "3st"}))
    folder = broken_at(recipe("broken", model=model, train={"save_every": "3st"}), 5)
    torch.set_num_threads(2)
    heard: list[Event] = []
    run = burnish.resume(folder.path, [heard.append])
    assert torch.get_num_threads() == 1
    assert any(isinstance(event, Noted) and "computing with 1 thread, as the run began" in event.message for event in heard)
    assert (run.folder.model / "model.safetensors").read_bytes() == (whole.folder.model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("step", [1, 5, 6, 10])
def test_a_broken_run_resumes_to_the_same_weights_and_lines(recipe: MakeRecipe, dropout_bert: Path, step: int) -> None:
    model = {"name": str(dropout_bert)}
    whole = burnish.train(recipe("whole", model=model, train={"save_every": "3st", "keep_best": "loss", "evaluate_every": "2st"}))
    made = recipe("broken", model=model, train={"save_every": "3st", "keep_best": "loss", "evaluate_every": "2st"})
    folder = broken_at(made, step)
    with pytest.raises(RunError, match="has no model yet: the run is not finished"):
        burnish.load(folder.path)
    heard: list[Event] = []
    run = burnish.resume(folder.path, [heard.append])
    assert (run.folder.model / "model.safetensors").read_bytes() == (whole.folder.model / "model.safetensors").read_bytes()
    steady = ("step", "loss", "grad_norm", "lr", "epoch", "tokens", "slots", "metrics", "best")
    for kind in ("step", "evaluation"):
        told = [[{key: line[key] for key in steady if key in line} for line in lines(one, kind)] for one in (run, whole)]
        assert told[0] == told[1]
    saved = max((number for number in (2, 3, 4, 6, 8, 9) if number < step), default=0)
    first = next(event.step for event in heard if isinstance(event, Stepped))
    assert first <= step and (first == 1 if saved < 2 else first > 1)
    began = next(event for event in heard if isinstance(event, Began))
    assert began.facts["steps"] == 10
    if first > 1:
        assert [event.message for event in heard if isinstance(event, Noted)][-1] == f"going on after step {first - 1}"
    assert run.summary["mean_loss"] == whole.summary["mean_loss"] and run.summary["best"] == whole.summary["best"]


def test_stopped_right_after_a_step_that_is_to_be_evaluated_no_line_comes_twice(recipe: MakeRecipe) -> None:
    """Stopped before the evaluation of step 5, then killed after it: the line is written again, not added."""
    made = recipe(train={"evaluate_every": "5st", "save_every": "99ep"})

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 5:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        burnish.train(made, listeners=[stop])
    assert checkpoint.steps(RunFolder(made["run"])) == [5]
    with pytest.raises(ZeroDivisionError):
        burnish.resume(made["run"], [Breaker(7)])
    run = burnish.resume(made["run"])
    assert [line["step"] for line in lines(run, "evaluation")] == [5, 10]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(recipe: MakeRecipe, number: signal.Signals) -> None:
    made = recipe()
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    def strike(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 7:
            signal.raise_signal(number)

    with pytest.raises(Interrupted) as caught:
        burnish.train(made, listeners=[strike])
    assert str(caught.value) == f"Stopped at step 7, saved. Go on with: burnish resume {made['run']}"
    assert caught.value.exit_code == 128 + number
    assert checkpoint.steps(RunFolder(made["run"]))[-1] == 7
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert burnish.resume(made["run"]).summary["steps"] == 10


def test_a_signal_before_the_first_step_leaves_nothing_behind(recipe: MakeRecipe) -> None:
    made = recipe()

    def strike(event: Event) -> None:
        if isinstance(event, Noted) and event.message.startswith("loading"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="before the first step") as caught:
        burnish.train(made, listeners=[strike])
    assert caught.value.exit_code == 130 and not Path(made["run"]).exists()


def test_a_torn_checkpoint_costs_only_the_steps_since_the_one_before(recipe: MakeRecipe) -> None:
    whole = burnish.train(recipe("whole"))
    folder = broken_at(recipe("broken", train={"save_every": "2st"}), 8)
    assert checkpoint.steps(folder) == [4, 6]
    (checkpoint.folder_of(folder, 6) / "model.safetensors").write_bytes(b"half")
    heard: list[Event] = []
    run = burnish.resume(folder.path, [heard.append])
    said = [event.message for event in heard if isinstance(event, Noted)]
    assert any(message.startswith("skipping a torn checkpoint, step-00000006: model.safetensors has 4 bytes") for message in said)
    assert "going on after step 4" in said
    assert (run.folder.model / "model.safetensors").read_bytes() == (whole.folder.model / "model.safetensors").read_bytes()


def test_with_no_whole_checkpoint_the_run_says_so(recipe: MakeRecipe) -> None:
    folder = broken_at(recipe(), 7)
    for step in checkpoint.steps(folder):
        (checkpoint.folder_of(folder, step) / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"1 checkpoint in .*, and not one is whole \(step-00000005: manifest.json is missing\)") as caught:
        burnish.resume(folder.path)
    assert caught.value.exit_code == 2


def test_changed_data_are_refused_on_resume(recipe: MakeRecipe, rows_csv: Path) -> None:
    folder = broken_at(recipe(), 7)
    before = rows_csv.read_bytes()
    rows_csv.write_bytes(before.replace(b"lovely", b"lovable"))
    with pytest.raises(DataError, match=r"the train rows .*rows.csv\) are not those that this run began with") as caught:
        burnish.resume(folder.path)
    assert caught.value.exit_code == 2
    assert checkpoint.steps(folder) == [5]
    rows_csv.write_bytes(before)
    assert burnish.resume(folder.path).summary["steps"] == 10


def test_a_second_process_is_kept_out(recipe: MakeRecipe) -> None:
    folder = broken_at(recipe(), 7)
    holder = (
        "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); fcntl.flock(f, fcntl.LOCK_EX); "
        "os.truncate(f, 0); os.write(f, str(os.getpid()).encode()); print('held', flush=True); time.sleep(99)"
    )
    with subprocess.Popen([sys.executable, "-c", holder, str(folder.path / ".lock")], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            before = folder.metrics.read_bytes()
            for attempt in (lambda: burnish.resume(folder.path), lambda: burnish.train(recipe(), overwrite=True)):
                with pytest.raises(RunError, match=f"is in use by process {process.pid}: wait for it or stop it") as caught:
                    attempt()
                assert caught.value.exit_code == 2
            assert folder.metrics.read_bytes() == before
        finally:
            process.kill()
    assert burnish.resume(folder.path).summary["steps"] == 10, "the lock goes with the process that held it"


def test_a_running_run_locks_itself(recipe: MakeRecipe) -> None:
    made, refused = recipe(), []

    def intrude(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 3:
            code = "import sys, burnish.core.rundir as r; r.RunFolder(sys.argv[1]).lock().__enter__()"
            found = subprocess.run([sys.executable, "-c", code, made["run"]], capture_output=True, text=True)
            refused.append(found.stderr)

    burnish.train(made, listeners=[intrude])
    assert len(refused) == 1 and "is in use by process" in refused[0]


def test_an_existing_run_is_not_overwritten_unless_asked(recipe: MakeRecipe) -> None:
    run = burnish.train(recipe(train={"duration": "1st"}))
    with pytest.raises(RunError, match=r"already holds a run.*burnish resume.*--overwrite"):
        burnish.train(recipe())
    assert burnish.load(run.path).summary["steps"] == 1
    assert burnish.train(recipe(train={"duration": "2st"}), overwrite=True).summary["steps"] == 2


def test_a_folder_that_is_no_run_is_left_alone(recipe: MakeRecipe) -> None:
    made = recipe()
    Path(made["run"]).mkdir()
    (Path(made["run"]) / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is not a run: it is left alone"):
        burnish.train(made, overwrite=True)
    assert (Path(made["run"]) / "thesis.txt").read_text() == "years of work"


def test_a_run_that_never_began_leaves_no_folder(recipe: MakeRecipe, rows_csv: Path) -> None:
    rows_csv.write_text("text,label\nlovely,praise\nlovely,\n")
    with pytest.raises(DataError, match="row 2"):
        burnish.train(recipe())
    assert not Path(recipe()["run"]).exists()


def test_runs_are_numbered_where_no_folder_is_named(recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {key: value for key, value in recipe(train={"duration": "1st"}).items() if key != "run"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(made))
    assert [burnish.train("mine.yaml").path for _ in range(2)] == [tmp_path / "runs/mine-1", tmp_path / "runs/mine-2"]
    assert burnish.train(made).path == tmp_path / "runs/classify-1"


# What goes wrong in the midst


def test_a_loss_that_is_no_number_ends_the_run_with_its_rows_named(recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish.losses import likelihood

    real, calls = likelihood.cross_entropy, []

    def poisoned(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(len(targets))
        values = real(logits, targets)
        return values * float("nan") if logits.requires_grad and sum(calls) > 60 else values

    monkeypatch.setattr(likelihood, "cross_entropy", poisoned)
    with pytest.raises(NonFiniteError, match=r"The loss became nan at step \d+; the weights were not touched") as caught:
        burnish.train(recipe(train={"save_every": "2st", "evaluate_every": "2st"}, engine={"forecast": False}))
    assert caught.value.exit_code == 2 and "rows.csv row" in str(caught.value) and "(line" in str(caught.value)
    folder = RunFolder.open(recipe()["run"])
    assert checkpoint.newest_whole(folder, pytest.fail) is not None
    monkeypatch.undo()
    assert burnish.resume(folder.path).summary["steps"] == 10


def test_out_of_memory_in_a_run_is_noted_and_changes_nothing(recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = burnish.train(recipe("plain"))
    from transformers import BertForSequenceClassification

    real = BertForSequenceClassification.forward

    def cramped(self: Any, **inputs: Any) -> Any:
        if len(inputs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", cramped)
    run = burnish.train(recipe("cramped", train={"micro_batch": 8}))
    notes = [line["message"] for line in lines(run, "note")]
    assert notes and all(message.startswith("out of memory at step 1: going on with micro-batches of") for message in notes)
    state = json.loads((checkpoint.folder_of(run.folder, 10) / "state.json").read_text())
    assert state["progress"]["budget"] == notes[-1].partition("micro-batches of ")[2].partition(";")[0]
    assert [line["loss"] for line in lines(run, "step")] == pytest.approx([line["loss"] for line in lines(plain, "step")], rel=1e-4)


def test_out_of_memory_with_one_example_is_an_error_to_mend(recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertForSequenceClassification

    def hopeless(self: Any, **inputs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(BertForSequenceClassification, "forward", hopeless)
    with pytest.raises(RunError, match=r"Out of memory at step 1 with a single example.*data\.max_length") as caught:
        burnish.train(recipe())
    assert caught.value.exit_code == 2


def test_out_of_memory_in_an_evaluation_is_an_error_to_mend_too(recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertForSequenceClassification

    real = BertForSequenceClassification.forward

    def hopeless(self: Any, **inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", hopeless)
    with pytest.raises(RunError, match=r"[Oo]ut of memory.*burnish resume"):
        burnish.train(recipe())


def test_a_full_disk_ends_the_run_and_more_room_lets_it_go_on(recipe: MakeRecipe, tmp_path: Path) -> None:
    """On a real file system of 3 MB, of which a checkpoint takes nearly half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True).returncode != 0:
        pytest.skip("mounting needs root")
    try:
        whole = burnish.train(recipe("whole"))
        made = recipe("disk/run", train={"save_every": "1st", "save_limit": 99})
        with pytest.raises(RunError, match=f"The disk is full: .*burnish resume {place / 'run'}") as caught:
            burnish.train(made)
        assert caught.value.exit_code == 2
        newest = checkpoint.newest_whole(RunFolder(made["run"]), pytest.fail)
        assert newest is not None and 1 < int(newest.name[-8:]) < 9
        subprocess.run(["mount", "-o", "remount,size=20m", place], check=True)
        run = burnish.resume(made["run"])
        assert (run.folder.model / "model.safetensors").read_bytes() == (whole.folder.model / "model.safetensors").read_bytes()
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_run_in_another_thread_works_and_leaves_signals_alone(recipe: MakeRecipe) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(burnish.train(recipe(train={"duration": "2st"}))))
    thread.start()
    thread.join(timeout=60)
    assert found and found[0].summary["steps"] == 2


def test_progress_in_seconds_goes_on_after_a_resume(recipe: MakeRecipe) -> None:
    folder = broken_at(recipe(train={"save_every": "2st"}), 7)
    time.sleep(0.3)
    run = burnish.resume(folder.path)
    seconds = [line["seconds"] for line in lines(run, "step")]
    assert seconds == sorted(seconds), "the pause does not count, and no time is lost"
    assert run.summary["seconds"] == pytest.approx(seconds[-1])
