"""Checks of the course of a run: its learning rate, its warm-up, its length."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from burnish.core.errors import count
from burnish.experiment.check.subject import Read, Tokens
from burnish.report.inspection import Finding, judged
from burnish.report.wording import percent

RATES = {
    **dict.fromkeys(("full", "freeze", "unfreeze"), (1e-6, 1e-3)),
    "head": (1e-4, 1e-1),
    **dict.fromkeys(("lora", "dora", "rslora", "pissa", "adalora", "loha", "lokr", "oft", "adapters", "bitfit"), (1e-5, 1e-2)),
    **dict.fromkeys(("norms", "ln_tuning", "tokens"), (1e-5, 5e-2)),
    **dict.fromkeys(("ia3", "vera"), (1e-4, 1e-1)),
    **dict.fromkeys(("prefix_tuning", "p_tuning", "fourierft"), (1e-4, 2e-1)),
    "prompt_tuning": (1e-3, 1.0),
}
"""The learning rates between which a method learns with Adam's steps, from the papers that the methods name, with room on both sides."""

ANY = (1e-6, 1e-1)
FRESH = (5e-5, 2e-2)
"""Those of a small model from random weights, which has further to go."""

SCALES = {"sgd": 1000.0, "adafactor": 3.0, "lion": 0.3, "lion8bit": 0.3}
"""By how much the rates of other optimizers are larger than Adam's, whose steps are as long as the rate whatever the gradient is."""

ABSURD = 10
"""Times the highest rate from which on weights are thrown away rather than moved."""

STILL = 100
"""Parts of the lowest rate from which on weights stay where they are."""

FEWEST = 30
"""Steps below which hardly anything is learned, and a schedule has no room."""


def learning_rate(read: Read) -> Finding:
    """Whether the rate is one at which this method learns, with this optimizer."""
    recipe = read.recipe
    method, optimizer = recipe.method.name, recipe.optimizer
    low, high = FRESH if recipe.model.fresh and method == "full" else RATES.get(method, ANY)
    scale = SCALES.get(optimizer.name, 1.0)
    low, high = low * scale, high * scale
    seen = f"{optimizer.lr:.1e}; method={method} with {optimizer.name} learns at {low:.0e} to {high:.0e}"
    sentence = f"a learning rate of {optimizer.lr:.1e} is"
    failures, warnings = list[str](), list[str]()
    if optimizer.lr >= high * ABSURD:
        failures.append(f"{sentence} far too high: what the model knows is lost within a few steps")
    elif optimizer.lr > high:
        warnings.append(f"{sentence} high")
    elif optimizer.lr <= low / STILL:
        failures.append(f"{sentence} far too low: the weights stay where they are")
    elif optimizer.lr < low:
        warnings.append(f"{sentence} low: hardly anything will move")
    mend = "`burnish find-lr` looks for one on these rows."
    return judged(seen, failures, warnings, mend, lr=optimizer.lr, lowest=low, highest=high)


def steps(tokens: Tokens) -> Finding:
    """How many updates the run makes, and how many of them its learning rate rises."""
    plan, schedule = tokens.plan(), tokens.recipe.schedule
    total = plan.total_steps
    if total is None:
        return judged(f"{plan.duration} of steps of {tokens.recipe.train.batch_size}, {plan.steps_per_epoch:,} an epoch", [], [])
    warmup = schedule.warmup.steps(total=total)
    about = "about " if tokens.sampled else ""
    seen = (
        f"{about}{count(total, 'step')} of {tokens.recipe.train.batch_size}, {plan.steps_per_epoch:,} an epoch, {warmup:,} of them warm-up"
    )
    failures, warnings = [], []
    if warmup >= total:
        reached = (total - 1) / max(warmup, 1)
        failures.append(
            f"the warm-up of {count(warmup, 'step')} is as long as the run or longer: the learning rate gets to {percent(reached)} of its peak"
        )
    elif warmup > total / 2:
        warnings.append(f"the warm-up takes {percent(warmup / total)} of the run")
    if total < FEWEST:
        few = "1 step is" if total == 1 else f"{total:,} steps are"
        warnings.append(f"{few} few: hardly anything is learned in {'it' if total == 1 else 'them'}")
    mend = "Set a smaller schedule.warmup (6%)." if warmup > total / 2 else "Raise train.duration, or lower train.batch_size."
    return judged(seen, failures, warnings, mend, steps=total, warmup=warmup)


OF_RECIPE: Mapping[str, Callable[[Read], Finding]] = {"learning rate": learning_rate}
CHECKS: Mapping[str, Callable[[Tokens], Finding]] = {"warm-up and steps": steps}
