"""A run of a model of next to nothing, from which `floor` learns what a process takes beside its model."""

from __future__ import annotations

import json
from pathlib import Path

from burnish.plan.memory import memory
from burnish.recipe import load
from burnish.run.planning import work_of
from burnish.run.surveying import survey
from burnish.run.training import train


def tell(folder: str) -> None:
    """Trains the recipe that `floor` left in a folder, and prints the bytes that the process took but those of the model by the formulas."""
    recipe = load(json.loads((Path(folder) / "recipe.json").read_text()))
    peak = int((train(recipe).folder.read("summary.json") or {})["peak_memory"])
    print(peak - memory(work_of(recipe, survey(recipe), "cpu")).peak)
