"""From parts to the step that trains them: optimizer, techniques, and how memory is spared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from burnish import build
from burnish.core.duration import Duration
from burnish.core.errors import ModelError, count
from burnish.core.protocols import Course, Objective, Technique
from burnish.engine.averaging import Average
from burnish.engine.batches import Budget
from burnish.engine.memory import OnHost, offloaded, recompute_blocks
from burnish.engine.norms import Places
from burnish.engine.settings import Train
from burnish.engine.step import Step
from burnish.engine.update import InBackward, Scaled, Update
from burnish.losses.distillation import Distilled
from burnish.models.dropout import Dropout
from burnish.models.fast.accumulated import scatter_inputs, sum_outputs
from burnish.models.fast.compiled import compile_blocks
from burnish.models.fast.embedding import Shrinkage, SparseTable, sparse_embedding
from burnish.models.fast.low_rank import fuse_low_rank
from burnish.models.fast.prepacked import prepack
from burnish.run.above import start_above

BESIDE = "beside the model"
"""The place of what learns and is no part of the model: a student's projections to its teacher's width."""


def make_step(parts: build.Parts, course: Course, tell: build.Tell = lambda what, done, total: None) -> Step:
    """The step of a run, at its beginning. Raises ModelError where its parts do not go together."""
    recipe, settings = parts.recipe, parts.recipe.train
    groups = recipe.selective.groups(parts.model, parts.anatomy, recipe.optimizer.lr, recipe.optimizer.weight_decay)
    objective = build.objective(parts)
    groups += beside(objective, recipe.optimizer.lr)
    table = sparse_table(parts, groups)
    optimizer: Any = OnHost(recipe.optimizer.build, groups) if away(parts, "optimizer") else recipe.optimizer.build(groups)
    techniques = build.techniques(parts, course, optimizer)
    if table is not None and decay_of(table.weight, groups):
        average = next((technique for technique in techniques if isinstance(technique, Average)), None)
        techniques.append(Shrinkage(table, optimizer, average.share if average else None))
    update = make_update(parts, optimizer, techniques)
    if recipe.engine.savings.supervised_logits:
        sum_outputs(parts.model)
        if not update.moves_within:
            scatter_inputs(parts.model)
    update.places = places(parts, optimizer)
    if recipe.engine.prepacked:
        prepack(parts.model, training=True)
        fuse_low_rank(parts.model)
    start_above(parts, objective, course, tell)
    if recipe.engine.compile:
        compile_blocks(parts.model, parts.anatomy)
    if settings.checkpoint_blocks is not None:
        recompute_blocks(parts.model, parts.anatomy.block_modules, settings.checkpoint_blocks)
    return Step(
        model=parts.model,
        objective=objective,
        examples=parts.examples["train"],
        optimizer=optimizer,
        runtime=parts.runtime,
        budget=budget(settings, parts),
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        prepare=build.rewording(parts, str(parts.runtime.device), tell),
        techniques=[*techniques, update] if isinstance(update, Scaled) else techniques,
        update=update,
        passing=parts.fast.passage.of,
        keeping=(lambda: offloaded(parts.runtime)) if away(parts, "activations") else nullcontext,
        place=lambda index: parts.gathered.rows["train"][parts.examples["train"].rows[index]].place,
    )


def sparse_table(parts: build.Parts, groups: Sequence[Mapping[str, Any]]) -> SparseTable | None:
    """The input embeddings with only the rows that occur as a parameter, where that changes nothing; what came of it is told in the savings."""
    weight = getattr(parts.model.get_input_embeddings(), "weight", None)  # type: ignore[operator]
    if weight is None or not (parts.recipe.engine.savings.sparse_embedding and weight.requires_grad):
        return None
    inputs = parts.examples["train"].inputs
    special = [*parts.tokenizer.all_special_ids, getattr(parts.model.config, "decoder_start_token_id", None)]
    ids = [ragged.values for name, ragged in inputs.items() if name.endswith("input_ids")]
    ids.append(np.array([token for token in special if token is not None]))
    found = moves_absent_rows(parts, weight, decay_of(weight, groups)) or sparse_embedding(parts.model, ids)
    if isinstance(found, str):
        parts.savings.append(f"embedding: all rows learn, for {found}")
        return None
    parts.savings.append(found.told())
    return found


def moves_absent_rows(parts: build.Taught, weight: torch.nn.Parameter, decay: float) -> str | None:
    """Why rows of the input embeddings might move that none of the encoded examples holds, otherwise than by a factor on all; None where not."""
    recipe, optimizer = parts.recipe, parts.recipe.optimizer
    if recipe.data.augment is not None:
        return "rows in other words bring other tokens"
    if parts.learner.redrawn:
        return "what is drawn anew at each step brings other tokens"
    if recipe.selective.l1 or recipe.selective.l2 or recipe.selective.l2_sp is not None:
        return "penalties fall on rows that do not occur"
    if not optimizer.by_weight:
        return f"{optimizer.name} moves a weight by what others are"
    if decay and not optimizer.decoupled:
        return f"{optimizer.name} takes weight decay for a gradient"
    if decay and weight.dtype.itemsize < 4:
        return "weight decay is lost in the rounding of 16 bits"
    return None


def decay_of(weight: torch.nn.Parameter, groups: Sequence[Mapping[str, Any]]) -> float:
    """The weight decay of the group that holds a parameter."""
    return next((float(group["weight_decay"]) for group in groups if any(own is weight for own in group["params"])), 0.0)


def beside(objective: Objective, lr: float) -> list[dict[str, Any]]:
    """A group of what learns beside the model and is not saved with it: a student's projections to its teacher's width."""
    if not isinstance(objective, Distilled) or not len(objective.projections):
        return []
    names, parameters = zip(*objective.projections.named_parameters(prefix="distill"), strict=True)
    return [{"params": list(parameters), "names": list(names), "weight_decay": 0.0, "lr": lr, "initial_lr": lr}]


def away(parts: build.Parts, what: str) -> bool:
    """Whether something is to wait in the CPU's memory: not where that is the memory in which it is."""
    return what in parts.recipe.train.offload and parts.runtime.device.type != "cpu"


