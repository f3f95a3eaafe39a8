"""The recipe's `sweep` section: how `burnish sweep` searches the ranges that stand in the place of values."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from burnish.core.spec import Spec


class Sweep(Spec):
    """How a search goes through the ranges of a recipe; of no effect on a single run."""

    trials: int | None = Field(default=None, ge=1)
    """Runs that the search makes in all, whoever makes them; by default 20, or every point of a grid."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How points are chosen: tpe (where good ones were, Bergstra 2011), random, or grid (every combination)."""

    pruner: Literal["median", "hyperband", "none"] = "median"
    """Which runs are stopped early: those worse than the median at the same share of their length, those that hyperband's brackets drop, or none."""

    metric: str | None = None
    """The validation metric that is searched for; by default `train.keep_best`, else the task's first beside the loss."""

    seeds: int = Field(default=3, ge=0)
    """With how many fresh seeds the best recipe is trained again; 0 for a machine that only takes part in the search."""

    storage: str | None = None
    """Where the study is kept: a URL of optuna's, by which several machines share it; by default study.db in the sweep's folder."""

    seed: int = Field(default=0, ge=0)
    """Seed of the search itself; the runs have that of `train.seed`."""

    @property
    def wanted(self) -> int:
        """Runs where no grid says how many there are."""
        return self.trials or 20
