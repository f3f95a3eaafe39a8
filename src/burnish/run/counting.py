"""Bytes of a model's weights, gradients and optimizer state, parameter by parameter, on a model without numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from burnish import build
from burnish.core.protocols import Anatomy
from burnish.core.sizes import elements
from burnish.models.blocks import is_linear
from burnish.models.fast import embedding, prepacked
from burnish.plan.moments import state_bytes
from burnish.plan.work import LARGE, Weights
from burnish.recipe import Recipe
from burnish.run.stepping import decay_of, moves_absent_rows

BLOCK, NESTED, SCALE = 64, 256, 4
"""Weights that share a scale in nf4, scales that share a scale of their own, and bytes of a scale in float32."""

FLOAT, SIXTEEN = 4, 2
"""Bytes of a number in float32, and in autocast's formats."""


def quantized_bytes(format: str, double: bool, elements: int, rows: int) -> int:
    """What a matrix takes in few bits: nf4 has half a byte a weight, and for each 64 a scale, itself in 8 bits where `double`;
    int8 a byte a weight, and a scale for each row. Dettmers et al. 2023, arXiv:2305.14314, section 3."""
    if format == "int8":
        return elements + SCALE * rows
    scales = math.ceil(elements / BLOCK)
    return math.ceil(elements / 2) + (scales + SCALE * math.ceil(scales / NESTED) if double else SCALE * scales)


def packed_matrices(model: Any, anatomy: Anatomy, recipe: Recipe) -> dict[int, int]:
    """Bytes of each parameter that the recipe holds in few bits, by the parameter's identity; to be asked before the method is applied."""
    quantize = recipe.model.quantize
    if quantize is None:
        return {}
    found = {}
    for name in anatomy.linears:
        layer = model.get_submodule(name)
        if is_linear(layer):
            found[id(layer.weight)] = quantized_bytes(quantize.name, quantize.double, layer.weight.numel(), len(layer.weight))
    return found


def weights_of(
    taught: build.Taught, model: Any, anatomy: Anatomy, packed: dict[int, int], tokens: Iterable[np.ndarray], device: str
) -> Weights:
    """The bytes of everything that is a parameter or goes with one. `tokens` are the ids that training may show the model."""
    recipe = taught.recipe
    occurring = occurring_rows(taught, model, anatomy, tokens)
    table = getattr(model.get_input_embeddings(), "weight", None) if occurring is not None else None
    named = [(name, parameter) for name, parameter in model.named_parameters() if ".original_module." not in name]
    held = sum(packed.get(id(parameter), parameter.nbytes) for _, parameter in model.named_parameters())
    gradients, moments, learning = [], 0, 0
    for _, parameter in named:
        if not parameter.requires_grad:
            continue
        shape = tuple(parameter.shape)
        if occurring is not None and parameter is table:
            shape = (occurring, *shape[1:])
        number, itemsize = math.prod(shape), parameter.element_size()
        learning += number
        gradients.append(number * itemsize)
        state = state_bytes(recipe.optimizer, shape, itemsize)
        moments += 2 * number * itemsize if state is None else state
    whole = 0 if table is None or occurring is None else table.nbytes
    unpacked = [FLOAT * parameter.numel() for parameter in model.parameters() if id(parameter) in packed]
    laid_out = prepacked_weights(recipe, model, packed) if device == "cpu" else []
    return Weights(
        total=sum(elements(parameter) for _, parameter in named),
        trainable=sum(elements(parameter) for _, parameter in named if parameter.requires_grad),
        learning=learning,
        held=held,
        gradients=sum(gradients),
        moments=moments,
        prepacked=2 * sum(weight.nbytes for weight in laid_out),
        shapes=len({side for weight in laid_out for side in (tuple(weight.shape), tuple(reversed(weight.shape)))}),
        largest=max(gradients),
        large=sum(size for size in gradients if size >= LARGE),
        shared=shared_output(model),
        table=whole,
        copied=0 if recipe.model.fresh or device != "cpu" else whole,
        widest=max(unpacked, default=0),
        unpacked=sum(unpacked),
        cast=SIXTEEN * matrices(model) if recipe.train.precision != "fp32" and recipe.model.dtype == "float32" else 0,
    )


def shared_output(model: Any) -> bool:
    """Whether the embeddings learn and are the output's matrix too, so that two gradients of their size are added up."""
    output, table = model.get_output_embeddings(), model.get_input_embeddings()
    weight = getattr(table, "weight", None)
    return output is not None and weight is not None and weight.requires_grad and getattr(output, "weight", None) is weight


def matrices(model: nn.Module) -> int:
    """Numbers in the matrices that are multiplied, which autocast rounds to 16 bits once a pass."""
    return sum(module.weight.numel() for module in model.modules() if is_linear(module) and isinstance(module.weight, torch.Tensor))


def prepacked_weights(recipe: Recipe, model: nn.Module, packed: dict[int, int]) -> list[torch.Tensor]:
    """The weights that do not learn and are laid out for oneDNN's products, down and up (`models/fast/prepacked.py`)."""
    if not recipe.engine.prepacked or recipe.model.dtype != "float32":
        return []
    modules = [module for module in model.modules() if type(module) is nn.Linear and not module.weight.requires_grad]
    chosen = [module.weight for module in modules if id(module.weight) not in packed]
    return chosen if sum(weight.nbytes for weight in chosen) <= prepacked.MOST_BYTES // 2 else []


def occurring_rows(taught: build.Taught, model: Any, anatomy: Anatomy, tokens: Iterable[np.ndarray]) -> int | None:
    """Rows of the input embeddings that learn where only those that occur do; None where all rows learn, or none."""
    recipe, module = taught.recipe, model.get_input_embeddings()
    weight = getattr(module, "weight", None)
    if weight is None or not (recipe.engine.savings.sparse_embedding and weight.requires_grad) or embedding.fault(model, module):
        return None
    groups = recipe.selective.groups(model, anatomy, recipe.optimizer.lr, recipe.optimizer.weight_decay)
    if moves_absent_rows(taught, weight, decay_of(weight, groups)):
        return None
    seen = np.zeros(len(weight), dtype=bool)
    for ids in tokens:
        seen[ids[ids >= 0]] = True
    return int(seen.sum()) if seen.mean() <= embedding.WORTH else None
