"""Killed at any moment and resumed, a run ends with the very same weights as one that was not. Kills are real: SIGKILL to a process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import burnish
from burnish.engine import checkpoint

STEADY = ("step", "loss", "grad_norm", "lr", "epoch", "examples", "tokens", "slots", "fraction", "metrics", "best")
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass
class Victim:
    """A run in processes of its own, which are told when to end."""

    recipe: Path
    run: Path
    threads: int = 1
    leftovers: int = 0
    codes: list[int] = field(default_factory=list)
    said: str = ""

    @property
    def folder(self) -> burnish.core.rundir.RunFolder:
        return burnish.core.rundir.RunFolder(self.run)

    @property
    def finished(self) -> bool:
        return self.folder.finished

    def steps(self) -> int:
        """Lines of metrics.jsonl, cheaply."""
        try:
            return self.folder.metrics.read_bytes().count(b'"kind": "step"')
        except FileNotFoundError:
            return 0

    def start(self) -> subprocess.Popen[str]:
        command = ["resume", str(self.run)] if (self.run / "recipe.yaml").exists() else ["train", str(self.recipe)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-m", "burnish", *command], env=environment, **pipes)  # type: ignore[call-overload, no-any-return]

    def strike(self, number: int, moment: Callable[[Victim], bool], delay: float = 0.0) -> None:
        """Starts or resumes the run in a process, and sends it a signal `delay` seconds after `moment` has come.

        `moment` is asked a thousand times a second, and only once the process has told a step of its own.
        """
        before = self.folder.metrics.stat().st_mtime_ns if self.folder.metrics.exists() else 0
        with self.start() as process:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                began = self.folder.metrics.exists() and self.folder.metrics.stat().st_mtime_ns > before and self.steps() > 0
                if began and moment(self):
                    time.sleep(delay)
                    process.send_signal(number)
                    break
                time.sleep(0.001)
            else:
                process.kill()
            self.said = process.communicate(timeout=120)[1]
        self.codes.append(process.returncode)
        self.leftovers += bool(list(self.folder.checkpoints.glob(".step-*.part")))


def at_once(victim: Victim) -> bool:
    return True


def saving(victim: Victim) -> bool:
    return any(victim.folder.checkpoints.glob(".step-*.part"))


def before_any_save(victim: Victim) -> bool:
    return not checkpoint.steps(victim.folder)


def essence(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = burnish.core.rundir.RunFolder(run).read_metrics()
    return [{key: line[key] for key in STEADY if key in line} for line in lines if line["kind"] == kind]


def assert_identical(broken: Path, whole: Path, steps: int) -> None:
    """The same bits in the model and in the last checkpoint with its moments, the same lines in metrics.jsonl."""
    for kind in ("step", "evaluation"):
        assert essence(broken, kind) == essence(whole, kind)
    assert len(essence(broken, "step")) == steps
    names = ["model/model.safetensors"]
    names += [f"checkpoints/step-{steps:08d}/{name}" for name in ("model.safetensors", "optimizer.safetensors")]
    for name in names:
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    kept = [burnish.core.rundir.RunFolder(run).read("summary.json")["best"] for run in (broken, whole)]
    assert kept[0] == kept[1] is not None
    assert not list((broken / "checkpoints").glob(".*")), "leftovers of killed saves are gone"
    assert checkpoint.steps(burnish.core.rundir.RunFolder(broken)) == checkpoint.steps(burnish.core.rundir.RunFolder(whole))


@pytest.fixture
def make_victim(recipe: Callable[..., dict[str, Any]], dropout_bert: Path, tmp_path: Path) -> Callable[..., Victim]:
    """A recipe file with dropout, evaluations, many saves and the best kept, that trains for some seconds."""

    def make(name: str, steps: int, threads: int = 1) -> Victim:
        train = {"duration": f"{steps}st", "save_every": "3st", "evaluate_every": "7st", "keep_best": "loss", "seed": 5}
        made = recipe(name, model={"name": str(dropout_bert)}, train=train, optimizer={"lr": 1e-3})
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(made))
        return Victim(path, Path(made["run"]), threads)

    return make


def test_killed_at_random_moments_and_within_a_save_it_ends_with_the_same_bits(make_victim: Callable[..., Victim]) -> None:
    draw, steps = random.Random(17), 160
    victim, unbroken = make_victim("broken", steps), make_victim("whole", steps)
    victim.strike(signal.SIGKILL, at_once, delay=draw.uniform(0.0, 0.3))
    victim.strike(signal.SIGKILL, saving)
    victim.strike(signal.SIGKILL, at_once, delay=draw.uniform(0.0, 0.6))
    assert victim.codes == [-signal.SIGKILL] * 3 and not victim.finished
    assert burnish.resume(victim.run).summary["steps"] == steps
    burnish.train(unbroken.recipe)
    assert_identical(victim.run, unbroken.run, steps)


def test_stopped_by_signals_it_saves_says_how_to_go_on_and_ends_with_the_same_bits(make_victim: Callable[..., Victim]) -> None:
    draw, steps = random.Random(3), 160
    victim, unbroken = make_victim("stopped", steps), make_victim("whole", steps)
    for number, code in SIGNALS.items():
        victim.strike(number, at_once, delay=draw.uniform(0.0, 0.4))
        reached = victim.steps()
        assert victim.codes[-1] == code
        assert victim.said == f"burnish: Stopped at step {reached}, saved. Go on with: burnish resume {victim.run}\n"
        assert 0 < reached < steps and checkpoint.steps(victim.folder)[-1] == reached
        assert checkpoint.fault(checkpoint.folder_of(victim.folder, reached)) is None
    burnish.resume(victim.run)
    burnish.train(unbroken.recipe)
    assert_identical(victim.run, unbroken.run, steps)


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "kills", "steps"), [(1, 24, 900), (2, 6, 240)])
def test_killed_two_dozen_times_it_ends_with_the_same_bits(
    make_victim: Callable[..., Victim], threads: int, kills: int, steps: int
) -> None:
    """Kills at random, within saves, before the first save, and (the last three) while the process may still be loading."""
    draw = random.Random(threads)
    victim, unbroken = make_victim("broken", steps, threads), make_victim("whole", steps, threads)
    moments: Sequence[Callable[[Victim], bool]] = [before_any_save, *([at_once, saving] * kills)[: kills - 4]]
    for moment in moments:
        victim.strike(signal.SIGKILL, moment, delay=draw.uniform(0.0, 0.4) if moment is at_once else 0.0)
        assert victim.codes[-1] == -signal.SIGKILL and not victim.finished
    assert victim.leftovers >= kills // 8, "some kills hit a save"
    for _ in range(3):
        with victim.start() as process:
            time.sleep(draw.uniform(0.5, 6.0))
            process.kill()
    for one in (victim, unbroken):
        with one.start() as process:
            assert process.wait(timeout=1500) == 0
    assert_identical(victim.run, unbroken.run, steps)
    assert burnish.load(victim.run).predict(["lovely"]) == burnish.load(unbroken.run).predict(["lovely"])
