"""From parts to the step that trains them: optimizer, techniques, and how memory is spared."""

from __future__ import annotations

from burnish import build
from burnish.core.protocols import Course
from burnish.engine.step import Step
from burnish.optim.groups import parameter_groups


def make_step(parts: build.Parts, course: Course) -> Step:
    """The step of a run, at its beginning."""
    recipe, settings = parts.recipe, parts.recipe.train
    groups = parameter_groups(parts.model, recipe.optimizer.lr, recipe.optimizer.weight_decay)
    optimizer = recipe.optimizer.build(groups)
    return Step(
        model=parts.model,
        objective=build.objective(parts),
        examples=parts.examples["train"],
        optimizer=optimizer,
        runtime=parts.runtime,
        budget=settings.micro_batch or parts.runtime.budget,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        techniques=build.techniques(parts, course, optimizer),
        place=lambda index: parts.gathered.rows["train"][parts.examples["train"].rows[index]].place,
    )
