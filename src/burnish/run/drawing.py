"""What a run tells of how its rows are drawn and how its classes are weighed: tables for plan.json, sentences for header and report."""

from __future__ import annotations

from typing import Any

from burnish import build
from burnish.core.errors import count
from burnish.recipe import Recipe

SHOWN = 8
"""Labels or sources that a sentence names; plan.json holds all."""


def drawing(parts: build.Parts) -> dict[str, Any]:
    """`strata` (name, examples there are, examples an epoch draws) and `classes` (label, units an epoch holds, weight), where the
    recipe asks for them, and `notes` of both."""
    strata, weights = build.strata(parts), build.class_weights(parts)
    made: dict[str, Any] = {"notes": [*order_notes(parts.recipe), *rewording_notes(parts.recipe)]}
    if strata is not None:
        drawn = list(zip(strata.names, map(len, strata.members), strata.quotas, strict=True))
        made["strata"] = [list(line) for line in drawn]
        each = [f"{quota:,} of {name} (each of {there:,} is seen {quota / there:.2f} times)" for name, there, quota in drawn]
        made["notes"].append(f"{reason(parts.recipe)}: an epoch draws {count(strata.size, 'example')}, {listed(each)}")
    if weights is not None:
        made["classes"] = [[label, units, weight] for label, (units, weight) in weights.items()]
        unit = "row" if parts.recipe.task.chooses == "row" else "supervised token"
        each = [f"{label} {weight:.3g} ({count(round(units), unit)})" for label, (units, weight) in weights.items()]
        made["notes"].append(f"class weights, with mean 1 over an epoch: {listed(each)}")
    return made


def reason(recipe: Recipe) -> str:
    return "mixture" if recipe.data.balance is None else f"balance={recipe.data.balance}"


def order_notes(recipe: Recipe) -> list[str]:
    """A sentence where examples are not simply shuffled."""
    order = recipe.data.order
    if order.name == "length":
        return ["batches of like length: padding is saved by changing what a batch holds"]
    if order.name == "curriculum":
        return [f"curriculum: from easy to hard by `{order.by}` in the first {count(order.epochs, 'epoch')}, then shuffled"]
    return []


def rewording_notes(recipe: Recipe) -> list[str]:
    """A sentence where rows are put in other words."""
    return [recipe.data.augment.told()] if recipe.data.augment is not None else []


def listed(each: list[str]) -> str:
    return ", ".join(each[:SHOWN]) + (f", and {len(each) - SHOWN} more" if len(each) > SHOWN else "")
