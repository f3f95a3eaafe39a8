"""What a sweep found, in sentences: what sweep.json holds, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from burnish.core.errors import count
from burnish.report.wording import plain, short

ORDER = ("complete", "pruned", "failed", "running")


def ranked(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Finished trials from the best on, then stopped ones, then failed ones, then those that go on."""
    sign = -1 if facts["higher_is_better"] else 1

    def place(trial: Mapping[str, Any]) -> tuple[int, float, int]:
        return ORDER.index(trial["state"]), sign * (trial["value"] or 0.0), trial["number"]

    return sorted(facts["trials"], key=place)


def shown(value: Any) -> str:
    """A parameter as people read it."""
    return short(value, 4) if isinstance(value, float) else plain(value)


def best_lines(facts: Mapping[str, Any]) -> list[str]:
    """What the best value of a search is worth, in sentences."""
    best, proof = facts["best"], facts.get("proof")
    ended = sum(trial["state"] != "running" for trial in facts["trials"])
    lines = [f"best of {ended} on validation: {facts['metric']} {short(best['value'], 4)} (trial {best['number']})"]
    if not proof:
        return lines
    seeds = ", ".join(str(run["seed"]) for run in proof["runs"] if "reason" not in run)
    lines += [
        f"the same recipe with fresh seeds {seeds}, {part}: {interval(proof[part])}" for part in ("validation", "test") if proof[part]
    ]
    lines += [f"seed {run['seed']} failed: {run['reason']}" for run in proof["runs"] if "reason" in run]
    gap = proof["flattered"]
    if gap is not None and gap > 1e-9:
        lines.append(f"the best of {ended} was flattered by {short(gap)}: of many runs the luckiest is chosen")
    elif gap is not None:
        better = "as good" if math.isclose(gap, 0, abs_tol=1e-9) else f"better by {short(-gap)}"
        lines.append(f"the best of {ended} was not flattered: fresh seeds are {better}")
    return lines


def interval(found: Mapping[str, Any]) -> str:
    """A mean over seeds with its deviation and interval."""
    mean = f"mean {short(found['mean'], 4)}"
    if found["sd"] is None:
        return f"{mean} (one seed: how much seeds vary is unknown)"
    return f"{mean}, sd {short(found['sd'])}, 95% interval of the mean {short(found['low'], 4)} to {short(found['high'], 4)}"


def states(facts: Mapping[str, Any]) -> str:
    """`12 complete, 5 pruned, 1 failed`"""
    found = [trial["state"] for trial in facts["trials"]]
    return ", ".join(f"{found.count(state)} {state}" for state in ORDER if state in found)


def headline(facts: Mapping[str, Any]) -> str:
    """What was searched, how, and what became of it."""
    aim = "highest" if facts["higher_is_better"] else "lowest"
    pruning = "no run was stopped early" if facts["pruner"] == "none" else f"{facts['pruner']} pruning stopped runs early"
    return (
        f"{count(len(facts['trials']), 'trial')} ({states(facts)}) of {count(len(facts['parameters']), 'parameter')} "
        f"searched for the {aim} {facts['metric']} on validation rows; {facts['sampler']} chose the points, {pruning}."
    )


def reached(trial: Mapping[str, Any]) -> str:
    """`complete`, or how far a run got that was stopped early, or why one failed."""
    if trial["state"] == "pruned":
        return f"stopped at {trial['reached']}%"
    if trial["state"] == "failed":
        return f"failed: {trial['reason']}"
    return f"as trial {trial['same_as']}" if trial["same_as"] is not None else str(trial["state"])
