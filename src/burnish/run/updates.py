"""What low-rank methods of peft came to: for each layer its update as two thin matrices, without making it whole.

Legend: E outputs, D inputs, r rank of an update (twice the recipe's for PiSSA, which takes its first factors off again).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Update:
    """W' - W of one layer: the name of W in the model, sums of squares of W, W' and W' - W, and the singular values of s B A, largest first."""

    weight: str
    squares: tuple[float, float, float]
    singular_values: torch.Tensor


def updates(model: Any) -> Iterator[Update]:
    """The update of each layer that a low-rank method adapted, in the order of the model; none for other methods."""
    for name, layer in model.named_modules():
        if "default" in getattr(layer, "lora_A", {}):
            up, down = factors(layer)
            weight = whole_weight(layer)
            yield Update(f"{name}.base_layer.weight", squares(layer, weight, up, down), singular_values(up, down))


def factors(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(E, r) and (r, D), whose product is the layer's update, scale included."""
    first, second = layer.lora_A["default"], layer.lora_B["default"]
    down, up, scale = getattr(first, "weight", first), getattr(second, "weight", second), layer.scaling["default"]
    down, up = down.detach().double().cpu(), up.detach().double().cpu()
    if hasattr(layer, "lora_E"):  # AdaLoRA: B diag(e) A, over the ranks that are left
        down = down * layer.lora_E["default"].detach().double().cpu()
        scale = scale / (float(layer.ranknum["default"]) + 1e-5)
    if hasattr(layer, "first_A"):  # PiSSA: began at B0 A0, which was taken out of W
        down = torch.cat([down, layer.first_A.double().cpu()])
        up = torch.cat([up, -layer.first_B.double().cpu()], dim=1)
    return up * scale, down


def singular_values(up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """(r,) those of up (E, r) times down (r, D), through the triangles of their QR decompositions: nothing of size E x D is made."""
    left, right = torch.linalg.qr(up).R, torch.linalg.qr(down.T).R
    return torch.linalg.svdvals(left @ right.T)


def whole_weight(layer: Any) -> torch.Tensor:
    """(E, D) the pretrained weight under an update, out of its few bits where it is quantised, with PiSSA's part back in it."""
    from peft.utils.integrations import dequantize_module_weight

    weight = dequantize_module_weight(layer.get_base_layer()).detach().cpu()
    weight = weight.T if getattr(layer, "fan_in_fan_out", False) else weight  # GPT-2's Conv1D holds it so
    return weight + (layer.first_B @ layer.first_A).cpu().to(weight.dtype) if hasattr(layer, "first_A") else weight


def squares(layer: Any, weight: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> tuple[float, float, float]:
    """Sums of squares of W, of W' = W + up down, and of W' - W:  |W'|^2 = |W|^2 + 2 <up^T W, down> + |up down|^2.

    DoRA scales the rows of that sum to lengths of its own, so that there W' is made, in the weight's own format.
    """
    before = sum(float(rows.double().square().sum()) for rows in weight.split(1024))
    lengths = getattr(layer, "lora_magnitude_vector", None) or {}
    if "default" in lengths:
        found = weight + (up @ down).to(weight.dtype)
        found *= (lengths["default"].weight.detach().cpu().flatten() / torch.linalg.norm(found, dim=1))[:, None]
        return before, float(found.double().square().sum()), float((found - weight).double().square().sum())
    change = float(((up.T @ up) * (down @ down.T)).sum())
    across = float(((up.to(weight.dtype).T @ weight).double() * down).sum())
    return before, before + 2 * across + change, change
