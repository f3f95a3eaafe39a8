"""A step or two as training makes them, watched: which parameters their gradients reach, and what moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from burnish import build
from burnish.core.errors import NonFiniteError, count
from burnish.core.protocols import Course, Technique
from burnish.core.sizes import elements
from burnish.engine.batches import micro_batches
from burnish.engine.runtime import undisturbed
from burnish.engine.step import Step
from burnish.experiment.check.subject import Tokens, Tried
from burnish.experiment.progress import Progress
from burnish.experiment.trial import named
from burnish.experiment.verify import made_small, with_train
from burnish.report.inspection import Finding, judged
from burnish.report.wording import percent
from burnish.run.stepping import make_step

STEPS = 2
"""At most. The gradient of a low-rank update's one half is zero as long as the other is: the second step reaches both."""

MOST_EXAMPLES, MOST_TOKENS = 32, 1500
"""Of the first batch: enough to see a loss by, few enough to be quick on a laptop; two examples in any case."""

SMALL = 0.1
"""Share of a head's random parameters that may stay as they are."""

SHARE = 0.1
"""Of the peak learning rate, at which the steps are made."""


def assembled(tokens: Tokens, progress: Progress) -> tuple[Finding, build.Parts | None]:
    """The model with its method, ready to train, and how much of it learns. Raises BurnishError where training would."""
    recipe = with_train(tokens.recipe, in_backward=False)  # which keeps no gradient to look at
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"bad_rows": "drop"})})
    rows = tokens.train
    if recipe.distill is not None:  # a teacher answers every row
        recipe, _ = made_small(recipe, tokens.gathered)
        rows = rows[: recipe.data.limit]
    gathered = build.Gathered({"train": rows}, {"train": dict(tokens.gathered.facts["train"])})
    parts = build.assemble(recipe, gathered, progress.note, progress.tell)
    learning = {name: parameter for name, parameter in parts.model.named_parameters() if parameter.requires_grad}
    total = sum(elements(p) for name, p in parts.model.named_parameters() if ".original_module." not in name)
    number = sum(map(elements, learning.values()))
    seen = f"{number:,} of {total:,} learn ({percent(number / max(total, 1))}), method={recipe.method.name}"
    failures = [] if number else ["nothing learns: no parameter asks for a gradient"]
    still = stay_random(parts, learning)
    if number and still:
        failures.append(f"the head starts at random and stays so: {', '.join(still[:3])}{', ...' if len(still) > 3 else ''}")
    random = number and recipe.model.fresh and number < 0.5 * total
    warnings = ["most of the model starts at random and stays so"] if random else []
    mend = "Choose a method that trains them: full, lora or freeze."
    return judged(seen, failures, warnings, mend, trainable=number, total=total), parts if number else None


def stay_random(parts: build.Parts, learning: Mapping[str, torch.nn.Parameter]) -> list[str]:
    """Parameters of the head that no weights filled and that do not learn, but for a bias here and there, which starts at zero."""
    reached = {parts.anatomy.own_name(name) for name in learning}
    sizes = {parts.anatomy.own_name(name): elements(p) for name, p in parts.model.named_parameters()}
    fresh = [name for name in parts.anatomy.fresh if name in set(parts.anatomy.head)]
    still = [name for name in fresh if name not in reached]
    return still if sum(sizes.get(name, 0) for name in still) > SMALL * sum(sizes.get(name, 0) for name in fresh) else []


def tried(tokens: Tokens, parts: build.Parts, progress: Progress) -> tuple[Finding, Tried]:
    """The model after a step or two over the beginning of the first batch. Raises BurnishError where training would."""
    build.call_teacher(parts, progress.note, progress.tell)
    order = build.order(parts)
    duration = parts.recipe.train.duration
    step = make_step(parts, Course(order.steps_per_epoch, None if duration.timed else duration.steps(order.steps_per_epoch)), progress.tell)
    batch = beginning([int(index) for index in order.batch(0)], parts.examples["train"].lengths)
    losses, loss = plain_losses(parts, batch)
    reach, before = Reach(step), frozen_sums(step)
    made = Tried(tokens, parts, step, batch, losses, loss, reach.asked, reach.reached, reach.leaked, set())
    step.techniques = [*step.techniques, reach]
    try:
        for number in range(STEPS):
            if number == 0 or reach.asked - reach.reached:
                step(batch, number, SHARE)
    except NonFiniteError as error:
        made = replace(made, fault=error)
    after = frozen_sums(step)
    made.moved.update(
        name for name, value in before.items() if not np.isclose(after.get(name, value), value, rtol=0, atol=0, equal_nan=True)
    )
    rate = SHARE * parts.recipe.optimizer.lr
    return judged(f"of {count(len(batch), 'example')} at a learning rate of {rate:.1e}", [], []), made


def beginning(batch: Sequence[int], lengths: np.ndarray) -> list[int]:
    """The first examples of a batch, as many as are quick to try."""
    within = int(np.searchsorted(np.cumsum(lengths[list(batch)]), MOST_TOKENS, "right"))
    return list(batch[: min(MOST_EXAMPLES, max(within, 2))])


def plain_losses(parts: build.Parts, batch: list[int]) -> tuple[np.ndarray, float]:
    """(B,) nats a supervised unit of each example of a batch, without dropout and whatever loss the recipe names, and the whole batch's."""
    examples, key = parts.examples["train"], (parts.recipe.train.seed, 0)
    sums, units = np.zeros(len(batch)), np.asarray(examples.weights)[batch].astype(float)
    weight = 0.0
    with undisturbed(parts.model):
        for group in micro_batches([int(examples.lengths[index]) for index in batch], parts.runtime.budget):
            made = parts.runtime.place(parts.learner.collate(examples, [batch[place] for place in group], key))
            with parts.runtime.autocast(), parts.fast.passage.of(made, range(len(group)), key):
                sums[group] = parts.learner.losses(parts.model, made).float().cpu().numpy()
            weight += made.weight
    return sums / np.maximum(units, 1), float(sums.sum() / max(weight, 1))


class Reach(Technique):
    """Notes, when the whole gradient of a step is there, which parameters it has come to."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.asked, self.reached, self.leaked = set[str](), set[str](), set[str]()

    def differentiated(self) -> float:
        own = named(self.step)
        for name, parameter in own.items():
            if parameter.requires_grad:
                self.asked.add(name)
            if parameter.grad is not None and bool(parameter.grad.any()):
                self.reached.add(name)
        moved = {id(parameter) for parameter in own.values()}
        self.leaked |= {name for name, p in self.step.model.named_parameters() if p.grad is not None and id(p) not in moved}
        return 0.0


def frozen_sums(step: Step) -> dict[str, float]:
    """A fingerprint of each parameter that the optimizer does not move: the sum of its values, in double precision."""
    moved = {id(parameter) for parameter in named(step).values()}
    return {name: float(p.detach().sum(dtype=torch.float64)) for name, p in step.model.named_parameters() if id(p) not in moved}
