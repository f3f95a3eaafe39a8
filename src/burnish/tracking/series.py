"""Events of a run as named values: the same whether they are told as they happen or read from the run's record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Values = dict[str, float]

STEP_VALUES = ("loss", "grad_norm", "lr", "memory", "epoch", "penalty")


def step_values(facts: Mapping[str, Any], since: float, places: Sequence[str]) -> Values:
    """Values of a step: `since` is when the step before it ended, in seconds of the run."""
    found = {f"train/{name}": facts[name] for name in STEP_VALUES if isinstance(facts.get(name), int | float)}
    if not found.get("train/penalty"):
        found.pop("train/penalty", None)
    if facts["seconds"] > since:
        found["train/tokens_per_second"] = facts["tokens"] / (facts["seconds"] - since)
    found |= {f"gradient/{place}": norm for place, norm in zip(places, facts.get("block_norms") or (), strict=False)}
    return finite(found)


def evaluation_values(part: str, metrics: Mapping[str, float]) -> Values:
    """Values of an evaluation while training, by the part of the data."""
    return finite({f"{part}/{name}": value for name, value in metrics.items()})


def finite(values: Mapping[str, Any]) -> Values:
    """Only numbers that are any, as floats."""
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)}


def replayed(history: Iterable[Mapping[str, Any]], places: Sequence[str]) -> Iterator[tuple[bool, Values, int, float]]:
    """(whether it is a step, values, step, seconds since the run began) of what a run has recorded, in its order."""
    since = 0.0
    for line in history:
        if line.get("kind") == "step":
            yield True, step_values(line, since, places), line["step"], line["seconds"]
            since = line["seconds"]
        elif line.get("kind") == "evaluation":
            yield False, evaluation_values(str(line.get("part")), line.get("metrics") or {}), line["step"], since


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings with dotted keys: {"train": {"seed": 0}} -> {"train.seed": 0}."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
