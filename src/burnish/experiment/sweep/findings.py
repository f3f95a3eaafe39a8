"""What a search found, as sweep.json and best.yaml hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from burnish.experiment.sweep.study import REASON, SAME_AS, SECONDS, Study, hidden, quiet, root
from burnish.recipe import Recipe
from burnish.recipe.space import Choices, Domain
from burnish.report.sweeps import shown
from burnish.report.wording import short

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
FEWEST = 4
"""Finished trials without which an importance would be chance."""


def findings(study: Study) -> dict[str, Any]:
    """What is searched, and what has become of it so far."""
    search, best = study.search, study.best()
    return {
        "kind": "sweep",
        "name": study.study.study_name,
        "recipe": search.origin,
        "metric": search.metric,
        "higher_is_better": search.higher,
        **search.settings.model_dump(include={"sampler", "pruner", "seed"}),
        "storage": hidden(search.settings.storage or "study.db"),
        "wanted": search.trials,
        "parameters": [parameter(key, domain) for key, domain in search.domains.items()],
        "trials": [record(study, trial) for trial in in_order(study)],
        "best": record(study, best) if best else None,
    }


def in_order(study: Study) -> list[FrozenTrial]:
    """Trials that have begun, by the number that people know them by."""
    return sorted((trial for trial in study.trials() if trial.state != TrialState.WAITING), key=root)


def parameter(key: str, domain: Domain) -> dict[str, Any]:
    """What is searched under a key: a range as its fields, choices as their labels."""
    if isinstance(domain, Choices):
        return {"name": key, "kind": "choice", "options": domain.labels, "written": str(domain)}
    return {"name": key, "kind": "log" if domain.log else "linear", "written": str(domain), **asdict(domain)}


def record(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """A trial: its parameters, what it came to, how far it got (percent of its length), and why it failed if it did."""
    notes = trial.user_attrs
    reached = max(trial.intermediate_values, default=None)
    return {
        "number": root(trial),
        "state": STATES.get(trial.state, "running"),
        "value": trial.value,
        "parameters": {key: trial.params[key] for key in study.search.domains if key in trial.params},
        "seconds": notes.get(SECONDS),
        "reached": reached,
        "course": [[share, value] for share, value in sorted(trial.intermediate_values.items())],
        "same_as": notes.get(SAME_AS),
        "reason": notes.get(REASON),
    }


def importances(study: Study) -> dict[str, float]:
    """Share of the variance of the metric that each parameter explains (fANOVA, Hutter 2014), over finished trials.

    Only of parameters that all of them have; none where too few are finished or nothing varies.
    """
    done = [trial for trial in study.trials() if trial.state == TrialState.COMPLETE]
    if len(done) < FEWEST or len({trial.value for trial in done}) < 2:
        return {}
    copy = optuna.create_study(direction="maximize" if study.search.higher else "minimize")
    with quiet():
        copy.add_trials(done)
        try:
            found = optuna.importance.get_param_importances(copy, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
        except (RuntimeError, ValueError):  # no parameter that varies in all of them
            return {}
    return {key: float(share) for key, share in found.items()}


def best_recipe(study: Study, best: FrozenTrial, recipe: Recipe, lines: Sequence[str]) -> str:
    """The best recipe as YAML that `burnish train` reads, under comments on where it comes from."""
    search = study.search
    value = short(best.value, 4)
    head = [
        f"the best of {len(in_order(study))} trials of {search.origin}: trial {root(best)}, {search.metric} {value} on validation",
        *lines,
        *(f"{key}: {shown(best.params[key])} of {domain}" for key, domain in search.domains.items() if key in best.params),
    ]
    whole = recipe.model_dump(mode="json", exclude_unset=True, exclude={"run"})
    content = {key: whole[key] for key in search.raw if key in whole}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"# {line}\n" for line in head) + text
