"""A few steps of a recipe, watched: losses, gradients as they are before clipping, and how far the weights have moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from burnish import build
from burnish.core.errors import RunError
from burnish.core.protocols import Course, Technique
from burnish.core.verification import Check
from burnish.engine.runtime import is_out_of_memory
from burnish.engine.step import Step
from burnish.experiment.agreement import LIMITS, gradient_error, length, number_format, relative, worst
from burnish.models.fast.embedding import Lookup, SparseTable
from burnish.models.fast.replay import Kept
from burnish.recipe import Recipe
from burnish.run.stepping import make_step

STEPS = 3
BATCHES = 2
"""The first batches of the real order, in turn: the first one comes again, to what a saving has kept of it."""

MOST_EXAMPLES = 64
"""Of a step."""

SHARE = 0.1
"""Of the peak learning rate. Adam moves a weight whose gradient is nothing but rounding as far as any other: at a full rate that noise
grows within a few steps (at kinks of ReLU to percents of a gradient), at a tenth it stays what it is, and the weights move all the same."""

NOTHING_TO_SAVE = {
    "unpadded": "the model goes its own way",
    "trimmed": "batches are padded",
    "supervised_logits": "the model gives no scores over a vocabulary",
    "frozen_prefix": "no blocks at the bottom are frozen",
    "sparse_embedding": "the embeddings do not learn",
}

TOLD = {"frozen_prefix": "computed at each step", "sparse_embedding": "embedding:"}
"""By which words the sentence is known that says why a saving is left out."""

Tensors = dict[str, torch.Tensor]


@dataclass
class Setting:
    """The rows of a recipe, read once for all its trials, and whom to tell what goes on."""

    gathered: build.Gathered
    note: build.Note
    tell: build.Tell

    def parts(self, recipe: Recipe) -> build.Parts:
        """Everything anew, from the same rows and seed."""
        rows = {"train": self.gathered.rows["train"]}
        gathered = build.Gathered(rows, {"train": dict(self.gathered.facts["train"])})
        parts = build.assemble(recipe, gathered, self.note, self.tell)
        build.call_teacher(parts, self.note, self.tell)
        return parts


@dataclass
class Trace:
    """What a trial came to: `gradients` of the steps that are kept, by number, `moved` the distance that the weights went."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    gradients: dict[int, Tensors] = field(default_factory=dict)
    weights: Tensors = field(default_factory=dict)
    moved: float = 0.0


@dataclass
class Trial:
    """A recipe ready to step, from its beginning."""

    parts: build.Parts
    step: Step
    batches: Sequence[Sequence[int]]

    @classmethod
    def of(cls, recipe: Recipe, setting: Setting) -> Trial:
        parts = setting.parts(recipe)
        order = build.order(parts)
        duration = recipe.train.duration
        total = None if duration.timed else duration.steps(order.steps_per_epoch)
        step = make_step(parts, Course(order.steps_per_epoch, total), setting.tell)
        step.note = setting.note
        first = [order.batch(number)[:MOST_EXAMPLES] for number in range(BATCHES)]
        batches = [first[number % BATCHES] for number in range(STEPS)]
        step.upcoming = (lambda number: batches[number % STEPS]) if recipe.engine.savings.prefetch else None
        return cls(parts, step, batches)

    def run(self) -> Trace:
        """Steps through the batches. Raises RunError where the memory is too small for a single example."""
        trace, probe = Trace(), Probe(self.step)
        self.step.techniques = [*self.step.techniques, probe]
        before = self.weights()
        try:
            for number, batch in enumerate(self.batches):
                outcome = self.step(batch, number, SHARE)
                trace.losses.append(outcome.loss)
                trace.norms.append(outcome.grad_norm)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunError(str(error) or "Out of memory. Set a smaller data.max_length.") from error
        trace.gradients, trace.weights = probe.seen, self.weights()
        trace.moved = length({name: tensor - before[name] for name, tensor in trace.weights.items()})
        return trace

    def weights(self) -> Tensors:
        """Copies of what learns, whole."""
        found = named(self.step)
        whole = tables(self.parts.model)
        return {name: copied(whole[p].whole() if p in whole else p) for name, p in found.items()}


