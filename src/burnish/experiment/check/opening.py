"""What has to succeed before anything can be looked at: the recipe, its rows, the task that meets them, the tokens.

Each step gives a finding, and what the next one needs; where something is wrong but the rest can still be looked at, it goes on with that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish import build
from burnish.core.errors import BurnishError, DataError, RecipeError, count
from burnish.data import mixture
from burnish.data.spec import held_out
from burnish.experiment.check.portion import portion
from burnish.experiment.check.subject import Bound, Tokens
from burnish.experiment.progress import Progress
from burnish.models.load import length_limit, load_tokenizer
from burnish.models.skeleton import skeleton
from burnish.recipe import Recipe, checked, read
from burnish.recipe import load as load_recipe
from burnish.recipe.search import searched
from burnish.recipe.space import Domain, Numbers, filled, ranges
from burnish.recipe.space import written as in_yaml
from burnish.report.inspection import Finding, judged
from burnish.report.wording import percent
from burnish.run.showing import Part
from burnish.run.training import Source

FILES = ("`data.train`:", "`data.validation`:", "`data.test`:")
"""How the faults of a recipe begin that are those of its files."""


def configured(source: Source, overrides: Sequence[str]) -> tuple[Finding, Finding | None, Recipe | None]:
    """The recipe; where it is faulty, what is wrong with it, and with the files that it names."""
    try:
        recipe, swept = chosen(source, overrides)
    except RecipeError as error:
        files = [problem for problem in error.problems if problem.startswith(FILES)]
        others = [problem for problem in error.problems if problem not in files]
        mend = "`burnish init` writes a recipe with every key explained; `burnish list` names what it can name."
        return (
            judged(f"{count(len(others), 'fault')}" if others else "every key is known", others, [], mend, faults=len(others)),
            judged(f"{count(len(files), 'fault')}", files, [], "Name the columns in `task`, the files in `data`.") if files else None,
            None,
        )
    told = f"task={recipe.task.name}, method={recipe.method.name}, optimizer={recipe.optimizer.name}, schedule={recipe.schedule.name}"
    return judged(f"every key is known, {told}{swept}", [], []), None, recipe


def chosen(source: Source, overrides: Sequence[str]) -> tuple[Recipe, str]:
    """The recipe; of one with ranges to sweep that in their middle, where choices are at their first, and a word on that.

    Raises RecipeError with all that is wrong, at the ends of ranges too.
    """
    raw, origin, base = read(source, overrides)
    raw.pop("sweep", None)
    if isinstance(source, Recipe) or not any(True for _ in ranges(raw)):
        return load_recipe(source, overrides), ""
    values = dict[str, object]()

    def pick(key: str, domain: Domain) -> object:
        points = domain.grid(3) if isinstance(domain, Numbers) else domain.grid()[:1]
        return values.setdefault(key, points[len(points) // 2])

    recipe = checked(filled(searched(source, overrides).raw, pick), origin, base)
    told = ", ".join(f"{key}={value if isinstance(value, str) else in_yaml(value)}" for key, value in values.items())
    return recipe, f"; of {count(len(values), 'range')} to sweep one point is looked at: {told}"


def gathered(recipe: Recipe) -> tuple[Finding, build.Gathered | None]:
    """The rows; of bad ones all faults at once, and the good ones to go on with."""
    problems = []
    try:
        found: build.Gathered | None = build.gather(recipe)
    except DataError as error:
        problems, found = row_faults(recipe) or [str(error)], rest(recipe)
    warnings = [warning for warning in found.warnings if "left out" in warning] if found and not problems else []
    rows = ", ".join(f"{count(len(own), f'{part} row')}" for part, own in found.rows.items()) if found else "no rows could be read"
    columns = ", ".join(f"`{column}`" for column in recipe.task.columns(True))
    seen = f"{rows}; columns {columns}" if columns else rows
    if found is not None and recipe.data.test is not None and "test" not in found.rows:
        seen += "; the test file is there and stays closed until training is over"
    measured = {part: len(own) for part, own in found.rows.items()} if found else {}
    return judged(seen, problems, warnings, "" if problems else "Mend these rows.", **measured), found


def row_faults(recipe: Recipe) -> list[str]:
    """What is wrong with the rows of each source that is opened."""
    wanted, problems = recipe.data.validation, []
    watched = [str(wanted)] if wanted is not None and held_out(wanted, 1) is None else []
    for source in [*mixture.each(recipe.data.train), *watched]:
        try:
            build.usable_rows(recipe, source, [])
        except DataError as error:
            problems.append(str(error))
    return problems


def rest(recipe: Recipe) -> build.Gathered | None:
    """The rows that can be used, where some can."""
    try:
        return build.gather(recipe.model_copy(update={"data": recipe.data.model_copy(update={"bad_rows": "drop"})}))
    except DataError:
        return None


def bound(recipe: Recipe, found: build.Gathered, hoped: float) -> tuple[Finding, Bound | None]:
    """The task once it has met rows and tokenizer; where only held-out rows do not fit, it goes on without them."""
    known = len(load_tokenizer(recipe.model))
    try:
        learner = build.bind(recipe, found, load_tokenizer(recipe.model))
        problem = ""
    except BurnishError as error:
        problem = str(error)
        found = build.Gathered({"train": found.rows["train"]}, found.facts)
        try:
            learner = build.bind(recipe, found, load_tokenizer(recipe.model))
        except BurnishError:
            return judged("rows, task and tokenizer do not go together", [problem], []), None
    bound_recipe = recipe.model_copy(update={"task": learner.task})
    labels = len(getattr(learner, "labels", ()))
    seen = f"tokenizer {type(learner.tokenizer).__name__} of {len(learner.tokenizer):,} tokens"
    seen += f", {count(labels, 'label')} found" if labels else ""
    try:
        build.require_metric(bound_recipe)
        build.require_rewording(bound_recipe)
    except DataError as error:
        return judged(seen, [*([problem] if problem else []), str(error)], []), None
    return judged(seen, [problem] if problem else [], []), Bound(bound_recipe, found, hoped, learner, known)


def encoded(read: Bound, progress: Progress) -> tuple[Finding, Tokens | None]:
    """The rows as tokens, by part, and the model without its numbers."""
    tokenizer = read.learner.tokenizer
    bones = skeleton(read.recipe.model, read.learner.auto_class, tokenizer, read.learner.config)
    limit = length_limit(tokenizer, bones) - read.recipe.method.positions
    tokenizer.model_max_length = build.allowed_length(read.recipe, tokenizer, bones)
    taken, shares = portion(read)
    parts = {}
    for name, rows in taken.rows.items():
        examples = build.tokens(read.recipe, read.learner, rows, progress.note, progress.tell)
        units = np.bincount(examples.rows, weights=examples.weights, minlength=len(rows))
        parts[name] = Part(name, read.recipe, read.learner, rows, examples, units)
    tokens = Tokens(read.recipe, taken, read.hoped, read.learner, read.known, parts, read.gathered, shares, limit, bones)
    told = ", ".join(
        f"{count(len(part.examples), f'{name} example')} of {int(np.sum(part.examples.lengths)):,} tokens" for name, part in parts.items()
    )
    samples = [
        f"a sample: {len(taken.rows[name]):,} of {count(len(read.gathered.rows[name]), f'{name} row')}, {percent(share)} of their text"
        for name, share in shares.items()
        if share < 1
    ]
    return judged("; ".join([*samples, told, type(bones).__name__]), [], [], shares=shares), tokens
