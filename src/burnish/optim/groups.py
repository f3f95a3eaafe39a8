"""Puts every parameter that learns into exactly one group of the optimizer, by its learning rate and its weight decay."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from burnish.core.errors import ModelError, nearest
from burnish.core.protocols import Anatomy
from burnish.core.sizes import elements

if TYPE_CHECKING:
    from torch import nn

UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)
KINDS = ("weights", "biases", "norms", "embeddings", "head")


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, factors: Mapping[str, float] | None = None, decays: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Groups of one learning rate and one decay each, the rates that are nearest to `lr` first.

    `factors` (on the learning rate) and `decays` are by name; what they lack has factor 1, and `weight_decay` unless it is a bias
    or a norm (decay on those only moves the output's scale). Each group carries the names of its parameters, by which a checkpoint
    finds them again.
    """
    spared = undecayed(model)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in learning(model).items():
        factor = (factors or {}).get(name, 1.0)
        decay = (decays or {}).get(name, 0.0 if name in spared else weight_decay)
        rate = lr * factor
        made = {"params": [], "names": [], "weight_decay": decay, "lr": rate, "initial_lr": rate}
        group = groups.setdefault((rate, decay), made)
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups, key=lambda key: (abs(math.log(key[0] / lr)), key[0], -key[1]))]


def learning(model: nn.Module) -> dict[str, Any]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def norms(model: nn.Module) -> set[str]:
    """Names of the parameters of normalization layers."""
    return {
        f"{name}.{inner}" if name else inner
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for inner, _ in module.named_parameters(recurse=False)
    }


def undecayed(model: nn.Module) -> set[str]:
    """Names of biases and of the parameters of norms, which no decay falls on by default."""
    return norms(model) | {name for name, _ in model.named_parameters() if UNDECAYED.search(name)}


def lr_factors(
    model: nn.Module, anatomy: Anatomy, layer_decay: float, of_roles: Mapping[str, float], of_patterns: Mapping[str, float]
) -> dict[str, float]:
    """The factor on the learning rate of each parameter that learns: that of its depth, of its role, and of the patterns it fits.

    Raises ModelError for a role or a pattern of which nothing learns.
    """
    names = list(learning(model))
    depths, roles = heights(anatomy), {name: anatomy.role(name) for name in names}
    for role, factor in of_roles.items():
        if factor != 1 and role not in roles.values():
            raise ModelError(f"`selective.{role}`: nothing in the {role} learns under this method. Leave it out.")
    factors = {name: layer_decay ** depths[role] * of_roles.get(role, 1.0) for name, role in roles.items()}
    for pattern, own in of_patterns.items():
        for name in fitting(pattern, names, model, anatomy, "rates"):
            factors[name] *= own
    return factors


def heights(anatomy: Anatomy) -> dict[str, int]:
    """How far each role lies below the top: 0 for the head, k for the k-th block from the top of its stack, most for the embeddings.

    In an encoder-decoder each stack is counted by itself, for the encoder's last block feeds every block of the decoder.
    """
    stacks = [module.rpartition(".")[0] for module in anatomy.block_modules]
    above = {f"block {number}": stacks[number - 1 :].count(stack) for number, stack in enumerate(stacks, start=1)}
    return {"head": 0, **above, "embeddings": 1 + max(above.values(), default=0)}


def weight_decays(model: nn.Module, anatomy: Anatomy, wanted: Mapping[str, float], usual: float) -> dict[str, float]:
    """The weight decay of each parameter that learns: that of its kind, or of the last pattern that it fits."""
    names, norm_names = list(learning(model)), norms(model)
    found = {}
    for name in names:
        kind = kind_of(name, anatomy, norm_names)
        found[name] = wanted.get(kind, 0.0 if kind in ("biases", "norms") else usual)
    for pattern, own in wanted.items():
        if pattern not in KINDS:
            found.update(dict.fromkeys(fitting(pattern, names, model, anatomy, "decay"), own))
    return found


def kind_of(name: str, anatomy: Anatomy, norm_names: set[str]) -> str:
    """Norms and biases wherever they are; else by place: embeddings, head, or the weights of the blocks."""
    if UNDECAYED.search(name) or name in norm_names:
        return "biases" if "bias" in name.rpartition(".")[2].lower() and name not in norm_names else "norms"
    role = anatomy.role(name)
    return role if role in KINDS else "weights"


def fitting(pattern: str, names: Sequence[str], model: nn.Module, anatomy: Anatomy, key: str) -> list[str]:
    """The learning parameters whose names, with or without what peft puts around them, fit a pattern. Raises ModelError where none do."""

    def fits(name: str) -> bool:
        return fnmatchcase(name, pattern) or fnmatchcase(anatomy.own_name(name), pattern)

    chosen = [name for name in names if fits(name)]
    if chosen:
        return chosen
    if any(fits(name) for name, _ in model.named_parameters()):
        raise ModelError(f"`selective.{key}`: {pattern!r} fits only parameters that do not learn under this method.")
    known = [*(KINDS if key == "decay" else ()), *(anatomy.own_name(name) for name in names)]
    raise ModelError(
        f"`selective.{key}`: no parameter is named {pattern!r}{nearest(pattern, known) or nearest(pattern.strip('*.'), known)}. "
        "Patterns fit whole names, * standing for anything; `burnish show groups RECIPE` lists them."
    )


def summary(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each group as a row: its learning rate, weight decay, values that learn, tensors, and the name of its first parameter."""
    return [
        {
            "lr": group["initial_lr"],
            "weight_decay": group["weight_decay"],
            "parameters": sum(elements(parameter) for parameter in group["params"]),
            "tensors": len(group["params"]),
            "first": group["names"][0],
        }
        for group in groups
    ]
