"""Sweeps: shared, killed and taken up, with failures, and what they leave. Studies by themselves train nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from burnish.core.errors import BurnishError, Interrupted, RunError
from burnish.engine.events import Evaluated, OfRun, RunEnded, Stepped
from burnish.experiment.sweep import sweep
from burnish.experiment.sweep.findings import importances
from burnish.experiment.sweep.study import Study, first_share, hidden, open_study, quiet, root, suggested
from burnish.experiment.sweep.trials import Watch
from burnish.experiment.sweep.workers import gone, this_worker
from burnish.recipe import load
from burnish.recipe.search import searched
from burnish.recipe.space import filled

Write = Callable[..., Path]


@pytest.fixture
def recipe(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> Write:
    """Writes a recipe of 3 epochs of 5 steps whose learning rate is searched."""

    def written(**sections: Any) -> Path:
        raw: dict[str, Any] = {
            "model": str(tiny_bert),
            "task": {"name": "classify"},
            "data": {"train": str(rows_csv), "validation": "25%", "test": str(rows_csv)},
            "optimizer": {"lr": {"log": ["1e-4", "1e-2"]}},
            "train": {"duration": "3ep", "batch_size": 8, "device": "cpu", "save_every": "2st"},
            "sweep": {"trials": 4, "pruner": "none", "seeds": 1, "sampler": "random"},
            **sections,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return written


@pytest.fixture
def study(recipe: Write, tmp_path: Path) -> Callable[..., Study]:
    def opened(name: str = "study", overrides: tuple[str, ...] = (), **options: Any) -> Study:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return open_study(searched(recipe(), overrides, options), name, folder)

    return opened


def drawn(study: Study, number: int) -> list[dict[str, Any]]:
    """Parameters of the next trials, each told as finished."""
    found = []
    for _ in range(number):
        trial = study.claim()
        assert trial is not None
        found.append(trial.params)
        study.tell(trial, trial.params["optimizer.lr"], TrialState.COMPLETE, {})
    return found


def lose(study: Study, trial: optuna.Trial) -> None:
    """As a process that was killed leaves a trial: running, by a worker that is no more."""
    trial.set_user_attr("worker", {**this_worker(), "process": 2**22 + 1})


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_what_is_drawn_is_decided_by_the_seed_and_what_is_known_not_by_the_process(study: Callable[..., Study], sampler: str) -> None:
    unbroken = drawn(study("a", sampler=sampler, trials=5), 5)
    first = drawn(study("b", sampler=sampler, trials=5), 2)
    again = study("b", sampler=sampler, trials=5)
    assert [*first, *drawn(again, 3)] == unbroken
    assert again.claim() is None
    assert drawn(study("c", sampler=sampler, trials=5, seed=1), 1) != unbroken[:1]
    assert len({point["optimizer.lr"] for point in unbroken}) == 5


def test_more_trials_can_be_asked_for_later(study: Callable[..., Study]) -> None:
    drawn(study(trials=2), 2)
    more = study(trials=3)
    assert len(drawn(more, 1)) == 1 and more.claim() is None


def test_a_lost_trial_is_taken_up_with_its_parameters_and_number(study: Callable[..., Study]) -> None:
    made = study(trials=2)
    first, second = made.claim(), made.claim()
    assert first is not None and second is not None and made.claim() is None
    lose(made, first)
    other = study(trials=2)
    retry = other.claim()
    assert retry is not None
    assert retry.params == first.params and root(retry) == root(first) == 0
    lose(made, retry)
    again = other.claim()
    assert again is not None and again.params == first.params and root(again) == 0
    assert other.claim() is None, "the other one is alive"
    for trial in (again, second):
        other.tell(trial, 0.5, TrialState.COMPLETE, {})
    assert sorted(map(root, other.trials())) == [0, 1] and not other.running


def test_a_trial_killed_before_anything_was_drawn_is_made_up_for(study: Callable[..., Study]) -> None:
    made = study(trials=2)
    with quiet():
        made.study.ask()
    assert [made.claim() is not None for _ in range(3)] == [True, True, False]
    assert all(trial.params for trial in made.trials())


def by_another_machine(study: Study, point: dict[str, Any] | None = None) -> optuna.Trial:
    """A trial begun at the same moment elsewhere, where the lock of this folder is not seen."""
    with quiet():
        if point is not None:
            study.study.enqueue_trial(point)
        trial = study.study.ask()
    trial.set_user_attr("worker", {"machine": "another", "process": 1, "began": None})
    filled(study.search.raw, lambda key, domain: suggested(trial, key, domain))
    return trial


def test_machines_that_cannot_lock_each_other_out_do_not_make_too_many(study: Callable[..., Study], tmp_path: Path) -> None:
    made = study(trials=2, storage=f"sqlite:///{tmp_path}/shared.db")
    trials = [by_another_machine(made) for _ in range(3)]
    assert [made.is_surplus(trial) for trial in trials] == [False, False, True]
    assert made.claim() is None


def test_machines_that_cannot_lock_each_other_out_do_not_keep_a_point_twice(study: Callable[..., Study], tmp_path: Path) -> None:
    made = study(sampler="grid", storage=f"sqlite:///{tmp_path}/shared.db")
    trials = [by_another_machine(made, made.search.grid[0]) for _ in range(2)]
    assert [made.is_surplus(trial) for trial in trials] == [False, True]


def test_a_grid_has_each_point_once_with_two_workers(study: Callable[..., Study]) -> None:
    options: dict[str, Any] = {
        "sampler": "grid",
        "trials": 6,
        "overrides": ("train.batch_size={choice: [4, 8]}", "optimizer.lr={log: [1e-4, 1e-2], points: 3}"),
    }
    workers = [study(**options), study(**options)]
    points = []
    for turn in range(6):
        trial = workers[turn % 2].claim()
        assert trial is not None
        points.append(trial.params)
        if turn == 2:
            lose(workers[0], trial)
            points.pop()
    trial = workers[0].claim()
    assert trial is not None and workers[1].claim() is None
    points.append(trial.params)
    assert sorted(points, key=str) == sorted(workers[0].search.grid, key=str)


def test_part_of_a_grid_is_a_drawn_part(study: Callable[..., Study]) -> None:
    made = study(sampler="grid", trials=3, overrides=("optimizer.lr={log: [1e-4, 1e-2], points: 9}",))
    rates = [point["optimizer.lr"] for point in drawn(made, 3)]
    assert made.claim() is None and rates != made.search.grid[:3] and len(set(rates)) == 3


def test_another_recipe_is_refused_by_key(study: Callable[..., Study]) -> None:
    study()
    with pytest.raises(RunError, match=r"searches something else \(other train.batch_size\)"):
        study(overrides=("train.batch_size=4",))
    with pytest.raises(RunError, match=r"something else \(other optimizer.lr\)"):
        study(overrides=("optimizer.lr={log: [1e-4, 1e-1]}",))
    with pytest.raises(RunError, match=r"other metric"):
        study(metric="loss")


def test_other_rows_are_refused(study: Callable[..., Study], rows_csv: Path) -> None:
    study()
    rows_csv.write_text(rows_csv.read_text() + "One more thing,praise\n")
    with pytest.raises(RunError, match=r"other rows.train"):
        study()


@pytest.mark.parametrize("url", ["postgresql://ann:hunter2@nowhere.invalid/db", "nonsense", "sqlite:////no/such/folder/a.db"])
def test_a_storage_that_cannot_be_opened_is_told_without_its_password(study: Callable[..., Study], url: str) -> None:
    with pytest.raises(BurnishError, match="cannot be opened") as caught:
        study(storage=url)
    assert "hunter2" not in str(caught.value)
    assert hidden("mysql://ann:hunter2@host/db") == "mysql://ann:***@host/db"


def test_a_worker_is_gone_when_its_process_is() -> None:
    own = this_worker()
    assert not gone(own)
    assert gone({**own, "process": 2**22 + 1})
    assert gone({**own, "began": "1"}), "the number is another process's now"
    assert not gone({**own, "machine": "another"})
    ended = subprocess.Popen(["true"])
    worker = {**own, "process": ended.pid, "began": "1"}
    while Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        pass
    assert gone({**worker, "began": Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[19]}), (
        "nobody has asked how it ended"
    )
    ended.wait()


def events(share: float, accuracy: float) -> list[Any]:
    step = Stepped(1, 1.0, 0.5, 1.0, 1e-3, 8, 64, 64, 1.0, 0, share)
    return [step, Evaluated(1, 1.0, "validation", {"accuracy": accuracy}, 0.1, False)]


def test_runs_are_compared_at_the_same_share_of_their_length_and_stopped_there() -> None:
    made = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=2))

    def run(*course: tuple[float, float]) -> None:
        trial = made.ask()
        watch = Watch(trial, "accuracy")
        for event in (event for point in course for event in events(*point)):
            watch(event)
        made.tell(trial, course[-1][1])

    run((0.5, 0.8), (1.0, 0.8))
    run((0.5, 0.9), (1.0, 0.9))
    with pytest.raises(optuna.TrialPruned):
        run((0.5, 0.2), (1.0, 0.9))
    assert made.trials[2].intermediate_values == {50: 0.2}
    run((1.0, 0.1))
    assert made.trials[3].intermediate_values == {100: 0.1}, "a run that is over is not stopped"


def test_hyperband_begins_at_the_first_evaluation(recipe: Write) -> None:
    made = searched(recipe(), [], {}).recipes[0]
    assert first_share(made) == 33
    assert first_share(made.model_copy(update={"train": load(recipe(), ["optimizer.lr=1e-3", "train.evaluate_every=3st"]).train})) == 10


def test_importances_need_something_to_tell(study: Callable[..., Study]) -> None:
    made = study(trials=8, overrides=("train.batch_size={choice: [4, 8]}",))
    drawn(made, 3)
    assert importances(made) == {}
    drawn(made, 5)
    shares = importances(made)
    assert shares["optimizer.lr"] > 0.6 and sum(shares.values()) == pytest.approx(1)


@pytest.mark.usefixtures("quick")
def test_a_sweep_from_end_to_end(recipe: Write, tmp_path: Path) -> None:
    told: list[Any] = []
    found = sweep(recipe(), ["train.ema={choice: [null, 0.9]}"], {"seeds": 2}, tmp_path / "s", [told.append])
    place = tmp_path / "s"
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 4
    best = found["best"]
    assert best["value"] == max(trial["value"] for trial in found["trials"])
    for number in range(4):
        run = place / "trials" / f"{number:03}"
        assert not (run / "evaluations" / "test.json").exists(), "test rows stay closed during the search"
        assert not (run / "checkpoints").exists()
        assert (run / "model").is_dir() == (number == best["number"])
    recipe_of_best = load(place / "best.yaml")
    assert recipe_of_best.optimizer.lr == best["parameters"]["optimizer.lr"]
    assert recipe_of_best.data.train == str(tmp_path / "rows.csv") and recipe_of_best.sweep is None
    runs = found["proof"]["runs"]
    assert [run["seed"] for run in runs] == [1, 2]
    assert all((place / run["path"] / "evaluations" / "test.json").is_file() for run in runs)
    mean = sum(run["validation"]["accuracy"] for run in runs) / 2
    assert found["proof"]["validation"]["mean"] == pytest.approx(mean)
    assert found["proof"]["test"]["rows_low"] < found["proof"]["test"]["rows_high"], "the interval is over rows too"
    assert found["proof"]["flattered"] == pytest.approx(best["value"] - mean)
    assert json.loads((place / "sweep.json").read_text())["best"] == best and (place / "index.html").is_file()
    assert [event.how for event in told if isinstance(event, RunEnded)] == ["done"] * 6
    told.clear()
    assert sweep(recipe(), ["train.ema={choice: [null, 0.9]}"], {"seeds": 2}, place, [told.append])["proof"] == found["proof"]
    assert {event.how for event in told if isinstance(event, RunEnded)} == {"found"}
    assert not any(isinstance(event, OfRun) for event in told)


@pytest.mark.usefixtures("quick")
def test_a_trial_that_fails_is_noted_and_the_search_goes_on(recipe: Write, tmp_path: Path) -> None:
    path = recipe(optimizer={"lr": {"choice": [0.001, "1e30"]}})
    found = sweep(path, [], {"sampler": "grid", "seeds": 0}, tmp_path / "s")
    assert [trial["state"] for trial in found["trials"]] == ["complete", "failed"]
    assert found["trials"][1]["reason"].startswith("The loss became nan at step 2")
    assert "proof" not in found
    hopeless = recipe(optimizer={"lr": {"choice": ["1e29", "1e30"]}})
    with pytest.raises(RunError, match=r"No trial .* came to a value"):
        sweep(hopeless, [], {"sampler": "grid"}, tmp_path / "t")


@pytest.mark.usefixtures("quick")
def test_stopped_by_a_signal_it_goes_on_as_if_it_had_not_been(recipe: Write, tmp_path: Path) -> None:
    whole = sweep(recipe(), [], {"seeds": 0, "trials": 3}, tmp_path / "whole")
    steps: list[Any] = []

    def stop(event: Any) -> None:
        if isinstance(event, OfRun) and isinstance(event.event, Stepped):
            steps.append(event.event)
            if len(steps) == 20:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="same command"):
        sweep(recipe(), [], {"seeds": 0, "trials": 3}, tmp_path / "broken", [stop])
    done = sweep(recipe(), [], {"seeds": 0, "trials": 3}, tmp_path / "broken", [stop])
    told = [(trial["number"], trial["value"], trial["parameters"]) for trial in done["trials"]]
    assert [value[1:] for value in told] == [(trial["value"], trial["parameters"]) for trial in whole["trials"]]
    assert len(steps) == 3 * 15, "no step was made twice"


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from burnish.experiment.sweep import sweep
from burnish.engine.events import OfRun, Stepped
import time
def slowly(event):
    if isinstance(event, OfRun) and isinstance(event.event, Stepped):
        print(event.name, event.event.step, flush=True)
        time.sleep(0.05)
found = sweep(sys.argv[1], [], {"trials": 5, "seeds": 1}, sys.argv[2], [slowly])
print("best", found["best"]["number"], found["best"]["value"], flush=True)
"""


def test_two_processes_share_a_study_and_one_that_is_killed_loses_nothing(recipe: Write, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(recipe()), str(tmp_path / "s")]
    first, second = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    assert first.stdout is not None
    lines = []
    for line in first.stdout:
        lines.append(line)
        if line.split()[-1] == "5":
            break
    first.kill()
    out, _ = second.communicate(timeout=120)
    first.wait()
    assert second.returncode == 0
    found = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 5
    assert out.splitlines()[-1] == f"best {found['best']['number']} {found['best']['value']}"
    killed = lines[-1].rpartition(" ")[0]
    gone_on = [int(line.rpartition(" ")[2]) for line in out.splitlines() if line.startswith(killed + " ")]
    assert gone_on == list(range(gone_on[0], 16)) and gone_on[0] > 1, "it goes on from its checkpoint"
    made = [line.rpartition(" ")[0] for line in [*lines, *out.splitlines()] if line.startswith("trial") and line.endswith(" 15")]
    assert sorted(made) == sorted(set(made)) and len(made) == 5, "every trial is trained once"
