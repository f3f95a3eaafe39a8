"""What the finished runs of a comparison allow to say, as comparison.json holds it.

Legend: K seeds, N rows, R draws.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from burnish.core.errors import RunError, count
from burnish.core.rundir import RunFolder
from burnish.experiment.statistics import LEVEL, Estimate, apart, estimate, mcnemar, resampled, share, symmetric, verdict
from burnish.metrics.resampling import Resampled, right, sums

CLOSE = 1e-4
"""How near the metric of an evaluation has to be to what its rows give: rounding apart, they are the same."""

SIGNED, FREE = {"mcc", "pearson", "spearman"}, {"r2"}
"""Metrics that go from -1 to 1, and those that may be as low as they like; all others that rise are shares."""

ENDS = ("low", "high", "rows_low", "rows_high")

Row = tuple[str, int]
Key = tuple[str, str]


@dataclass(frozen=True)
class Measured:
    """A finished run: its scores on the part that is compared, and a record for each row, in the order of all other runs."""

    seed: int
    folder: RunFolder
    scores: Mapping[str, float | None]
    records: Sequence[Mapping[str, Any]]
    complete: bool = True

    def score(self, metric: str) -> float | None:
        """What the run came to; None where that is no number."""
        found = self.scores.get(metric)
        return found if found is not None and math.isfinite(found) else None

    def sums(self, metric: str) -> Resampled | None:
        """The metric as a function of rows, if they tell it: if it comes out as the evaluation has it."""
        found, told = sums(metric, self.records), self.score(metric)
        if found is None or told is None:
            return None
        return found if not self.complete or abs(found.value - told) <= CLOSE * max(1.0, abs(told)) else None


@dataclass(frozen=True)
class Aligned:
    """The runs of every system on the same rows in the same order."""

    runs: Mapping[str, Sequence[Measured]]
    rows: int
    warnings: Sequence[str] = field(default=())


def aligned(folders: Mapping[str, Mapping[int, RunFolder]], part: str) -> Aligned:
    """Reads what every run (by system and seed) has predicted for `part`. Rows that not every run has are left out, and told.

    Raises RunError where two runs disagree about what would have been right.
    """
    found = {system: {seed: records_of(folder, part) for seed, folder in runs.items()} for system, runs in folders.items()}
    every = [records for runs in found.values() for records in runs.values()]
    common = [key for key in (every[0] if every else {}) if all(key in records for records in every)]
    most = max((len(records) for records in every), default=0)
    warnings = (
        [f"{count(most - len(common), 'row')} of {most:,} could not be predicted by every run and are left out"]
        if most > len(common)
        else []
    )
    if every and not common:
        raise RunError("no row has been predicted by every run: the systems do not measure the same rows.")
    require_same_truth(every, common)
    runs = {
        system: [
            Measured(
                seed,
                folders[system][seed],
                folders[system][seed].read(f"evaluations/{part}.json")["metrics"],
                [records[key] for key in common],
                len(records) == len(common),
            )
            for seed, records in sorted(own.items())
        ]
        for system, own in found.items()
    }
    return Aligned(runs, len(common), warnings)


def records_of(folder: RunFolder, part: str) -> dict[Row, Mapping[str, Any]]:
    """What a run has predicted, by file and row; without the file where there is but one, for copies of it may have other names."""
    path = folder.evaluations / f"{part}.predictions.jsonl"
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read ({error}): measure the run again with `burnish evaluate {folder.path} --part {part}`."
        ) from error
    several = len({record["file"] for record in records}) > 1
    return {(str(record["file"]) if several else "", int(record["row"])): record for record in records}


def require_same_truth(every: Sequence[Mapping[Row, Mapping[str, Any]]], common: Sequence[Row]) -> None:
    for key in common:
        truths = [{name: records[key][name] for name in ("truth", "references", "reference") if name in records[key]} for records in every]
        if any(truth != truths[0] for truth in truths):
            raise RunError(
                f"the runs disagree about what is right in {every[0][key]['file']} row {key[1]} ({truths[0]}, ...): they do not measure the same."
            )


def results(found: Aligned, baseline: str, metric: str, higher: Mapping[str, bool]) -> dict[str, dict[str, Any]]:
    """For each system its `metrics`, its `difference` to the baseline in `metric`, and `differences` in all metrics.

    A metric is there if every run has it as a number (a correlation with a constant is none); its rows vary too if they tell it.
    """
    everywhere = [name for name in higher if all(run.score(name) is not None for runs in found.runs.values() for run in runs)]
    drawn = measured(found, everywhere)
    made: dict[str, dict[str, Any]] = {}
    for system, runs in found.runs.items():
        if not runs:
            made[system] = {"metrics": {}, "difference": None, "differences": {}}
            continue
        own = {name: alone(name, system, drawn, higher[name]) for name in everywhere}
        between = {}
        if system != baseline and (pairs := paired(runs, found.runs[baseline])):
            between = {name: difference(name, (system, baseline), pairs, drawn, higher[name]) for name in everywhere}
        tests = tested(runs, found.runs[baseline]) if between else {}
        told = {name: {**asdict(each), "verdict": verdict(each, higher[name])} for name, each in between.items()}
        made[system] = {
            "metrics": {name: asdict(each) for name, each in own.items()},
            "difference": {**told[metric], **tests} if metric in told else None,
            "differences": told,
        }
    return made


def limits(metric: str, higher: bool) -> tuple[float, float]:
    """Between what values a metric is."""
    if metric in FREE:
        return -math.inf, math.inf
    return (-1.0 if metric in SIGNED else 0.0, 1.0) if higher else (0.0, math.inf)


def bounded(found: Estimate, low: float, high: float) -> Estimate:
    """The estimate with its intervals cut where no value can be."""
    return replace(found, **{name: min(max(value, low), high) for name in ENDS if (value := getattr(found, name)) is not None})


def over_seeds(folders: Mapping[int, RunFolder], part: str, metric: str, higher: bool) -> Estimate:
    """What runs of one recipe come to, by seed, on a part that all of them were measured on."""
    return alone(metric, "", measured(aligned({"": folders}, part), [metric]), higher)


@dataclass(frozen=True)
class Drawn:
    """By system and metric: `values` (K,) of each seed, and `drawn` (R, K) of each seed on the same draws of the rows, where all systems'
    rows tell the metric. `sizes`, by metric: how many rows, words or spans are right or wrong."""

    rows: int
    values: Mapping[Key, np.ndarray]
    drawn: Mapping[Key, np.ndarray] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)


def measured(found: Aligned, metrics: Sequence[str]) -> Drawn:
    """All runs in all metrics, on their rows and on draws of them."""
    terms = {(system, name): [run.sums(name) for run in runs] for system, runs in found.runs.items() for name in metrics if runs}
    values = {
        key: np.array(
            [one.value if one and not run.complete else run.scores[key[1]] for one, run in zip(own, found.runs[key[0]], strict=True)]
        )
        for key, own in terms.items()
    }
    known = {name for name in metrics if all(one for key, own in terms.items() if key[1] == name for one in own)}
    listed = [(key, one) for key, own in terms.items() if key[1] in known for one in own if one]
    if not listed or found.rows < 2:
        return Drawn(found.rows, values)
    drawn = resampled([one for _, one in listed])
    places: dict[Key, list[int]] = {}
    for place, (key, _) in enumerate(listed):
        places.setdefault(key, []).append(place)
    sizes = {name: max(one.size for (_, metric), one in listed if metric == name) for name in known}
    return Drawn(found.rows, values, {key: drawn[:, own] for key, own in places.items()}, sizes)


def alone(name: str, system: str, found: Drawn, higher: bool) -> Estimate:
    """A system by itself."""
    interval = share(found.rows) if higher and name not in SIGNED | FREE else symmetric
    return bounded(estimate(found.values[system, name], found.drawn.get((system, name)), found.rows, interval), *limits(name, higher))


def paired(runs: Sequence[Measured], others: Sequence[Measured]) -> list[tuple[int, int]]:
    """Places of the runs that have the same seed."""
    places = {run.seed: place for place, run in enumerate(others)}
    return [(place, places[run.seed]) for place, run in enumerate(runs) if run.seed in places]


def difference(name: str, systems: tuple[str, str], pairs: Sequence[tuple[int, int]], found: Drawn, higher: bool) -> Estimate:
    """A system minus the baseline, seed by seed on the same rows."""
    first, second = systems
    mine, its = [list(places) for places in zip(*pairs, strict=True)]
    one, other = found.drawn.get((first, name)), found.drawn.get((second, name))
    drawn = None if one is None or other is None else one[:, mine] - other[:, its]
    size = found.sizes.get(name)
    values = found.values[first, name][mine] - found.values[second, name][its]
    low, high = limits(name, higher)
    return bounded(estimate(values, drawn, found.rows, apart(1 / size) if size else symmetric), low - high, high - low)


def tested(runs: Sequence[Measured], others: Sequence[Measured]) -> dict[str, Any]:
    """McNemar's test of which rows are right, for all seeds together and for each; None where rows are neither right nor wrong."""
    pairs = [(runs[mine], others[its]) for mine, its in paired(runs, others)]
    answers = [(right(one.records), right(other.records)) for one, other in pairs]
    known = [(one, other) for one, other in answers if one is not None and other is not None]
    if not known or len(known) < len(pairs):
        return {"p_mcnemar": None}
    first, second = (np.stack(side) for side in zip(*known, strict=True))
    by_seed = [
        {
            "seed": run.seed,
            "only_this": int((one & ~other).sum()),
            "only_baseline": int((other & ~one).sum()),
            "p": mcnemar(one[None], other[None]),
        }
        for (run, _), one, other in zip(pairs, first, second, strict=True)
    ]
    return {"p_mcnemar": mcnemar(first, second), "mcnemar": by_seed}


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation of what is known."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }


def front(systems: Sequence[Mapping[str, Any]], metric: str, higher: bool) -> list[str]:
    """Names of the systems that no other beats: no other is as good and as quick to train, and better in one of the two."""
    points = {}
    for system in systems:
        quality, cost = system["metrics"].get(metric, {}).get("mean"), system["seconds"]["mean"]
        if quality is not None and cost is not None:
            points[system["name"]] = (quality if higher else -quality, -cost)
    return [
        name
        for name, own in points.items()
        if not any(all(a >= b for a, b in zip(other, own, strict=True)) and other != own for other in points.values())
    ]


__all__ = ["LEVEL", "Aligned", "aligned", "front", "results", "spread"]
