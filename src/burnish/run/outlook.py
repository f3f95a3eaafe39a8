"""What a recipe comes to before anything is trained: its parameters, their groups, its learning rate over the steps. No weights are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish import build
from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.engine.events import Listener, Working
from burnish.engine.progress import Plan, Progress
from burnish.models import load
from burnish.models.blocks import anatomy
from burnish.models.skeleton import outlined
from burnish.optim.groups import summary
from burnish.plan import parameters
from burnish.recipe import Recipe
from burnish.recipe import load as load_recipe
from burnish.report.figures import Line, Panel
from burnish.run.showing import open_part

Source = str | Path | Mapping[str, Any] | Recipe
MOST_POINTS = 1000
"""Points of a schedule that are drawn: more than a screen can show apart."""


@dataclass(frozen=True)
class Outline:
    """A recipe's model with its method applied, without numbers."""

    recipe: Recipe
    model: Any
    config: Any
    anatomy: Anatomy


def outline(recipe: Source, overrides: Sequence[str] = ()) -> Outline:
    """Raises BurnishError where training would; a method that computes from the weights at its start is refused, for there are none."""
    checked = load_recipe(recipe, overrides)
    tokenizer = load.load_tokenizer(checked.model)
    known = len(tokenizer)
    learner = build.bind(checked, build.gather(checked), tokenizer)
    new_tokens = range(known, len(tokenizer))
    model, fresh = outlined(checked.model, learner.auto_class, tokenizer, len(new_tokens), learner.config)
    config, place = model.config, replace(anatomy(model), fresh=fresh, new_tokens=new_tokens)
    try:
        with load.quiet():
            model = checked.method.apply(model, place)
    except (NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"method={checked.method.name} computes from the weights where it begins, and none are read here; method=lora has the same shapes."
        ) from error
    return Outline(checked, model, config, place)


def show_parameters(recipe: Source, overrides: Sequence[str] = ()) -> list[parameters.Part]:
    """Parameters by place and role, those that learn, and their formulas."""
    found = outline(recipe, overrides)
    return parameters.parts(found.model, found.anatomy, found.config)


def show_groups(recipe: Source, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The optimizer's groups: learning rate, weight decay, parameters, the first of their names. Raises ModelError for patterns that fit nothing."""
    found = outline(recipe, overrides)
    optimizer = found.recipe.optimizer
    return summary(found.recipe.selective.groups(found.model, found.anatomy, optimizer.lr, optimizer.weight_decay))


def show_schedule(recipe: Source, overrides: Sequence[str] = (), listeners: Sequence[Listener] = ()) -> Panel:
    """The learning rate over the run. The rows are encoded as for training, to know the steps of an epoch; the cache keeps them for it."""

    def tell(what: str, done: int, total: int) -> None:
        for listener in listeners:
            listener(Working(what, done, total))

    checked = load_recipe(recipe, overrides)
    gathered = build.gather(checked)
    part = open_part(checked, gathered, "train", tell)
    bound = checked.model_copy(update={"task": part.learner.task})
    steps_per_epoch = build.order(build.Taught(bound, part.learner, gathered, {"train": part.examples})).steps_per_epoch
    train = checked.train
    plan = Plan(train.duration, train.evaluate_every, train.save_every, steps_per_epoch, checked.schedule, "validation" in gathered.rows)
    end = plan.total_steps or train.duration.seconds
    places = [end * number / MOST_POINTS for number in range(MOST_POINTS)] if not plan.total_steps else thinned(plan.total_steps)
    points = [(place, checked.optimizer.lr * plan.factor(standing(plan, place))) for place in places]
    unit = f"step (1 epoch = {steps_per_epoch:,})" if plan.total_steps else "seconds"
    rates = [rate for _, rate in points]
    alt = f"Learning rate over {unit}: from {rates[0]:.3g} to {rates[-1]:.3g}, highest {max(rates):.3g}."
    return Panel(f"Learning rate, {checked.schedule.name}", unit, "learning rate", [Line("learning rate", points)], alt, end)


def thinned(total: int) -> list[int]:
    """Steps from the first to the last, not more than can be shown apart."""
    return sorted({round(number * (total - 1) / MOST_POINTS) for number in range(MOST_POINTS + 1)})


def standing(plan: Plan, place: float) -> Progress:
    """A run that stands before step `place`, or has run for so many seconds."""
    return Progress(step=int(place)) if plan.total_steps else Progress(seconds=place)
