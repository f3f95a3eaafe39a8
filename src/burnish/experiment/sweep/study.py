"""The study of a sweep in optuna's storage: which trials there are, whose turn it is, what became of each.

Several processes may work on one study. A trial is counted by its number, which the storage gives only once, so that all together make as
many as were asked for. One whose process was killed is closed, and its parameters wait as a new trial that goes on in the same folder.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from burnish.core.errors import BurnishError, RunError
from burnish.experiment.sweep.workers import BEAT_SECONDS, STALE_SECONDS, alone, gone, this_worker
from burnish.recipe import Recipe
from burnish.recipe.search import Search
from burnish.recipe.space import Domain, Numbers, filled, flat
from burnish.run.identity import contained

WORKER, RETRY_OF, SURPLUS, REASON, SECONDS, SAME_AS = "worker", "retry_of", "surplus", "reason", "seconds", "same_as"
"""What is noted of a trial."""

SEARCH = "search"
WHOLE = 100
"""What a run's length counts as, for pruners: intermediate values stand at percents of it."""


@dataclass(frozen=True)
class Study:
    """A search and its trials. `local` says that everybody who works on it sees `folder`, so that a lock there keeps them apart."""

    search: Search
    study: optuna.Study
    folder: Path
    local: bool

    def trials(self) -> list[FrozenTrial]:
        """Every trial that counts, by number: not those that were closed for another to go on with, and none too many."""
        with quiet():
            found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if not trial.user_attrs.get(SURPLUS) and not was_lost(trial)]

    def claim(self) -> optuna.Trial | None:
        """The next trial, its parameters chosen; None where all that were asked for are done or being computed.

        What a new trial draws is a function of the search's seed, its place in the order, and what is known by then.
        """
        with alone(self.folder / ".lock"), quiet():
            self.recover()
            trials = self.study.get_trials(deepcopy=False)
            originals = [trial for trial in trials if is_original(trial)]
            self.study.sampler = sampler(self.search, len(originals))
            if not any(trial.state == TrialState.WAITING for trial in trials):
                if len(originals) >= self.search.trials:
                    return None
                if self.search.settings.sampler == "grid":
                    self.study.enqueue_trial(self.next_point(originals))
            trial = self.study.ask()
            trial.set_user_attr(WORKER, this_worker())
            filled(self.search.raw, lambda key, domain: suggested(trial, key, domain))
            if not self.local and self.is_surplus(trial):
                trial.set_user_attr(SURPLUS, True)
                self.study.tell(trial, state=TrialState.FAIL)
                return None
            return trial

    def next_point(self, originals: Sequence[FrozenTrial]) -> dict[str, Any]:
        """The first point of the grid that nobody has taken. Where not all are wanted, they come in a drawn order."""
        taken = [trial.system_attrs.get("fixed_params") for trial in originals]
        points = self.search.grid
        if self.search.trials < len(points):
            order = np.random.default_rng([self.search.settings.seed, 0x6E1D]).permutation(len(points))
            points = [points[place] for place in order]
        return next(point for point in points if point not in taken)

    def is_surplus(self, trial: optuna.Trial) -> bool:
        """Whether machines that cannot lock each other out have begun one too many, the same point of a grid, or the same again."""
        earlier = [one for one in self.study.get_trials(deepcopy=False) if one.number < trial.number and not one.user_attrs.get(SURPLUS)]
        if RETRY_OF in trial.user_attrs:
            return any(root(one) == root(trial) and not was_lost(one) for one in earlier)
        originals = [one for one in earlier if is_original(one)]
        twice = self.search.settings.sampler == "grid" and any(one.params == trial.params for one in originals)
        return twice or len(originals) >= self.search.trials

    def recover(self) -> None:
        """Closes trials whose process is gone; the parameters of each that nobody goes on with wait as a new trial under its number."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get(WORKER)
            if gone(worker) or (worker is None and self.local):
                self.give_up(trial.number)
        optuna.storages.fail_stale_trials(self.study)
        trials = self.study.get_trials(deepcopy=False)
        for trial in filter(was_lost, trials):
            if not any(root(later) == root(trial) and later.number > trial.number for later in trials):
                params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
                self.study.enqueue_trial(params, user_attrs={RETRY_OF: root(trial)})

    def give_up(self, number: int) -> None:
        """Closes a trial without a reason of its own: whoever comes next goes on with it."""
        with quiet(), suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another process was faster
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def tell(self, trial: optuna.Trial, value: float | None, state: TrialState, notes: Mapping[str, Any]) -> None:
        """What became of a trial, and what is worth noting; nothing where another process has taken it over meanwhile."""
        with quiet(), suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
            for name, note in notes.items():
                trial.set_user_attr(name, note)
            self.study.tell(trial, value, state, skip_if_finished=True)

    @property
    def running(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if trial.state in (TrialState.RUNNING, TrialState.WAITING)]

    def known(self, trial: optuna.Trial) -> FrozenTrial:
        """What the storage holds of a trial."""
        return self.study._storage.get_trial(trial._trial_id)

    def best(self) -> FrozenTrial | None:
        """The finished trial with the best value, the earliest of equals."""
        done = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        sign = -1 if self.search.higher else 1
        return min(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)


def is_original(trial: FrozenTrial) -> bool:
    """Whether a trial counts among those asked for: not a second attempt, and not one too many. What waits has not begun."""
    return RETRY_OF not in trial.user_attrs and not trial.user_attrs.get(SURPLUS) and trial.state != TrialState.WAITING


def root(trial: FrozenTrial | optuna.Trial) -> int:
    """The number by which people and folders know a trial, whoever goes on with it."""
    return int(trial.user_attrs.get(RETRY_OF, trial.number))


def was_lost(trial: FrozenTrial) -> bool:
    """Whether a trial ended with its process and not by itself."""
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs and not trial.user_attrs.get(SURPLUS)


def suggested(trial: optuna.Trial, key: str, domain: Domain) -> Any:
    """A value of optuna's for a key: a number, or the label of a choice."""
    if not isinstance(domain, Numbers):
        return trial.suggest_categorical(key, domain.labels)
    if domain.integer:
        return trial.suggest_int(key, int(domain.low), int(domain.high), step=int(domain.step or 1), log=domain.log)
    return trial.suggest_float(key, domain.low, domain.high, step=domain.step, log=domain.log)