def budget(settings: Train, parts: build.Parts) -> Budget:
    """The micro-batch to begin with: where weights move within backward, the whole batch. Packed, only real tokens count."""
    found = Budget(settings.batch_size, "ex") if settings.in_backward else settings.micro_batch or parts.runtime.budget
    return replace(found, padded=not parts.fast.unpadded)


def make_update(parts: build.Parts, optimizer: Any, techniques: Sequence[Technique]) -> Update:
    """How gradients move the weights. Raises ModelError where these weights or techniques do not allow it."""
    settings = parts.recipe.train
    half = [name for name, parameter in parts.model.named_parameters() if parameter.requires_grad and parameter.dtype == torch.float16]
    if half:
        raise ModelError(
            f"weights in float16 cannot learn: the steps they take are smaller than what float16 can tell apart ({half[0]}, ...). "
            "Say model.dtype=float32 with train.precision=fp16, or model.dtype=bfloat16."
        )
    if settings.precision == "fp16":
        return Scaled(optimizer, parts.runtime)
    if not settings.in_backward:
        return Update(optimizer)
    whole = [technique for technique in techniques if type(technique).differentiated is not Technique.differentiated]
    if whole:
        names = ", ".join(sorted({type(technique).__name__ for technique in whole}))
        raise ModelError(
            f"`train.in_backward` moves each weight before the other gradients are known, and {names} needs the whole gradient: "
            "leave one of the two out."
        )
    return InBackward(optimizer)


def places(parts: build.Parts, optimizer: Any) -> Places:
    """Where what learns stands in the model, for the norms of its gradient; what learns beside the model stands apart."""
    anatomy = parts.anatomy
    order = ["embeddings", *(f"block {number}" for number in range(1, len(anatomy.blocks) + 1)), "head"]
    return Places(optimizer.param_groups, lambda name: BESIDE if name.startswith("distill.") else anatomy.role(name), order)


def turning_notes(parts: build.Parts) -> list[str]:
    """What is dropped, averaged and turned on the way, in sentences for the header and the report."""
    recipe, control = parts.recipe, build.control_of(parts.recipe)
    found = [f"dropout: {parts.dropouts.told()}"] if recipe.dropout != Dropout() else []
    if recipe.train.ema is not None:
        found.append(f"evaluated and kept: a running average of the weights, of decay {recipe.train.ema:g}")
    return [*found, *([f"control: {control.told()}"] if control is not None else [])]


def warmup_warnings(warmup: Duration, total: int | None) -> list[str]:
    """A sentence where a warm-up takes all the steps of a run, so that its learning rate never gets to the peak."""
    steps = warmup.steps(total=total) if total else 0
    if not total or steps < total:
        return []
    return [
        f"the warm-up of {count(steps, 'step')} is as long as the run or longer ({count(total, 'step')}): the learning rate gets to "
        f"{(total - 1) / steps:.1%} of its peak and no further; set a smaller schedule.warmup"
    ]


def memory_notes(parts: build.Parts) -> list[str]:
    """What is done to spare memory, in sentences for the header and the report."""
    settings, blocks = parts.recipe.train, parts.anatomy.block_modules
    found, dtype = [], parts.recipe.model.dtype
    if dtype != "float32" and settings.precision == "fp32":
        learned = {str(parameter.dtype).removeprefix("torch.") for parameter in parts.model.parameters() if parameter.requires_grad}
        found.append(f"weights and computation in {dtype}; what learns, and the optimizer's state, in {' and '.join(sorted(learned))}")
    if settings.checkpoint_blocks is not None:
        again = len(blocks[:: settings.checkpoint_blocks])
        found.append(f"{count(again, 'block')} of {len(blocks)} computed again in backward instead of being kept")
    if settings.offload:
        here = not away(parts, settings.offload[0])
        why = "wait in the CPU's memory" + (", in which they are anyway here: this saves nothing" if here else "")
        found.append(f"{' and '.join(settings.offload)} {why}")
    if settings.in_backward:
        found.append("each weight moves within backward: its gradient is dropped at once")
    return found
