"""The learning rate that suits a recipe, found on its training rows; the weights are thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from burnish import build
from burnish.core.errors import BurnishError, RunError
from burnish.core.protocols import Course
from burnish.core.rates import RangeTest
from burnish.data.spec import held_out
from burnish.engine.events import Listener, Noted, Working
from burnish.engine.finder import FEWEST, range_test, rising
from burnish.engine.runtime import is_out_of_memory
from burnish.recipe import Recipe
from burnish.recipe import load as load_recipe
from burnish.run.stepping import make_step
from burnish.run.training import Source


def find_lr(
    recipe: Source,
    overrides: Sequence[str] = (),
    lr_min: float = 1e-7,
    lr_max: float = 1.0,
    steps: int = 100,
    listeners: Sequence[Listener] = (),
) -> RangeTest:
    """Trains as `recipe` says, but for `steps` updates whose learning rate rises from `lr_min` to `lr_max`, and gives the losses.

    Nothing is written, and validation and test rows take no part: files of them are not even opened. Everything else is as in
    training: order, batches, method, techniques, clipping. Raises BurnishError where training would.
    """
    if not 0 < lr_min < lr_max:
        raise BurnishError(f"the learning rate has to rise from a positive value: {lr_min:g} to {lr_max:g} does not")
    if steps < FEWEST:
        raise BurnishError(f"{steps} steps make no curve: at least {FEWEST} are needed, 100 are usual")

    def emit(event: Noted | Working) -> None:
        for listener in listeners:
            listener(event)

    loss_at = trial(without_watched(load_recipe(recipe, overrides)), steps, emit)
    try:
        return range_test(loss_at, rising(lr_min, lr_max, steps))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(str(error) or "Out of memory. Set a smaller data.max_length.") from error


def without_watched(recipe: Recipe) -> Recipe:
    """The recipe without files of validation and test rows, and without what turns the learning rate by them.

    Shares cut from the training rows stay, so that the rest is what trains.
    """
    files = {part: None for part in build.WATCHED if held_out(getattr(recipe.data, part), 1) is None}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=files), "control": None})


def trial(recipe: Recipe, steps: int, emit: Callable[[Noted | Working], None]) -> Callable[[int, float], float]:
    """A model about to learn, as a function: makes one update at a learning rate, and gives the loss of its batch."""

    def note(message: str) -> None:
        emit(Noted(message))

    gathered = build.gather(recipe)
    for part in build.WATCHED:
        gathered.rows.pop(part, None)
        gathered.facts.pop(part, None)

    def tell(what: str, done: int, total: int) -> None:
        emit(Working(what, done, total))

    parts = build.assemble(recipe, gathered, note, tell)
    build.call_teacher(parts, note, tell)
    order = build.order(parts)
    step = make_step(parts, Course(order.steps_per_epoch, steps))
    step.note = note

    def loss_at(number: int, rate: float) -> float:
        emit(Working("learning rates tried", number, steps))
        return step(order.batch(number), number, rate / parts.recipe.optimizer.lr).loss

    return loss_at
