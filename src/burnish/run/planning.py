"""From a recipe to the numbers of its work: no weights are read, and nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from burnish import build
from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.engine.batches import Budget, micro_batches
from burnish.engine.progress import Plan
from burnish.engine.runtime import CPU_BUDGET, GPU_BUDGET
from burnish.models.fast.install import unfit
from burnish.models.frozen import frozen_blocks
from burnish.models.load import quiet
from burnish.plan.work import Kept, Part, Work, Writing
from burnish.recipe import Recipe
from burnish.run import tracing
from burnish.run.counting import packed_matrices, weights_of
from burnish.run.operations import counted
from burnish.run.savings import LOOKED_AT, TAKEN_APART, positions_of
from burnish.run.shapes import shape_of
from burnish.run.surveying import Survey, bones_of, part_of, parts_of
from burnish.run.teacher import with_teacher

SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


def applied(recipe: Recipe, survey: Survey) -> tuple[Any, Anatomy, dict[int, int]]:
    """The recipe's model without numbers, with its method applied; where it keeps what; and bytes of the matrices in few bits.

    Raises ModelError for a method that computes from the weights at its start.
    """
    return survey.once(lambda: made(recipe, survey), "model", *model_of(recipe))


def model_of(recipe: Recipe) -> tuple[str, str]:
    """The sections that decide what model there is."""
    return recipe.model.model_dump_json(), recipe.method.model_dump_json()


def made(recipe: Recipe, survey: Survey) -> tuple[Any, Anatomy, dict[int, int]]:
    model, place = bones_of(recipe.model, survey)
    model = model.to(getattr(torch, recipe.model.dtype))
    packed = packed_matrices(model, place, recipe)
    try:
        with quiet():
            model = recipe.method.apply(model, place)
    except (NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"method={recipe.method.name} computes from the weights where it begins, and none are read here; method=lora has the same shapes."
        ) from error
    return model, place, packed


def work_of(recipe: Recipe, survey: Survey, device: str) -> Work:
    """Everything that time and memory of a run are computed from. `recipe` may differ from the survey's in all but rows, task and tokens."""
    model, place, packed = applied(recipe, survey)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    taught, parts, settings = survey.taught_as(recipe), parts_of(survey), recipe.train
    order = build.order(taught)
    plan = Plan(
        settings.duration, settings.evaluate_every, settings.save_every, order.steps_per_epoch, recipe.schedule, "validation" in parts
    )
    evaluations, saves = how_often(plan)
    one_row = packs(recipe, inner)
    lengths = survey.examples["train"].lengths
    budget = budget_of(recipe, device, one_row)
    one_row = one_row and not shows_insides(recipe)  # such a student is cut as if it were packed, and computed with padding
    batches = [cut([int(lengths[index]) for index in order.batch(step)], budget) for step in range(min(order.steps_per_epoch, LOOKED_AT))]
    scores = inner.get_output_embeddings() is not None
    deferred = recipe.engine.savings.supervised_logits and scores and not recipe.method.positions and not shows_insides(recipe)
    weights = weights_of(taught, model, place, packed, tokens_of(survey, inner), device)
    work = Work(
        shape=shape_of(inner.config, place),
        weights=weights,
        kept=kept_by(recipe, survey, model, place, batches, one_row),
        parts=parts,
        batches=batches,
        batch_size=settings.batch_size,
        steps=plan.total_steps,
        steps_per_epoch=order.steps_per_epoch,
        evaluations=evaluations,
        saves=saves,
        architecture=inner.config.model_type,
        task=recipe.task.name,
        method=recipe.method.name,
        optimizer=recipe.optimizer.name,
        precision=settings.precision,
        itemsize=SIZES[recipe.model.dtype],
        budget=CPU_BUDGET if device == "cpu" else GPU_BUDGET,
        max_length=survey.max_length,
        device=device,
        packed=one_row,
        trimmed=one_row and recipe.engine.savings.trimmed and not inner.config.is_encoder_decoder,
        deferred=deferred,
        read_share=read_share(survey, order.batch, order.steps_per_epoch, recipe.train.seed),
        frozen_blocks=frozen_blocks(model, place) if recipe.engine.savings.frozen_prefix else 0,
        checkpoint_every=settings.checkpoint_blocks,
        in_backward=settings.in_backward,
        average=settings.ema is not None,
        injected=inner is not model,
        moments_on_host="optimizer" in settings.offload and device != "cpu",
        activations_on_host="activations" in settings.offload and device != "cpu",
        quantized=recipe.model.quantize.name if recipe.model.quantize else None,
        vocabulary_scores=scores,
        row_counts=row_counts(batches, one_row, plan.total_steps),
        writing=writing_of(recipe, survey, parts),
        limit=settings.duration.seconds if settings.duration.timed else None,
    )
    return with_teacher(recipe, survey, counted(model, place, work))


