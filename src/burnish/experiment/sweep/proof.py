"""What the best recipe of a search is worth: trained again with fresh seeds, since the best of many runs was lucky too."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from burnish.core.errors import BurnishError, Interrupted
from burnish.core.rundir import RunFolder
from burnish.engine.events import OfRun, OfSeveral, RunBegan, RunEnded
from burnish.experiment.cells import Cell, finished, identity, kept, seeded
from burnish.experiment.compare.results import over_seeds
from burnish.experiment.sweep.study import Study
from burnish.experiment.sweep.trials import sentence
from burnish.recipe import Recipe
from burnish.report import page
from burnish.report.wording import short
from burnish.run import load

PARTS = ("validation", "test")
Tell = Callable[[OfSeveral], None]


def fresh_seeds(study: Study) -> list[int]:
    """The first seeds above all that the search used."""
    used = [recipe.train.seed for recipe in study.search.recipes]
    if "train.seed" in study.search.domains:
        used += [study.search.recipe(trial.params).train.seed for trial in study.trials() if trial.params]
    return [max(used) + 1 + number for number in range(study.search.settings.seeds)]


def proved(study: Study, number: int, recipe: Recipe, tell: Tell) -> list[dict[str, Any]]:
    """A record for each fresh seed: what the best recipe comes to on validation and, opened only now, on test rows.

    Runs that are there already are taken as they are. A seed with which training fails has a reason in the place of numbers.
    """
    seeds = fresh_seeds(study)
    return [retrained(study, number, seeded(recipe, seed), tell, (place, len(seeds))) for place, seed in enumerate(seeds, start=1)]


def retrained(study: Study, number: int, recipe: Recipe, tell: Tell, turn: tuple[int, int]) -> dict[str, Any]:
    """The record of one seed, the so-and-so-many-th of several."""
    seed, began = recipe.train.seed, time.monotonic()
    name, shelf = f"best recipe, seed {seed}", study.folder / "best" / f"trial-{number:03}"
    tell(RunBegan(name, *turn))
    there = kept(identity(recipe), [shelf]) is not None
    try:
        folder = finished(Cell("best", seed, recipe), shelf / f"seed-{seed}", shelf, [lambda event: tell(OfRun(name, event))])
        opened(folder, recipe)
    except Interrupted:
        raise
    except BurnishError as error:
        reason = sentence(str(error))
        tell(RunEnded(name, "failed", reason, time.monotonic() - began))
        return {"seed": seed, "reason": reason}
    found = measured(folder)
    said = "  ".join(f"{part} {short(found[part][study.search.metric], 4)}" for part in PARTS if part in found)
    tell(RunEnded(name, "found" if there else "done", f"{study.search.metric}: {said}", time.monotonic() - began))
    return {"seed": seed, "path": str(folder.path.relative_to(study.folder)), **found}


def opened(folder: RunFolder, recipe: Recipe) -> None:
    """Measures a run on the test rows, once."""
    if recipe.data.test is not None and folder.read("evaluations/test.json") is None:
        load(folder.path).evaluate("test")
        page.write(folder.path)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def measured(folder: RunFolder) -> dict[str, Any]:
    found = {part: folder.read(f"evaluations/{part}.json") for part in PARTS}
    return {part: content["metrics"] for part, content in found.items() if content} | {"seconds": folder.read("summary.json")["seconds"]}


def judged(study: Study, runs: Sequence[Mapping[str, Any]], best: float) -> dict[str, Any]:
    """What fresh seeds come to, and by how much the best value of the search was better than their mean: it was chosen for being high."""
    found: dict[str, Any] = {"runs": list(runs)}
    metric, higher = study.search.metric, study.search.higher
    for part in PARTS:
        known = {run["seed"]: RunFolder(study.folder / run["path"]) for run in runs if run.get(part, {}).get(metric) is not None}
        found[part] = asdict(over_seeds(known, part, metric, higher)) if known else None
    sign = 1 if higher else -1
    found["flattered"] = None if found["validation"] is None else sign * (best - found["validation"]["mean"])
    return found
