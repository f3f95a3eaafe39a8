"""`burnish plan`: what a recipe comes to, and its alternatives, on a machine: parameters, memory, what fits. Nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from burnish.core import packages
from burnish.core.errors import BurnishError, disk_errors
from burnish.engine.events import Listener, Noted, Working
from burnish.models.fast.store import free_memory
from burnish.plan import choices, machines, parameters
from burnish.plan.choices import AS_WRITTEN, WAYS, Choice
from burnish.plan.elsewhere import forecast_on
from burnish.plan.machines import Machine
from burnish.plan.parameters import Part
from burnish.plan.time import Forecast
from burnish.plan.work import Work
from burnish.recipe import Recipe
from burnish.recipe import load as load_recipe
from burnish.run.clock import since_start
from burnish.run.floor import process_beside, process_bytes
from burnish.run.outlook import Source
from burnish.run.planning import applied, work_of
from burnish.run.preview import tried
from burnish.run.surveying import Survey, survey

HERE = "this machine"


@dataclass(frozen=True)
class Prospect:
    """A recipe before it is trained: its model's `parts`, what their formulas come to, its work, and the `choices` on `machine`."""

    source: Source
    overrides: Sequence[str]
    recipe: Recipe
    surveyed: Survey
    parts: Sequence[Part]
    by_formula: int | None
    machine: Machine
    choices: Sequence[Choice]
    warnings: Sequence[str]
    forecast: Forecast | None = None

    @property
    def work(self) -> Work:
        """The work of the recipe as it is written."""
        work = self.choices[0].work
        assert work is not None
        return work

    @property
    def fits(self) -> bool:
        return self.choices[0].fits

    @property
    def advice(self) -> str:
        return choices.advice(self.choices, self.machine)

    def to_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        counted = [{**vars(part), "told": part.told} for part in self.parts]
        total = sum(part.total for part in self.parts)
        return {
            "parameters": {"parts": counted, "total": total, "by_formula": self.by_formula},
            "time": None if self.forecast is None else self.forecast.to_json(),
            **choices.to_json(self.choices, self.machine),
        }


def plan(source: Source, overrides: Sequence[str] = (), machine: str | None = None, listeners: Sequence[Listener] = ()) -> Prospect:
    """The prospect of a recipe on a named machine, by default on this one. Raises BurnishError where training would, before its first step."""

    def emit(event: Any) -> None:
        for listener in listeners:
            listener(event)

    def tell(what: str, done: int, total: int) -> None:
        emit(Working(what, done, total))

    start = since_start()
    where = machines.named(machine) if machine else None  # a name that means nothing is refused before anything is read
    with packages.elsewhere(where is not None):
        recipe = load_recipe(source, overrides)
    where = where or here(recipe)
    surveyed = survey(recipe, tell)
    model, place, _ = applied(recipe, surveyed)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    parts = parameters.parts(model, place, inner.config)
    device = "cpu" if where.kind == "cpu" else "cuda"
    process = process_bytes(recipe, surveyed, lambda message: emit(Noted(message))) if where.kind != "cuda" else 0
    work = work_of(recipe, surveyed, device)
    found, seen = [choices.chosen(AS_WRITTEN, work, where, process)], [recipe]
    for number, way in enumerate(WAYS[1:], start=1):
        tell("ways looked at", number, len(WAYS))
        other = allowed(source, [*overrides, *way.overrides], surveyed, device)
        if other is not None and not any(same(other[0], one) for one in seen):
            seen.append(other[0])
            below = process_beside(*other, work, process) if where.kind != "cuda" else 0
            found.append(choices.chosen(way, other[1], where, below))
    formula, warnings = parameters.by_formula(parts, inner.config), surveyed.gathered.warnings
    time = forecast_on(work, where) if machine else tried(recipe, work, start, listeners)
    return Prospect(source, overrides, recipe, surveyed, parts, formula, where, found, warnings, time)


def allowed(source: Source, overrides: Sequence[str], surveyed: Survey, device: str) -> tuple[Recipe, Work] | None:
    """A recipe so changed and its work; None where the recipe's own checks, or its model, refuse it. What it needs may yet be installed."""
    try:
        with packages.elsewhere():
            recipe = load_recipe(source, overrides)
            return recipe, work_of(recipe, surveyed, device)
    except BurnishError:
        return None


def same(one: Recipe, other: Recipe) -> bool:
    return one.model_dump() == other.model_dump()


def here(recipe: Recipe) -> Machine:
    """This machine as the recipe would use it: its GPU, or the memory that is free for a program."""
    if recipe.train.device != "cpu" and torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return Machine(f"{HERE} ({card.name})", 1, int(card.total_memory), "cuda")
    free = free_memory()
    return Machine(f"{HERE} (CPU, {free / 1e9:.1f} GB free)", 1, free, "cpu")


def write_recipe(prospect: Prospect, path: Path) -> Choice:
    """Writes the recipe that fits with the least change, and checks that it loads. Raises BurnishError where none fits."""
    found = choices.first_fitting(prospect.choices)
    if found is None:
        raise BurnishError(f"--write: {prospect.advice}")
    with packages.elsewhere():
        recipe = load_recipe(prospect.source, [*prospect.overrides, *found.way.overrides])
    said = recipe.model_dump(mode="json", exclude_unset=True)
    kept = {key: said[key] for key, field in Recipe.model_fields.items() if getattr(recipe, key) != field.get_default()}
    text = f"# For {prospect.machine.name}: {found.way.name}, by burnish plan.\n" + yaml.safe_dump(
        kept, sort_keys=False, allow_unicode=True
    )
    with disk_errors(f"Writing {path}"):
        path.write_text(text, encoding="utf-8")
    with packages.elsewhere():
        if not same(load_recipe(path), recipe):
            raise BurnishError(f"{path} is written, but says something else than was planned: this is a fault of Burnish's own.")
    return found


def write_json(prospect: Prospect, path: Path) -> None:
    """Writes everything that was found."""
    with disk_errors(f"Writing {path}"):
        path.write_text(json.dumps(prospect.to_json(), indent=2) + "\n", encoding="utf-8")