def how_often(plan: Plan) -> tuple[int, int]:
    """Evaluations on the way and checkpoints of a whole run; one of each where time limits it."""
    total = plan.total_steps
    if total is None:
        return int(plan.watched), 1
    found = []
    for every in (plan.evaluate_every, plan.save_every):
        due = 0 if every.timed else sum(every.crossed(step, plan.steps_per_epoch) for step in range(1, total))
        found.append(due + 1)
    return (found[0] if plan.watched else 0), found[1]


def packs(recipe: Recipe, inner: Any) -> bool:
    """Whether texts stand one after another without padding: what training finds out by trying, told from the class."""
    if not recipe.engine.savings.unpadded or recipe.method.positions:
        return False
    if inner.config.is_encoder_decoder and inner.get_output_embeddings() is None:
        return False
    return bool(getattr(inner, "_supports_attention_backend", False)) and unfit(inner) is None


def shows_insides(recipe: Recipe) -> bool:
    """Whether a student's hidden states or attention are compared with a teacher's: what is left out elsewhere is then computed."""
    return recipe.distill is not None and bool(recipe.distill.hidden or recipe.distill.attention)


def budget_of(recipe: Recipe, device: str, one_row: bool) -> Budget:
    """The micro-batch that training begins with."""
    settings = recipe.train
    usual = Budget(CPU_BUDGET if device == "cpu" else GPU_BUDGET)
    found = Budget(settings.batch_size, "ex") if settings.in_backward else settings.micro_batch or usual
    return replace(found, padded=not one_row)


def cut(lengths: Sequence[int], budget: Budget) -> list[list[int]]:
    """The lengths of each micro-batch of a step."""
    return [[lengths[position] for position in group] for group in micro_batches(lengths, budget)]


def row_counts(batches: Sequence[Sequence[Sequence[int]]], one_row: bool, steps: int | None) -> int:
    """Different numbers of positions among the micro-batches of a run; as many more as its steps, at first, and never more than there are."""
    found = {sum(group) if one_row else len(group) * max(group) for batch in batches[:steps] for group in batch}
    return min(round(len(found) * max(1.0, (steps or 0) / len(batches))), max(found))


def tokens_of(survey: Survey, inner: Any) -> Iterator[np.ndarray]:
    """All ids that training may show the model."""
    special = [*survey.tokenizer.all_special_ids, getattr(inner.config, "decoder_start_token_id", None)]
    for name, ragged in survey.examples["train"].inputs.items():
        if name.endswith("input_ids"):
            yield ragged.values
    yield np.array([token for token in special if token is not None])


def read_share(survey: Survey, batch: Any, steps: int, seed: int) -> float:
    """The share of real positions (of a decoder's, where there are two sides) whose outputs are read."""
    learner, examples = survey.learner, survey.examples["train"]
    made = [learner.collate(examples, batch(step), (seed, step)) for step in range(min(steps, TAKEN_APART))]
    read = sum(len(one.examples) if one.read is None else int(one.read.sum()) for one in made)
    return min(1.0, read / max(1, sum(positions_of(one) for one in made)))


def kept_by(recipe: Recipe, survey: Survey, model: Any, place: Anatomy, batches: Sequence[Sequence[Sequence[int]]], one_row: bool) -> Kept:
    """What the heaviest micro-batch keeps for backward."""
    part = part_of(survey, "train")
    groups = [group for batch in batches for group in batch]
    sources = None if part.sources is None else dict(zip(part.lengths.tolist(), part.sources.tolist(), strict=True))

    def positions(group: Sequence[int]) -> tuple[int, int]:
        return sum(group) if one_row else len(group) * max(group), sum(length**2 for length in group)

    heaviest = max(groups, key=positions)
    two = None if sources is None else [sources[length] for length in heaviest]
    keyed, attending = recipe.engine.dropout == "keyed", tracing.Attending.of(heaviest, one_row)

    def traced() -> Kept:
        return tracing.trace(model, place, tracing.shaped(heaviest, one_row, two), attending, keyed)

    return survey.once(traced, "kept", *model_of(recipe), heaviest, two, one_row, keyed)


def writing_of(recipe: Recipe, survey: Survey, parts: dict[str, Part]) -> Writing | None:
    """The texts that an evaluation writes, where the task writes any."""
    generation = getattr(recipe.task, "generation", None)
    watched = parts.get("validation") or parts.get("test")
    if generation is None or generation.samples == 0 or watched is None:
        return None
    texts = watched.rows if generation.samples is None else min(generation.samples, watched.rows)
    prompt = watched.sources if watched.sources is not None else np.minimum(watched.lengths, survey.max_length - generation.max_new_tokens)
    return Writing(texts, generation.max_new_tokens, int(np.mean(np.maximum(prompt, 1))), generation.beams)
