"""Reads the folder of a comparison into a `Versus`: comparison.json, and the runs it names as far as they are there.

As with a single run, a page is wanted most when something went wrong: what is missing or odd is left out and told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from burnish.core.errors import RunError
from burnish.report.collect import Record, collect, finite, mapping, sequence

FILE = "comparison.json"
ROWS = "rows.jsonl"
"""Beside comparison.json: a line for each row that was predicted, with its text."""
FRACTIONS = ("accuracy", "f1", "precision", "recall", "exact_match", "auc", "mcc", "rouge", "pearson", "spearman", "top")
"""Words in names of metrics that are shares: their differences are told in points, hundredths."""
LOWER = ("loss", "perplexity", "mae", "mse", "rmse", "bits", "error")


@dataclass(frozen=True)
class Estimate:
    """A mean over runs, its standard deviation, and the ends of its interval; None where unknown."""

    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, content: Any) -> Estimate:
        found = mapping(content)
        return cls(*(finite(found.get(name)) for name in ("mean", "sd", "low", "high")))


@dataclass(frozen=True)
class Difference:
    """A system minus the baseline, on the same seeds and rows. `rows_low` to `rows_high` is what the rows alone leave open."""

    mean: float
    low: float | None
    high: float | None
    rows_low: float | None
    rows_high: float | None
    mcnemar: float | None
    verdict: str

    @classmethod
    def of(cls, content: Any) -> Difference | None:
        found = mapping(content)
        mean = finite(found.get("mean"))
        if mean is None:
            return None
        low, high, rows_low, rows_high, p = (finite(found.get(name)) for name in ("low", "high", "rows_low", "rows_high", "p_mcnemar"))
        return cls(mean, low, high, rows_low, rows_high, p, str(found.get("verdict") or ""))


@dataclass(frozen=True)
class Cell:
    """One run of a comparison. `failure` says why it gave nothing; `record` is None where its folder cannot be read."""

    seed: int | None
    path: Path
    metrics: dict[str, float]
    seconds: float | None
    peak_memory: float | None
    energy: float | None
    reused: bool
    failure: str

    @cached_property
    def record(self) -> Record | None:
        """The run's own folder."""
        try:
            return collect(self.path)
        except (RunError, OSError):
            return None

    def predictions(self, part: str) -> list[dict[str, Any]]:
        """A record for each row of `part`; none where the file is not there. Damaged lines are left out."""
        return json_lines(self.path / "evaluations" / f"{part}.predictions.jsonl")


@dataclass(frozen=True)
class System:
    """One of the things compared: a recipe, trained once for each seed."""

    name: str
    recipe: str
    overrides: list[str]
    trainable: float | None
    total: float | None
    cells: list[Cell]
    metrics: dict[str, Estimate]
    seconds: Estimate
    peak_memory: Estimate
    energy: Estimate
    difference: Difference | None

    @property
    def done(self) -> list[Cell]:
        """The runs that gave a result."""
        return [cell for cell in self.cells if not cell.failure and cell.metrics]

    @property
    def failed(self) -> list[Cell]:
        """The runs that gave none, and will not."""
        return [cell for cell in self.cells if cell.failure]


@dataclass(frozen=True)
class Versus:
    """A comparison as pages and slides need it."""

    folder: Path
    name: str
    task: str
    metric: str
    higher: bool
    part: str
    rows: int | None
    baseline: str
    seeds: list[int]
    level: float
    systems: list[System]
    front: list[str]
    warnings: list[str]
    finished: bool
    command: str = ""
    texts: dict[tuple[str, int], str] = field(default_factory=dict, repr=False)

    @property
    def base(self) -> System | None:
        """The system that the others are compared with."""
        return next((system for system in self.systems if system.name == self.baseline), None)

    @property
    def others(self) -> list[System]:
        """All systems but the baseline."""
        return [system for system in self.systems if system.name != self.baseline]

    @property
    def measured(self) -> list[System]:
        """The systems with a mean of the metric, the best first."""
        known = [(system, self.mean(system)) for system in self.systems]
        ranked = [(mean, system) for system, mean in known if mean is not None]
        ranked.sort(key=lambda pair: -pair[0] if self.higher else pair[0])
        return [system for _, system in ranked]

    def mean(self, system: System) -> float | None:
        """The mean of the metric that decides."""
        return system.metrics.get(self.metric, Estimate()).mean

    @property
    def points(self) -> bool:
        """Whether differences are told in points (hundredths): the metric is a share."""
        values = [cell.metrics[self.metric] for system in self.systems for cell in system.cells if self.metric in cell.metrics]
        return any(word in self.metric for word in FRACTIONS) and all(-1 <= value <= 1 for value in values)

    @property
    def expected(self) -> int:
        """Runs that the comparison asks for."""
        return len(self.systems) * max(1, len(self.seeds))

    @property
    def counted(self) -> int:
        """Runs that gave a result."""
        return sum(len(system.done) for system in self.systems)


