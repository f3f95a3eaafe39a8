"""Whether what stands beside an example in its micro-batch shows in it: the tokens of one are changed, and nothing else may move.

Legend: B examples in a micro-batch, T tokens of the longest, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import numpy as np
import torch

from burnish.core.protocols import Batch
from burnish.core.verification import Check
from burnish.engine.inference import on_host
from burnish.engine.memory import uncaching
from burnish.engine.runtime import undisturbed
from burnish.experiment.agreement import LIMITS, number_format, worst
from burnish.experiment.trial import Trial

NAME = "sequences isolated: a neighbor's tokens changed"
MOST = 8
"""Examples in the micro-batch."""

MIXED = 0.1
"""What LLM.int8 explains: in evaluation a column that is an outlier in one example is computed in floating point for all in its batch, so
that 8 bits round the others in another way (2.5e-2 on the starter). Dettmers et al. 2022, arXiv:2208.07339, section 3.2."""

Found = tuple[list[np.ndarray], list[np.ndarray]]
"""The loss of each example, as in training, and what the task reads off the model, as in evaluation."""


def isolated(trial: Trial) -> Check:
    """One micro-batch goes through, in training and in evaluation, then again with the tokens of its first, a middle, and its last example
    replaced by others of the batch: the loss and the outputs of all its other examples have to stay.

    What moves in the others counts relative to what moves in the example itself. Where that is nothing the model is blind to its tokens,
    and could not show a neighbor's either: then it counts as infinite.
    """
    indices = list(trial.batches[0][:MOST])
    places = sorted({0, len(indices) // 2, len(indices) - 1})
    before, shares = through(trial, batch_of(trial, indices)), []
    for place in places if len(indices) > 1 else ():
        batch = batch_of(trial, indices)
        if perturb(batch, place, trial.parts.tokenizer.all_special_ids):
            after = through(trial, batch)
            shares += [leaked(place, one, other) for one, other in zip(after, before, strict=True)]
    if not shares:
        return Check(NAME, reason="does not apply: the first batch has no two examples with tokens that differ")
    recipe = trial.parts.recipe
    limits, held = LIMITS[number_format(recipe)], recipe.model.quantize
    if held is not None and held.name == "int8":
        limits = {**limits, "outputs": MIXED}
    return Check(NAME, {"outputs": worst(shares)}, limits, note="of what its own loss and outputs move, in training and in evaluation")


def leaked(place: int, after: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> float:
    """The largest change of any other example over that of the one at `place`."""
    moved = [float(np.abs(one.astype(float) - other).max(initial=0.0)) for one, other in zip(after, before, strict=True)]
    own = moved.pop(place)
    return worst(moved) / own if own else float("inf")


def batch_of(trial: Trial, indices: Sequence[int]) -> Batch:
    step = trial.step
    examples, chosen = step.prepare(indices, 0) if step.prepare else (step.examples, indices)
    return step.objective.collate(examples, chosen, (step.seed, 0))


def perturb(batch: Batch, place: int, special: Sequence[int]) -> bool:
    """Puts in place of each token of one example, but for special ones and padding, the next other token of the batch, in the order of
    their ids; what is supervised stays. False where there is none."""
    changed = False
    for name in [name for name in batch.inputs if name.endswith("input_ids")]:
        ids = batch.inputs[name] = batch.inputs[name].clone()  # (B, T)
        known = torch.unique(ids)
        known = known[~torch.isin(known, torch.tensor(list(special)))]
        row = ids[place]  # (T,)
        plain = torch.isin(row, known)
        if len(known) < 2 or not plain.any():
            continue
        row[plain] = known[(torch.searchsorted(known, row[plain]) + 1) % len(known)]
        changed = True
    return changed


def through(trial: Trial, batch: Batch) -> Found:
    """What a micro-batch gives, every time under the same dropout."""
    step, slots = trial.step, range(len(batch.examples))
    losses: list[np.ndarray] = []
    outputs: list[np.ndarray] = []
    for training, found in ((True, losses), (False, outputs)):
        placed, key = copy(batch), (step.seed, 0)
        with undisturbed(step.model), uncaching(step.model), step.passing(placed, slots, key):
            step.model.train(training)
            step.runtime.seed(*key)
            placed = step.runtime.place(placed)
            with step.runtime.autocast():
                ask: Callable[..., Sequence[torch.Tensor]] = step.objective.losses if training else step.objective.outputs  # type: ignore[assignment]
                found += on_host(ask(step.model, placed))
    return losses, outputs
