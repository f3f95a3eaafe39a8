"""`burnish sweep`: searches the ranges of a recipe, and trains what it finds again with fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.core.errors import Interrupted, RunError, disk_errors, listing
from burnish.core.rundir import RunFolder
from burnish.engine.events import OfSeveral
from burnish.experiment.sweep.findings import best_recipe, findings, importances
from burnish.experiment.sweep.proof import Tell, judged, proved
from burnish.experiment.sweep.study import Study, open_study, root
from burnish.experiment.sweep.turns import Turns
from burnish.experiment.sweep.workers import alone
from burnish.recipe.search import searched
from burnish.report import sweeps

__all__ = ["sweep"]


def sweep(
    recipe: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    listeners: Sequence[Tell] = (),
) -> dict[str, Any]:
    """Searches the ranges of `recipe`, and returns what sweep.json in `folder` holds then (by default runs/NAME-sweep).

    `options` replace settings of the recipe's `sweep` section. The same call goes on where an earlier one was stopped or killed, and shares
    the trials with any that goes on at the same time. Raises BurnishError for faults of recipe and study, Interrupted when it is stopped,
    RunError where no trial came to a value.
    """
    search = searched(recipe, overrides, options)
    name = Path(recipe).stem if isinstance(recipe, (str, Path)) else "recipe"
    place = Path(folder) if folder is not None else Path("runs") / f"{name}-sweep"
    with disk_errors(f"Making {place}"):
        place.mkdir(parents=True, exist_ok=True)
    study = open_study(search, place.name, place.absolute())

    def tell(event: OfSeveral) -> None:
        for listener in listeners:
            listener(event)

    try:
        Turns(study, tell).take()
        return concluded(study, tell)
    except Interrupted as stop:
        raise Interrupted(f"Stopped; what has been done is kept in {place}. Go on with the same command.", stop.exit_code - 128) from None


def concluded(study: Study, tell: Tell) -> dict[str, Any]:
    """Trains the best recipe again with fresh seeds, one process for all, and writes best.yaml, sweep.json and the page."""
    best = study.best()
    if best is None:
        reasons = [f"trial {root(trial)}: {trial.user_attrs.get('reason', 'pruned')}" for trial in study.trials()]
        raise RunError(listing(f"No trial of {study.folder} came to a value", reasons))
    recipe = study.search.recipe(best.params)
    folder = RunFolder(study.folder)
    with alone(study.folder / ".proof"):
        facts = {**findings(study), "importances": importances(study)}
        if study.search.settings.seeds:
            runs = proved(study, root(best), recipe, tell)
            facts["proof"] = judged(study, runs, best.value or 0.0)
        facts["best_recipe"] = best_recipe(study, best, recipe, sweeps.best_lines(facts)[1:])
        folder.write_text("best.yaml", facts["best_recipe"])
        folder.write("sweep.json", facts)
        sweeps.write(study.folder)
    return facts