def sampler(search: Search, place: int) -> optuna.samplers.BaseSampler:
    """What draws the parameters of the trial at a place in the order. TPE begins with a third of random ones, 10 at most."""
    seed = int(np.random.SeedSequence([search.settings.seed, place]).generate_state(1)[0])
    if search.settings.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(3, search.trials // 3)))
    return optuna.samplers.RandomSampler(seed=seed)


def pruner(search: Search) -> optuna.pruners.BasePruner:
    """What says whether a run goes on, from its validation metric at shares of its length."""
    if search.settings.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=min(5, max(2, search.trials // 4)))
    if search.settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=first_share(search.recipes[0]), max_resource=WHOLE)
    return optuna.pruners.NopPruner()


def first_share(recipe: Recipe) -> int:
    """How much of a run, in percent, lies before its first evaluation; a tenth where the units do not say."""
    every, whole = recipe.train.evaluate_every, recipe.train.duration
    share = every.value / whole.value if every.unit == whole.unit else 0.1
    return max(1, min(WHOLE // 2, round(WHOLE * share)))


def open_study(search: Search, name: str, folder: Path) -> Study:
    """The study of a search, made where there is none. Raises BurnishError where it cannot be opened or searches something else."""
    own = f"sqlite:///{folder.absolute()}/study.db"
    url = search.settings.storage or own
    with alone(folder / ".lock"), quiet():
        try:
            study = optuna.create_study(
                storage=storage(url),
                study_name=name,
                direction="maximize" if search.higher else "minimize",
                pruner=pruner(search),
                load_if_exists=True,
            )
        except Exception as error:  # of any driver of any database
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise BurnishError(f"the study {hidden(url)} cannot be opened: {hidden(reason)}") from error
        agree(study, search, folder)
    return Study(search, study, folder, local=url == own)


def storage(url: str) -> optuna.storages.BaseStorage:
    """optuna's storage at a URL: a database, or redis. Patient, where processes write to one file at the same time."""
    if url.startswith("redis"):
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalRedisBackend(url))
    patience = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
    return optuna.storages.RDBStorage(
        url,
        engine_kwargs=patience,
        heartbeat_interval=BEAT_SECONDS,
        grace_period=STALE_SECONDS,
    )


def hidden(text: str) -> str:
    """The text without the password of a URL."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)


def agree(study: optuna.Study, search: Search, folder: Path) -> None:
    """Notes in a new study what it searches. Raises RunError where a study that is there searches something else."""
    data = search.recipes[0].data.model_dump(mode="json", include={"train", "validation"})
    own = json.loads(json.dumps({"recipe": search.raw, "metric": search.metric, "rows": contained(data)}))
    known = study.user_attrs.get(SEARCH)
    if known is None:
        study.set_user_attr(SEARCH, own)
    elif known != own:
        keys = [key.removeprefix("recipe.") for key in differing(known, own)]
        raise RunError(
            f"the study in {folder} searches something else (other {', '.join(keys)}): "
            "name another folder with --output, or remove this one to begin anew."
        )


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Keys under which two trees differ."""
    first, second = flat(a), flat(b)
    return [key for key in {**first, **second} if first.get(key, ...) != second.get(key, ...)]


@contextmanager
def quiet() -> Iterator[None]:
    """optuna tells its own log of each trial, and warns of what is done here on purpose."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
