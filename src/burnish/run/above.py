"""Training that starts above the blocks in which nothing learns: how the frozen prefix meets a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from burnish import build
from burnish.core.protocols import Batch, Course, Objective
from burnish.engine.memory import uncaching
from burnish.models.fast.prefix import Feed, Terms, frozen_prefix
from burnish.models.frozen import frozen_blocks


def start_above(parts: build.Parts, objective: Objective, course: Course, tell: build.Tell) -> None:
    """Computes what the frozen blocks give once for all examples, where that changes nothing; what came of it is told in the savings."""
    recipe = parts.recipe
    if not recipe.engine.savings.frozen_prefix or not frozen_blocks(parts.model, parts.anatomy):
        return
    terms = Terms(
        redrawn=parts.learner.redrawn or recipe.data.augment is not None,
        epochs=None if course.total_steps is None else course.total_steps / course.steps_per_epoch,
        form=" ".join(map(str, (recipe.train.precision, recipe.model.dtype, recipe.engine.model_dump(mode="json")))),
    )
    found = frozen_prefix(parts.model, parts.anatomy, parts.fast.passage, feed(parts, objective), terms)
    if isinstance(found, str):
        parts.savings.append(f"frozen blocks are computed at each step, for {found}")
        return
    found.fill(tell)
    parts.ahead = len(found.replay.blocks) if found.replay.store is not None else 0
    parts.savings.extend(found.notes())


def feed(parts: build.Parts, objective: Objective) -> Feed:
    """How the training examples go through the model, as a step would put them."""
    examples, key = parts.examples["train"], (parts.recipe.train.seed, 0)

    def collate(indices: Sequence[int]) -> Batch:
        return parts.runtime.place(objective.collate(examples, indices, key))

    def within(work: Callable[[Any, Batch], Any]) -> Callable[[Batch], Any]:
        def done(batch: Batch) -> Any:
            with parts.runtime.autocast(), uncaching(parts.model):
                return work(parts.model, batch)

        return done

    return Feed(examples, collate, within(parts.learner.forward), within(objective.losses))
