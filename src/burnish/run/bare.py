"""A run of a model of next to nothing, from which `floor` learns what a process takes beside its model; and what libraries take of it."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path

from burnish.plan.memory import memory
from burnish.recipe import load
from burnish.run.floor import resident
from burnish.run.planning import work_of
from burnish.run.surveying import survey
from burnish.run.training import train


def tell(folder: str) -> None:
    """Trains the recipe that `floor` left in a folder, and prints the bytes that the process took but those of the model by the formulas, the
    seconds of loading and saving so little, and when it ended."""
    recipe = load(json.loads((Path(folder) / "recipe.json").read_text()))
    summary = train(recipe).folder.read("summary.json") or {}
    size = int(summary["peak_memory"]) - memory(work_of(recipe, survey(recipe), "cpu")).peak
    print(json.dumps({"bytes": size, "seconds": {part: summary["spent"][part] for part in ("loading", "saving")}, "ended": time.time()}))


def tell_libraries() -> None:
    """Prints what bitsandbytes takes, and what peft takes, which brings it along, beside all that training needs anyway."""
    importlib.import_module("transformers.models.bert.modeling_bert")  # what every model needs of transformers
    before, found = resident(), {}
    for name, module in (("bitsandbytes", "bitsandbytes"), ("peft", "peft.tuners.lora")):
        try:
            importlib.import_module(module)
        except ImportError:
            continue
        found[name] = resident() - before
    print(json.dumps(found))
