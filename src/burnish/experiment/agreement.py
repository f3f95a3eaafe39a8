"""How far two ways to compute the same may be apart, and how far they are.

Legend: a the way that is checked, b the way that it is checked against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from burnish.recipe import Recipe

LIMITS = {
    "fp32": {"loss": 1e-5, "norm": 1e-4, "gradient": 1e-3, "weights": 1e-2, "outputs": 1e-4},
    "fp16": {"loss": 1e-3, "norm": 5e-3, "gradient": 5e-2, "weights": 1e-1, "outputs": 1e-2},
    "bf16": {"loss": 5e-3, "norm": 2e-2, "gradient": 5e-1, "weights": 2.5e-1, "outputs": 5e-2},
}
"""What rounding explains, by number format: at least three times, mostly ten times and more, what three steps of the bundled recipes came to.

fp32: loss 1e-7, norm 3e-7, gradient 3e-5 (2e-2 at a kink of ReLU, at a full learning rate), weights 7e-5, outputs 8e-7 (a merged adapter,
W' = W + BA rounded once more). bf16: loss 5e-5, norm 2e-4, gradient 1e-1 (weights in bfloat16 too; 2e-2 otherwise), weights 7e-2. A loss that
is off by a hundredth fails in every format.
"""

BITWISE = {"weights": 0.0}

FLOOR = 1e-3
"""Gradients are compared relative to their own largest entry, but at least to this share of the whole gradient's norm: what is zero but
for rounding (the biases of keys, which softmax does not see) would differ from itself by its own size."""


def number_format(recipe: Recipe) -> str:
    """The format whose rounding shows in a recipe's results: the shortest of its computation and its weights."""
    held = {"bfloat16": "bf16", "float16": "fp16"}.get(recipe.model.dtype, "fp32")
    return max(recipe.train.precision, held, key=list(LIMITS).index)


def relative(a: float, b: float) -> float:
    """|a - b| / |b|; 0 where both are the same, be it infinite (an update that overflowed fp16)."""
    return 0.0 if a == b else abs(a - b) / max(abs(b), 1e-30)


def worst(values: Iterator[float] | Sequence[float]) -> float:
    """The largest; NaN where one is."""
    return max(values, key=lambda value: math.inf if math.isnan(value) else value, default=0.0)


def length(tensors: Mapping[str, torch.Tensor]) -> float:
    """The L2 norm of all together."""
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors.values()))


def gradient_error(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> tuple[float, str]:
    """The largest relative error of any parameter's gradient, max |a - b| / max(max |b|, FLOOR ||b of all||), and whose it is.

    A gradient that only one of both ways has is compared with zero; one of another shape is infinitely far away.
    """
    floor, errors = FLOOR * length(b), {}
    for name in a.keys() | b.keys():
        one, other = a.get(name), b.get(name)
        one, other = (torch.zeros_like(other) if one is None else one), (torch.zeros_like(one) if other is None else other)  # type: ignore[arg-type]
        same = one.shape == other.shape
        errors[name] = largest(one - other) / max(largest(other), floor, 1e-30) if same else math.inf
    if not errors:
        return 0.0, ""
    name = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    return errors[name], name


def largest(tensor: torch.Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0


def output_error(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """The largest difference of any example's outputs, relative to the largest output; infinite where they have other shapes."""
    if [found.shape for found in a] != [found.shape for found in b]:
        return math.inf
    one, other = (np.concatenate([found.ravel() for found in outputs] or [np.zeros(0)]).astype(np.float64) for outputs in (a, b))
    different = one != other  # so that what is infinite in both is the same
    scale = np.abs(other[np.isfinite(other)]).max(initial=0.0)
    return worst([float(value) for value in np.abs(one[different] - other[different]) / max(float(scale), 1e-30)])