def is_comparison(folder: Path) -> bool:
    """Whether `folder` holds a comparison."""
    return (folder / FILE).is_file()


def read(folder: Path) -> Versus:
    """The comparison in `folder`. Raises RunError where there is none, or its file is damaged."""
    path = folder / FILE
    if not path.is_file():
        raise RunError(f"{folder} is not a comparison: there is no {FILE} in it. `burnish compare` makes one.")
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise RunError(
            f"{path} is damaged: {error}. Run the same `burnish compare` again: it makes the file anew from the runs."
        ) from error
    content = mapping(found)
    metric = str(content.get("metric") or "")
    higher = content.get("higher_is_better")
    systems = [system_of(entry, folder) for entry in sequence(content.get("systems"))]
    rows = finite(content.get("rows"))
    seeds = [int(seed) for seed in sequence(content.get("seeds")) if finite(seed) is not None]
    return Versus(
        folder=folder.absolute(),
        name=str(content.get("name") or folder.absolute().name),
        task=str(content.get("task") or ""),
        metric=metric,
        higher=higher if isinstance(higher, bool) else not any(word in metric for word in LOWER),
        part=str(content.get("part") or "test"),
        rows=None if rows is None else int(rows),
        baseline=str(content.get("baseline") or ""),
        seeds=seeds,
        level=finite(content.get("level")) or 0.95,
        systems=systems,
        front=[str(name) for name in sequence(content.get("front"))],
        warnings=[str(warning) for warning in sequence(content.get("warnings"))],
        finished=content.get("finished") is True,
        command=str(content.get("command") or ""),
        texts={(str(line.get("file")), int(line["row"])): str(line.get("text")) for line in json_lines(folder / ROWS) if "row" in line},
    )


def system_of(entry: Any, folder: Path) -> System:
    """One entry of `systems`."""
    content = mapping(entry)
    cells = [cell_of(run, folder) for run in sequence(content.get("runs"))]
    energies = [cell.energy for cell in cells if cell.energy is not None]
    return System(
        name=str(content.get("name")),
        recipe=str(content.get("recipe") or ""),
        overrides=[str(override) for override in sequence(content.get("overrides"))],
        trainable=finite(content.get("trainable")),
        total=finite(content.get("total")),
        cells=cells,
        metrics={name: Estimate.of(value) for name, value in mapping(content.get("metrics")).items()},
        seconds=Estimate.of(content.get("seconds")),
        peak_memory=Estimate.of(content.get("peak_memory")),
        energy=Estimate(sum(energies) / len(energies)) if energies else Estimate(),
        difference=Difference.of(content.get("difference")),
    )


def cell_of(run: Any, folder: Path) -> Cell:
    """One entry of a system's `runs`."""
    content = mapping(run)
    seed = finite(content.get("seed"))
    metrics = {name: finite(value) for name, value in mapping(content.get("metrics")).items()}
    return Cell(
        seed=None if seed is None else int(seed),
        path=folder / str(content.get("path") or "."),
        metrics={name: value for name, value in metrics.items() if value is not None},
        seconds=finite(content.get("seconds")),
        peak_memory=finite(content.get("peak_memory")),
        energy=finite(content.get("energy")),
        reused=content.get("reused") is True,
        failure=str(content.get("failed") or ""),
    )


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON Lines file that hold objects."""
    if not path.is_file():
        return []
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found
