"""One trial of a sweep: a run whose validation metric goes to the study, and which may end early."""

from __future__ import annotations

import gc
import math
import shutil
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from burnish.core.errors import BurnishError, Interrupted
from burnish.core.rundir import RunFolder
from burnish.core.secrets import masked
from burnish.engine.events import Evaluated, Event, Listener, Stepped
from burnish.experiment.cells import Cell, finished
from burnish.experiment.sweep.study import REASON, SAME_AS, SECONDS, WHOLE, Study, quiet, root
from burnish.experiment.sweep.workers import beating
from burnish.recipe import Recipe
from burnish.run.identity import IDENTITY

RUNS = "trials"


class Watch:
    """A listener that reports a run's validation metric at each share of its length, and ends the run where the pruner says so."""

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        self.trial, self.metric, self.share = trial, metric, 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self.share = event.fraction
        elif isinstance(event, Evaluated) and event.part == "validation" and event.step > 0:
            with quiet():
                self.trial.report(event.metrics[self.metric], round(WHOLE * self.share))
                stop = self.share < 1 and self.trial.should_prune()
            if stop:
                raise optuna.TrialPruned

    def recall(self, folder: RunFolder) -> None:
        """Reports again what a run that was stopped had come to, for whoever goes on with it."""
        for line in folder.read_metrics():
            if line["kind"] == "step":
                self.share = line["fraction"]
            elif line["kind"] == "evaluation" and line["part"] == "validation" and line["step"] > 0:
                with quiet():
                    self.trial.report(line["metrics"][self.metric], round(WHOLE * self.share))


def place_of(folder: Path, number: int) -> Path:
    return folder / RUNS / f"{number:03}"


def work(study: Study, trial: optuna.Trial, listener: Listener) -> None:
    """Trains what a trial stands for and tells the study what became of it.

    What goes wrong within a run (out of memory, a loss that is no number) is the trial's end and not the search's. Raises Interrupted
    where somebody stops the process: the trial then waits for whoever goes on.
    """
    began, notes = time.monotonic(), dict[str, Any]()
    value: float | None = None
    try:
        with beating(study.study._storage, trial._trial_id):
            same = same_before(study, trial)
            if same is not None:
                notes[SAME_AS] = root(same)
            value = same.value if same else trained(study, trial, study.search.recipe(trial.params), listener)
        state = TrialState.COMPLETE
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (Interrupted, KeyboardInterrupt):
        study.give_up(trial.number)
        raise
    except BurnishError as error:
        state, notes[REASON] = TrialState.FAIL, sentence(str(error))
    except Exception as error:  # a library's own errors at settings that it does not bear
        (study.folder / f"error-{root(trial):03}.txt").write_text(masked(traceback.format_exc()), encoding="utf-8")
        state, notes[REASON] = TrialState.FAIL, sentence(f"{type(error).__name__}: {error}")
    study.tell(trial, value, state, {**notes, SECONDS: time.monotonic() - began})
    gc.collect()
    tidy(study)


def sentence(message: str) -> str:
    """Why a trial failed, without what could be done about a single run."""
    return message.partition(" Earlier checkpoints are intact")[0].partition("\n")[0].removesuffix(" Examples in it:") or "unknown"


def same_before(study: Study, trial: optuna.Trial) -> FrozenTrial | None:
    """The finished trial with the very same parameters, if there is one: its seed is the same too."""
    return next((one for one in study.trials() if one.state == TrialState.COMPLETE and one.params == trial.params), None)


def trained(study: Study, trial: optuna.Trial, recipe: Recipe, listener: Listener) -> float:
    """The value of the weights that the run keeps. Raises BurnishError where that is no number."""
    watch = Watch(trial, study.search.metric)
    place = place_of(study.folder, root(trial))
    if (place / "recipe.yaml").is_file():
        watch.recall(RunFolder(place))
    folder = finished(Cell(f"trial {root(trial)}", recipe.train.seed, recipe), place, place, [listener, watch])
    value = folder.read("evaluations/validation.json")["metrics"][study.search.metric]
    if value is None or not math.isfinite(value):
        raise BurnishError(f"its {study.search.metric} is not a number")
    return float(value)


def tidy(study: Study) -> None:
    """Keeps folders of ended trials small: no checkpoint, and a model of the best only. What has no model is no run for others to reuse."""
    best = study.best()
    for trial in study.trials():
        place = place_of(study.folder, root(trial))
        if not trial.state.is_finished() or not place.is_dir():
            continue
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        if best is not None and root(trial) != root(best):
            with suppress(FileNotFoundError):
                (place / IDENTITY).unlink()
            shutil.rmtree(place / "model", ignore_errors=True)