class Probe(Technique):
    """Keeps the gradient of the first step, when all weights are the same, and of the last, as it is before clipping."""

    def __init__(self, step: Step) -> None:
        self.step, self.number = step, 0
        self.seen: dict[int, Tensors] = {}

    def before(self, step: int) -> None:
        self.number = step

    def differentiated(self) -> float:
        if self.number in (0, STEPS - 1):
            whole = tables(self.step.model)
            learning = {name: p for name, p in named(self.step).items() if p.grad is not None}
            self.seen[self.number] = {n: copied(whole[p].spread(p.grad) if p in whole else p.grad) for n, p in learning.items()}  # type: ignore[arg-type]
        return 0.0


def compared(name: str, a: Trace, b: Trace, recipe: Recipe) -> Check:
    """What two ways to make the same steps differ in."""
    numbers = a.gradients.keys() | b.gradients.keys()
    if not numbers:
        return Check(name, reason="does not apply: the gradient of every step overflowed fp16")
    errors = [gradient_error(a.gradients.get(number, {}), b.gradients.get(number, {})) for number in numbers]
    gradient = worst([error for error, _ in errors])
    where = next((parameter for error, parameter in errors if error == gradient and parameter), "")
    alike = moved_alike(name, a, b, recipe)
    return replace(alike, measured={**alike.measured, "gradient": gradient}, note=f"gradient of {where}" if where else "")


def moved_alike(name: str, a: Trace, b: Trace, recipe: Recipe) -> Check:
    """The same but for the gradients, which one of both does not keep."""
    apart = length({key: a.weights[key] - tensor for key, tensor in b.weights.items()})
    measured = {
        "loss": worst([relative(*pair) for pair in zip(a.losses, b.losses, strict=True)]),
        "norm": worst([relative(*pair) for pair in zip(a.norms, b.norms, strict=True)]),
        "weights": apart / max(b.moved, 1e-30),
    }
    return Check(name, measured, LIMITS[number_format(recipe)])


def named(step: Step) -> Mapping[str, torch.nn.Parameter]:
    """What the optimizer moves, by name."""
    groups: list[dict[str, Any]] = step.optimizer.param_groups
    return {name: parameter for group in groups for name, parameter in zip(group["names"], group["params"], strict=True)}


def tables(model: torch.nn.Module) -> dict[torch.Tensor, SparseTable]:
    """The parameters that hold only some rows of a table, and the tables."""
    return {way.table.weight: way.table for way in ways(model) if isinstance(way, Lookup)}


def ways(model: torch.nn.Module) -> Iterator[Any]:
    """What stands in the place of modules' forwards, the outermost first."""
    for module in model.modules():
        way = vars(module).get("forward")
        while way is not None:
            yield way
            way = getattr(way, "forward", None)


def left_out(trial: Trial, saving: str) -> str | None:
    """Why a model or recipe goes without a saving that is switched on; None where it is used."""
    parts, fast = trial.parts, trial.parts.fast
    used = {
        "unpadded": fast.unpadded,
        "trimmed": fast.trimmed,
        "supervised_logits": fast.deferred,
        "frozen_prefix": any(isinstance(way, Kept) and way.replay.store is not None for way in ways(parts.model)),
        "sparse_embedding": bool(tables(parts.model)),
    }
    if used.get(saving, True):
        return None
    told = [sentence for sentence in parts.savings if saving in TOLD and TOLD[saving] in sentence]
    return next(iter(told), None) or fast.reasons.get(saving) or NOTHING_TO_SAVE[saving]


def copied(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the CPU's memory, in float32."""
    return tensor.detach().to("cpu", torch.float32, copy=True)
