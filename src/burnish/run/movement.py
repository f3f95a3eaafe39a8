"""How far training moved the weights: by place and role, before against after, and the spectrum of what low-rank methods added.

The relative change of weights W is ||W_after - W_before|| / ||W_before|| (Frobenius norms), over all weights of a cell together, those that
stayed included. Where a low-rank method learned, W_before is the pretrained matrix and W_after what it comes to with the update in it.

Legend: E outputs, D inputs, r rank of an update.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from burnish.core.protocols import Anatomy
from burnish.core.sizes import elements
from burnish.plan.parameters import role_of
from burnish.run.beginning import AT_ONCE, Beginning
from burnish.run.updates import Update, updates


@dataclass
class Cell:
    """Weights of one role in one place: how many, how many learn, and sums of squares before, after, and of the change."""

    place: str
    role: str
    parameters: int = 0
    learning: int = 0
    squares: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def add(self, before: float, after: float, change: float) -> None:
        self.squares = [known + new for known, new in zip(self.squares, (before, after, change), strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Norms of a cell that did not move are not known, for nobody needed them; a change from nothing is no share of it."""
        before, after, change = (math.sqrt(max(0.0, value)) for value in self.squares)
        facts = {"place": self.place, "role": self.role, "parameters": self.parameters, "learning": self.learning}
        if not self.learning:
            return {**facts, "before": None, "after": None, "change": 0.0, "relative": 0.0}
        return {**facts, "before": before, "after": after, "change": change, "relative": change / before if before else None}


def movement(model: Any, anatomy: Anatomy, beginning: Beginning) -> dict[str, Any]:
    """movement.json: `cells` by place and role, and `updates` with the singular values of each low-rank update.

    Reads the first values a piece at a time: never more than a few MB are in memory beside the model, and one layer where its weights are
    held in few bits.
    """
    began = time.monotonic()
    with torch.no_grad():
        found = list(updates(model))
        cells = moved(model, anatomy, beginning, found)
        spectra = [spectrum(update, anatomy, model) for update in found]
    aside = sum(one.file == beginning.own for one in beginning.kept.values())
    facts = {"from_files": len(beginning.kept) - aside, "written_aside": aside, "seconds": time.monotonic() - began}
    return {"cells": [cell.to_json() for cell in cells], "updates": spectra, **facts}


def moved(model: Any, anatomy: Anatomy, beginning: Beginning, found: list[Update]) -> list[Cell]:
    """The cells of a model, from the embeddings up to the head. What stayed in a cell that moved counts among what was there before."""
    changed = {update.weight: update for update in found}
    cells: dict[tuple[str, str], Cell] = {}
    placed = list(standing(model, anatomy))
    for name, parameter, place, role in placed:
        cell = cells.setdefault((place, role), Cell(place, role))
        cell.parameters += elements(parameter)
        if name in beginning.kept or name in changed:
            cell.learning += elements(parameter)
    tables = sparse_tables(model)
    for name, parameter, place, role in placed:
        cell = cells[place, role]
        if name in changed:
            cell.add(*changed[name].squares)
        elif name in beginning.kept:
            cell.add(*differences(parameter, name, beginning, tables))
        elif cell.learning and parameter.is_floating_point():
            square = sum(float(piece.double().square().sum()) for piece in pieces(parameter))
            cell.add(square, square, 0.0)
    order = {"embeddings": -1, "head": len(anatomy.blocks) + 1}
    return sorted(cells.values(), key=lambda cell: order.get(cell.place, 0) or int(cell.place.removeprefix("block ")))


def standing(model: Any, anatomy: Anatomy) -> Iterator[tuple[str, nn.Parameter, str, str]]:
    """(name, parameter, place, role) of every parameter but the factors of low-rank updates, which are no weights by themselves."""
    own = {name for names in (anatomy.embeddings, *anatomy.blocks, anatomy.head) for name in names}
    kinds = {name: type(module).__name__.lower() for name, module in model.named_modules()}
    for name, parameter in model.named_parameters():
        if any(part in name for part in (".original_module.", ".lora_", ".ranknum.")):
            continue
        plain, place = anatomy.own_name(name), anatomy.role(name)
        added = plain not in own and parameter.requires_grad
        role = "added by the method" if added else role_of(plain, place, kinds.get(name.rpartition(".")[0], ""), anatomy)
        yield name, parameter, place, role


def differences(parameter: torch.Tensor, name: str, beginning: Beginning, tables: dict[int, Any]) -> tuple[float, float, float]:
    """Sums of squares of a parameter before, after, and of their difference."""
    sums = [0.0, 0.0, 0.0]
    table = tables.get(id(parameter))
    for first, before in beginning.kept[name].pieces(parameter.dtype):
        rows = slice(first, first + len(before))
        own = parameter.detach() if parameter.dim() else parameter.detach()[None]
        after = own[rows] if table is None else table.rows(rows)
        old, new = before.double(), after.cpu().double()
        for place, value in enumerate((old, new, new - old)):
            sums[place] += float(value.square().sum())
    return sums[0], sums[1], sums[2]


def sparse_tables(model: nn.Module) -> dict[int, Any]:
    """Embedding tables of which only the rows that occur are a parameter, by the id of that parameter."""
    found = (getattr(vars(module).get("forward"), "table", None) for module in model.modules())
    return {id(table.weight): table for table in found if table is not None}


def pieces(parameter: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor in rows that take little memory in double precision."""
    own = parameter.detach()
    rows = max(1, AT_ONCE * len(own) // max(1, own.numel())) if own.dim() else 1
    yield from own.split(rows) if own.dim() else [own]


def spectrum(update: Update, anatomy: Anatomy, model: Any) -> dict[str, Any]:
    """The singular values of an update, largest first, and its effective rank exp(-sum p ln p), p = s / sum s: as many directions as
    matter. Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality"."""
    values = [float(value) for value in update.singular_values]
    total = sum(values)
    shares = [value / total for value in values if value > 0] if total else []
    before, _, change = update.squares
    plain = anatomy.own_name(update.weight)
    return {
        "module": plain.rpartition(".")[0],
        "place": anatomy.role(update.weight),
        "layer": plain.rpartition(".")[0].rpartition(".")[2],
        "rank": len(values),
        "values": values,
        "effective_rank": math.exp(-sum(share * math.log(share) for share in shares)) if shares else 0.0,
        "relative": math.sqrt(change / before) if before else None,
    }
