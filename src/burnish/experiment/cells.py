"""The runs of an experiment: each a recipe with a seed, trained once, whatever is killed, and taken from where it has been trained before."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.core.rundir import RunFolder
from burnish.engine.events import Listener
from burnish.recipe import Recipe
from burnish.run import resume, train
from burnish.run.identity import identity, identity_of

__all__ = ["Cell", "finished", "identity", "kept", "seeded"]


@dataclass(frozen=True)
class Cell:
    """One run of an experiment: a system (what is compared), and a recipe whose seed is `seed`."""

    system: str
    seed: int
    recipe: Recipe

    @property
    def title(self) -> str:
        return f"{self.system}, seed {self.seed}"


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with another seed: fresh weights, order of the data and dropout. Which rows are held out stays (`data.seed`)."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})


def finished(cell: Cell, folder: Path, shelf: Path, listeners: Sequence[Listener]) -> RunFolder:
    """The finished run of a cell, its test rows closed: one of the same identity in `folder` or below `shelf` if there is one, else trained.

    A run that was stopped in `folder` goes on to the very same weights. Where `folder` holds a run of another recipe, that stays, and the
    new one stands beside it (`seed-0-2`). Raises what training raises; then what has been done is kept for the next call.
    """
    wanted = identity(cell.recipe)
    found = kept(wanted, [folder, shelf])
    if found is not None:
        return found
    place = own_place(folder, wanted)
    if identity_of(place) == wanted:
        return resume(place.path, listeners, open_test=False).folder
    return train(cell.recipe.model_copy(update={"run": str(place.path)}), listeners=listeners, open_test=False).folder


def kept(wanted: str, shelves: Sequence[Path]) -> RunFolder | None:
    """A finished run of an identity below (or at) one of the `shelves`, looked for in that order; None where there is none."""
    for shelf in shelves:
        for folder in runs_below(shelf):
            if folder.finished and identity_of(folder) == wanted:
                return folder
    return None


def runs_below(shelf: Path) -> Iterator[RunFolder]:
    """Every run folder below a folder, or the folder itself; inside of runs there are none."""
    for path, inner, files in os.walk(shelf):
        inner.sort()
        if "recipe.yaml" in files:
            inner.clear()
            yield RunFolder(path)
        else:
            inner[:] = [name for name in inner if not name.startswith(".")]


def own_place(folder: Path, wanted: str) -> RunFolder:
    """`folder`, where it is free or holds the run that is wanted, else the first of `folder-2`, `folder-3`, ... of which that is so."""
    place, number = RunFolder(folder), 1
    while place.path.exists() and any(place.path.iterdir()) and identity_of(place) != wanted:
        number += 1
        place = RunFolder(folder.with_name(f"{folder.name}-{number}"))
    return place
