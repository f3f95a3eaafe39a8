"""Jobs in processes of their own: outcomes, failures, what is killed, and that none outlives whoever asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from burnish.core.errors import DataError, Interrupted, NonFiniteError
from burnish.engine.events import Listener, Noted, OfRun, OfSeveral, RunBegan
from burnish.experiment import crew
from burnish.experiment.crew import Job, Outcome, carry_out


def greet(name: str, listener: Listener) -> tuple[str, int]:
    listener(Noted(f"hello {name}"))
    return name, os.getpid()


def fail(kind: str, listener: Listener) -> None:
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"data": DataError("row 3"), "nan": NonFiniteError("the loss is NaN"), "bug": ZeroDivisionError("x")}[kind]


def wait_for_ever(path: str, listener: Listener) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def outcomes(jobs: list[Job], number: int) -> tuple[dict[str, Outcome], list[OfSeveral]]:
    found, told = list[Outcome](), list[OfSeveral]()
    carry_out(jobs, number, told.append, found.append)
    return {outcome.job.name: outcome for outcome in found}, told


def alive(process: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def gone(process: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(process)


def test_each_job_has_a_process_and_failures_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "IMPORTED", ("burnish.experiment.crew", "torch"))
    kinds = ("data", "nan", "bug", "killed")
    jobs = [*(Job(name, greet, (name,)) for name in ("a", "b", "c")), *(Job(kind, fail, (kind,)) for kind in kinds)]
    found, told = outcomes(jobs, 2)
    processes = {found[name].result[1] for name in "abc"}
    assert len(processes) == 3 and os.getpid() not in processes and not any(found[name].failure for name in "abc")
    assert [event.name for event in told if isinstance(event, RunBegan)] == [*"abc", *kinds]
    assert OfRun("b", Noted("hello b")) in told
    assert (found["data"].failure, found["data"].of_data, found["data"].lasting) == ("row 3", True, False)
    assert found["nan"].lasting and "ZeroDivisionError: x" in str(found["bug"].failure) and "-9" in str(found["killed"].failure)


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from burnish.experiment import crew
from test_crew import wait_for_ever

if __name__ == "__main__":
    crew.IMPORTED = ("burnish.experiment.crew", "torch")
    crew.carry_out([crew.Job("x", wait_for_ever, (sys.argv[2],))], 1, print, print)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_ends_with_whoever_asked_for_it(number: signal.Signals, tmp_path: Path) -> None:
    script, told = tmp_path / "script.py", tmp_path / "process"
    script.write_text(SCRIPT)
    process: Any = subprocess.Popen([sys.executable, str(script), str(Path(__file__).parent), str(told)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (told.is_file() and told.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    job = int(told.read_text())
    assert alive(job)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert gone(job)
    assert Interrupted.__name__ in error or number == signal.SIGKILL
