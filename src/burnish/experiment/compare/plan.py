"""What is to be compared, how, and where: settled and checked before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.core.rundir import RunFolder
from burnish.experiment.cells import Cell, identity, seeded
from burnish.experiment.compare.systems import System, baseline_of, metric_of, part_of, recipe_name, seeds_of, systems, unfair

FILE = "comparison.json"


@dataclass(frozen=True)
class Plan:
    """A comparison: its systems and seeds, what it is measured by, on which part of the data; `warnings` say why it may mislead."""

    name: str
    systems: Sequence[System]
    seeds: Sequence[int]
    baseline: str
    metric: str
    metrics: Mapping[str, bool]
    part: str
    warnings: Sequence[str]

    @property
    def higher(self) -> bool:
        """Whether more of the metric is better."""
        return self.metrics[self.metric]

    @property
    def cells(self) -> list[Cell]:
        """Its runs, seed by seed, so that a comparison that is stopped has all systems alike."""
        return [Cell(system.name, seed, seeded(system.recipe, seed)) for seed in self.seeds for system in self.systems]

    @property
    def key(self) -> str:
        """What a comparison is about, whatever its seeds: the same command with more seeds goes on with it."""
        content = sorted((system.name, identity(seeded(system.recipe, 0))) for system in self.systems)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def folder(self, output: Path | None, shelf: Path) -> Path:
        """Where it is kept: `output`, else `compare-NAME-1` below `shelf`, or the first that is free or holds this very comparison."""
        number = 1
        while output is None:
            place = RunFolder(shelf / f"compare-{self.name}-{number}")
            held = place.read(FILE)
            if (held or {}).get("key") == self.key or not place.path.exists():
                output = place.path
            number += 1
        return Path(output).expanduser().absolute()


def planned(
    sources: Sequence[str | Path],
    vary: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seeds: str = "3",
    baseline: str | None = None,
    metric: str | None = None,
) -> Plan:
    """The comparison of `sources` (recipes), or of one with what `vary` names (`method=full,lora`), over `seeds` (`5`, or `0,3,7`).

    The others are compared with `baseline` (a system's name; the first) by `metric` (what the recipes keep the best by, else the task's
    first). Raises BurnishError where a recipe is faulty, or where the systems do not measure the same thing.
    """
    paths = [Path(source) for source in sources]
    found = systems(paths, vary, overrides)
    part = part_of(found)
    warnings = unfair(found, part)
    chosen, _ = metric_of(found, metric)
    return Plan(
        recipe_name(paths, vary), found, seeds_of(seeds), baseline_of(found, baseline), chosen, found[0].recipe.task.metrics, part, warnings
    )
