"""How a run's rows are drawn and its classes weighed: tables for plan.json, sentences for header and report, and what comes next."""

from __future__ import annotations

from typing import Any

from burnish import build
from burnish.core.errors import count
from burnish.engine.ahead import Upcoming
from burnish.engine.batches import Order
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
    """A sentence where rows are put in other words, and one where training has to wait for it."""
    augment = recipe.data.augment
    if augment is None:
        return []
    waits = recipe.engine.savings.prefetch and not augment.pure
    return [augment.told(), *(["prefetch: left out, for a function of yours rewords rows and may compute as it likes"] if waits else [])]


def upcoming(recipe: Recipe, order: Order) -> Upcoming | None:
    """What says which batches to prepare while a step computes; None where each is prepared in its turn."""
    augment = recipe.data.augment
    return order.batch if recipe.engine.savings.prefetch and (augment is None or augment.pure) else None


def listed(each: list[str]) -> str:
    return ", ".join(each[:SHOWN]) + (f", and {len(each) - SHOWN} more" if len(each) > SHOWN else "")
