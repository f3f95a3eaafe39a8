"""What a student's teacher adds to a plan: its weights, and the operations of asking it. No weights are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from burnish.models.blocks import anatomy
from burnish.models.skeleton import skeleton
from burnish.models.spec import Model
from burnish.plan import flops
from burnish.plan.work import Teacher, Work
from burnish.recipe import Recipe
from burnish.run.blueprint import blueprint
from burnish.run.counting import packed_matrices
from burnish.run.operations import reading, sources_of, texts
from burnish.run.shapes import shape_of
from burnish.run.surveying import Survey
from burnish.teaching import MOST_BYTES, asked_anew

FLOAT = 4
"""Bytes of a number in a kept answer."""


def with_teacher(recipe: Recipe, survey: Survey, work: Work) -> Work:
    """The work with that of the recipe's teacher, where it has one: asked anew at every step, or once for all rows of training.

    Raises ModelError where the teacher's configuration cannot be had.
    """
    settings = recipe.distill
    if settings is None:
        return work
    model, place, held = survey.once(lambda: outline(recipe, survey), "teacher", settings.teacher)
    vocabulary = work.shape.vocabulary if work.vocabulary_scores else 0
    weight = float(np.asarray(survey.examples["train"].weights).sum())
    too_many = FLOAT * vocabulary * weight > MOST_BYTES
    anew = too_many or asked_anew(settings, recipe, survey.learner, survey.examples["train"]) is not None
    network = blueprint(model, place, {"head_rows": work.vocabulary_scores, "packed": False})
    sources = sources_of(work.parts["train"])
    if anew:
        steps = [sum(flops.forward(network, texts(work, group, sources)) for group in batch) for batch in work.batches]
        operations = float(np.mean(steps))
    else:
        operations = reading(network, work, "train")
    teacher = Teacher(held, shape_of(model.config, place), anew, operations, bool(settings.hidden), bool(settings.attention))
    return replace(work, teacher=teacher, operations=work.operations + (operations if anew else 0.0))


def outline(recipe: Recipe, survey: Survey) -> tuple[Any, Any, int]:
    """The teacher's model without numbers, where it keeps what, and bytes of its weights."""
    spec = model_of(recipe)
    model: Any = skeleton(spec, survey.learner.auto_class, survey.tokenizer, survey.learner.config)
    model, place = model.to(getattr(torch, spec.dtype)), anatomy(model)
    packed = packed_matrices(model, place, recipe.model_copy(update={"model": spec}))
    return model, place, sum(packed.get(id(parameter), parameter.nbytes) for parameter in model.parameters())


def model_of(recipe: Recipe) -> Model:
    """The model of a teacher: that of a finished run, whole or what its adapter stands on, or the one that is named."""
    assert recipe.distill is not None
    name = recipe.distill.teacher
    folder, own = Path(name), Path(name) / "recipe.yaml"
    if not own.is_file():
        return Model(name=name, dtype=recipe.model.dtype, trust_remote_code=recipe.model.trust_remote_code)
    spec = Recipe.model_validate(yaml.safe_load(own.read_text(encoding="utf-8"))).model
    if not (folder / "model" / "config.json").is_file():
        return spec
    return Model(name=str(folder / "model"), dtype=spec.dtype, quantize=spec.quantize, trust_remote_code=spec.trust_remote_code)
