"""A recipe with ranges, read and checked: every end and every choice has to make a recipe that would train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from burnish.core.errors import RecipeError, nearest
from burnish.core.spec import faults
from burnish.recipe import Recipe, checked, read
from burnish.recipe.space import Domain, Numbers, Values, at, grid, probes, ranges, space_faults, written
from burnish.recipe.sweep import Sweep

LARGEST_GRID = 10_000


@dataclass(frozen=True)
class Search:
    """A recipe whose ranges are to be filled in. `raw` is the recipe as it is written, without its `sweep` section; `recipes` are
    those at the ends and choices of all `domains`; `higher` says whether more of the metric is better."""

    raw: Mapping[str, Any]
    origin: str
    base: Path
    settings: Sweep
    domains: Mapping[str, Domain]
    recipes: Sequence[Recipe]
    metric: str
    higher: bool

    @cached_property
    def grid(self) -> list[dict[str, Any]]:
        return grid(self.raw)

    @property
    def trials(self) -> int:
        """How many runs the search makes."""
        if self.settings.sampler == "grid":
            return min(len(self.grid), self.settings.trials or len(self.grid))
        return self.settings.wanted

    def recipe(self, values: Values) -> Recipe:
        """The recipe at a point. Raises RecipeError where what is right by itself does not go together."""
        return checked(at(self.raw, values), self.origin, self.base)


def searched(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Search:
    """The search that a recipe with ranges asks for; `options` replace what its `sweep` section says.

    Raises RecipeError with all faults at once: malformed ranges, ends and choices that make no sound recipe, a section that is wrong.
    """
    raw, origin, base = read(source, overrides)
    given = raw.pop("sweep", None)
    settings, problems = section(given, {key: value for key, value in (options or {}).items() if value is not None})
    problems = [*problems, *space_faults(raw)]
    if not problems and not any(True for _ in ranges(raw)):
        problems.append("nothing is to be searched: put a range in the place of a value, such as optimizer: {lr: {log: [1e-5, 1e-3]}}")
    if problems:
        raise RecipeError(origin, problems)
    domains, points = probes(raw)
    recipes = sound(raw, domains, points, (origin, base))
    metric, higher = judged(recipes, settings, origin)
    found = Search(raw, origin, base, settings, domains, recipes, metric, higher)
    if settings.sampler == "grid" and len(found.grid) > LARGEST_GRID:
        raise RecipeError(origin, [f"the grid has {len(found.grid):,} points: give ranges fewer `points`, or take sampler tpe"])
    return found


def section(given: Any, options: Mapping[str, Any]) -> tuple[Sweep, list[str]]:
    """The settings of a search, and what is wrong with them."""
    try:
        return Sweep.model_validate({**(given or {}), **options} if isinstance(given or {}, Mapping) else given), []
    except ValidationError as error:
        return Sweep(), faults(Recipe, ValidationError.from_exception_data("sweep", placed_below(error)))


def placed_below(error: ValidationError) -> list[Any]:
    """The same faults, as they are told of a whole recipe."""
    keys = ("type", "loc", "input", "ctx")
    items = [{key: item[key] for key in keys if key in item} for item in error.errors(include_url=False)]  # type: ignore[literal-required]
    return [{**item, "loc": ("sweep", *item["loc"])} for item in items]


def sound(raw: Mapping[str, Any], domains: Mapping[str, Domain], points: Sequence[Values], place: tuple[str, Path]) -> list[Recipe]:
    """The recipe at every point; one key at a time leaves the first of them. Raises RecipeError with what is wrong where."""
    recipes, problems, first = list[Recipe](), list[str](), points[0]
    for values in points:
        try:
            recipes.append(checked(at(raw, values), *place))
        except RecipeError as error:
            known = [problem for problem in error.problems if not any(problem in told for told in problems)]
            problems += [sentence(values, first, domains, problem) for problem in known]
    if problems:
        raise RecipeError(place[0], problems)
    return recipes


def sentence(values: Values, first: Values, domains: Mapping[str, Domain], problem: str) -> str:
    """A fault with the values that bring it about; what is wrong at the first point may be wrong everywhere."""
    turned = [key for key, value in values.items() if first.get(key) != value]
    said = ", ".join(f"{key}={written(values[key]) if isinstance(domains[key], Numbers) else values[key]}" for key in turned)
    hint = ""
    if "valid integer" in problem and any(isinstance(domains[key], Numbers) for key in turned):
        hint = "; whole numbers are written {integer: [LOWEST, HIGHEST]}"
    return f"with {said}: {problem}{hint}" if turned else problem


def judged(recipes: Sequence[Recipe], settings: Sweep, origin: str) -> tuple[str, bool]:
    """The metric that is searched for and whether more is better; the same for every recipe. Raises RecipeError where it is not."""
    problems = []
    if any(recipe.data.validation is None for recipe in recipes):
        problems.append("a search chooses by validation rows: give data.validation a file or a share such as 10%")
    defaults = {recipe.train.keep_best or usual(recipe.task.metrics) for recipe in recipes}
    metric = settings.metric or min(defaults)
    for recipe in recipes:
        if metric not in recipe.task.metrics:
            known = ", ".join(recipe.task.metrics)
            problems.append(f"`sweep.metric`: there is no metric `{metric}`{nearest(metric, recipe.task.metrics)} (known: {known})")
            break
    if settings.metric is None and len(defaults) > 1:
        problems.append(f"`sweep.metric`: recipes of the search are judged by {' or '.join(sorted(defaults))}: name one")
    if problems:
        raise RecipeError(origin, problems)
    return metric, recipes[0].task.metrics[metric]


def usual(metrics: Mapping[str, bool]) -> str:
    """What a task is judged by where nobody says: the first of its metrics beside the loss, which is for training."""
    return next((name for name in metrics if name != "loss"), "loss")
