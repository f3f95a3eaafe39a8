"""Counts parameters by place and role, with the closed formula beside the count where the architecture is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.core.protocols import Anatomy
from burnish.core.sizes import elements
from burnish.plan.formulas import formulas_of, letters, value, written

ADDED = "added by the method"
"""The role of parameters that the model itself does not have."""


def by_role(named: Iterable[tuple[str, Any]], anatomy: Anatomy) -> list[tuple[str, int, int]]:
    """(role, parameters, those that learn), from embeddings up to the head.

    peft's names are understood: its prefix is dropped, and the idle copies that it keeps of replaced modules do not count.
    """
    roles = ["embeddings", *(f"block {number}" for number in range(1, len(anatomy.blocks) + 1)), "head"]
    total, learning = dict.fromkeys(roles, 0), dict.fromkeys(roles, 0)
    for name, parameter in named:
        if ".original_module." in name:
            continue
        role = anatomy.role(name)
        total[role] += elements(parameter)
        learning[role] += elements(parameter) if parameter.requires_grad else 0
    return [(role, total[role], learning[role]) for role in roles]


@dataclass
class Part:
    """Parameters of one role in one place (the embeddings, so many equal blocks, the head), and the formula of their number in each, with
    the numbers of the configuration's `decoder` where a second stack has its own."""

    place: str
    role: str
    total: int
    learning: int
    times: int = 1
    formula: str | None = None
    decoder: bool = False

    @property
    def told(self) -> str:
        """The formula as it is read, with how often it counts; nothing where none is known."""
        if self.formula is None:
            return ""
        return f"{self.times} ({written(self.formula)})" if self.times > 1 else written(self.formula)


def parts(model: Any, anatomy: Anatomy, config: Any) -> list[Part]:
    """Parameters by place and role, equal blocks in one, those that a method added apart. A formula stands only where it gives the count."""
    counted = census(model, anatomy)
    made = [Part("embeddings", role, *numbers) for role, numbers in counted.pop("embeddings", {}).items()]
    head = counted.pop("head", {})
    stacks = [module.rpartition(".")[0] for module in anatomy.block_modules]
    several = len(set(stacks)) > 1
    runs: list[list[int]] = []
    for block, stack in enumerate(stacks):
        own = counted.get(f"block {block + 1}", {})
        if runs and stacks[runs[-1][-1]] == stack and counted.get(f"block {runs[-1][-1] + 1}", {}) == own:
            runs[-1].append(block)
        else:
            runs.append([block])
    for run in runs:
        stack = stacks[run[0]]
        first, last = (block - stacks.index(stack) + 1 for block in (run[0], run[-1]))
        side = ("decoder " if "decoder" in stack else "encoder ") if several else ""
        place = f"{side}block {first}" if first == last else f"{side}blocks {first} to {last}"
        for role, (total, learning) in counted.get(f"block {run[0] + 1}", {}).items():
            made.append(Part(place, role, total * len(run), learning * len(run), len(run), decoder="decoder" in stack))
    made += [Part("head", role, *numbers) for role, numbers in head.items()]
    for part in made:
        part.formula = right_formula(part, config)
    return made


def right_formula(part: Part, config: Any) -> str | None:
    """The formula of a part where one is known and gives the number that was counted."""
    key = "embedding norms" if part.place == "embeddings" and part.role == "norms" else part.role
    key = "decoder norms" if part.place.startswith("decoder") and part.role == "norms" else key
    numbers = letters(config, part.decoder)
    return next((formula for formula in formulas_of(config, key) if value(formula, numbers) * part.times == part.total), None)


def by_formula(found: Sequence[Part], config: Any) -> int | None:
    """What the formulas of all parts come to, without those that a method added; None where a part has none."""
    own = [part for part in found if part.role != ADDED]
    if any(part.formula is None for part in own):
        return None
    sides = {side: letters(config, side) for side in (False, True)}
    return sum(part.times * value(str(part.formula), sides[part.decoder]) for part in own)


def census(model: Any, anatomy: Anatomy) -> dict[str, dict[str, tuple[int, int]]]:
    """Place -> role -> (parameters, those that learn), in the order in which the model holds them."""
    own = {name for names in (anatomy.embeddings, *anatomy.blocks, anatomy.head) for name in names}
    kinds = {name: type(module).__name__.lower() for name, module in model.named_modules()}
    found: dict[str, dict[str, tuple[int, int]]] = {"embeddings": {}}
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        plain = anatomy.own_name(name)
        place = anatomy.role(name)
        added = plain not in own and parameter.requires_grad
        role = ADDED if added else role_of(plain, place, kinds.get(name.rpartition(".")[0], ""), anatomy)
        total, learning = found.setdefault(place, {}).get(role, (0, 0))
        size = elements(parameter)
        found[place][role] = total + size, learning + (size if parameter.requires_grad else 0)
    return found


def role_of(name: str, place: str, kind: str, anatomy: Anatomy) -> str:
    """What a parameter is for: by the class of its module, `kind`, where that is a norm, else by its name; in the head its module."""
    text = name.lower()
    if place == "head":
        root = name.partition(".")[0]
        if not any(module.startswith(root + ".") for module in anatomy.block_modules):
            return root
        modules = [module for module in anatomy.head_modules if name.startswith(module + ".")]
        return (modules[0] if modules else name.rpartition(".")[0]).rpartition(".")[2]
    if "norm" in kind:
        return (
            "norms" if place == "embeddings" or name.startswith(tuple(module + "." for module in anatomy.block_modules)) else "final norm"
        )
    if "relative_attention_bias" in text:
        return "position bias"
    if place == "embeddings":
        return "positions" if "position" in text or "wpe" in text else "types" if "type" in text else "tokens"
    if any(word in text for word in ("encdecattention", "encoder_attn", "crossattention")):
        return "cross-attention"
    return "attention" if "attn" in text or "attention" in text else "feed-forward"
