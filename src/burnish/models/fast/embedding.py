"""Input embeddings of which only the rows that occur in training are a parameter: gradient and optimizer state are as small as that.

A row that no training example holds has a gradient of zero at every step, and so have its running means: an optimizer that moves each
weight by its own gradient alone does not move it, but for weight decay that shrinks all such rows by one known factor.

Legend: V tokens of the vocabulary, U of them in the training rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from burnish.core.protocols import Technique

WORTH = 0.5
"""Share of the rows that may occur: with more, there is little to save."""


class SparseTable:
    """An embedding table in two parts: `weight` (U, D), the parameter, now of the rows that occur, and `rest` (V - U, D), which stays.

    The parameter is the same object under the same name, so that optimizers, averages and checkpoints hold U rows. In evaluation any
    token is read; in training the others are out of range (an IndexError), for they would learn nothing. The model's state_dict gives
    the whole table (V, D) and takes it. `scale` is the factor on the rest, which weight decay makes smaller (`Shrinkage`).
    """

    def __init__(self, model: nn.Module, weight: nn.Parameter, occurring: np.ndarray) -> None:
        self.weight, self.scale, whole = weight, 1.0, weight.detach()
        held = torch.zeros(len(whole), dtype=torch.bool)
        held[torch.from_numpy(occurring)] = True
        self.occurring, self.absent = (which.nonzero()[:, 0].to(whole.device) for which in (held, ~held))  # (U,), (V - U,)
        self.place = torch.cat([self.occurring, self.absent]).argsort()  # (V,) rows of `weight` and then of `rest`
        self.rest = whole[self.absent]  # (V - U, D)
        self.names = [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is weight]
        self.modules = [module for module in model.modules() if getattr(module, "weight", None) is weight]
        weight.data = whole[self.occurring]
        weight.whole_shape = whole.shape  # type: ignore[attr-defined]
        for module in self.modules:
            module.forward = Lookup(self, module)
        # torch marks the first of these, which a bound method does not bear.
        self.hooks = [model.register_state_dict_post_hook(partial(self.completed)), model.register_load_state_dict_pre_hook(self.parted)]

    @torch.no_grad()
    def whole(self) -> torch.Tensor:
        """(V, D) the table as it is without the saving."""
        return self.spread(self.weight.detach()).index_copy_(0, self.absent, self.rest * self.scale)

    @torch.no_grad()
    def rows(self, which: slice) -> torch.Tensor:
        """(n, D) some rows of the whole table."""
        place, known = self.place[which], len(self.weight)
        own = place < known  # (n,)
        found = self.weight.new_empty(len(place), *self.weight.shape[1:])
        found[own], found[~own] = self.weight.detach()[place[own]], self.rest[place[~own] - known] * self.scale
        return found

    def spread(self, rows: torch.Tensor) -> torch.Tensor:
        """(V, D) of what each occurring row has (U, D), such as its gradient: zeros for the others."""
        return rows.new_zeros(len(self.place), *rows.shape[1:]).index_copy_(0, self.occurring, rows)

    def completed(self, module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        """Puts the whole table into the state that a model gives: one tensor for all modules that share it."""
        whole = self.whole()
        for name in self.names:
            state[prefix + name] = whole

    @torch.no_grad()
    def parted(self, module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
        """Takes a whole table out of the state that a model is to load: keeps the rest, and leaves the rows that occur."""
        for name in (prefix + name for name in self.names):
            if name in state and len(state[name]) == len(self.place):
                whole = state[name].to(self.rest)
                self.rest, self.scale = whole[self.absent], 1.0
                state[name] = whole[self.occurring]

    def restore(self) -> None:
        """Makes the model ordinary again; an optimizer that knows the parameter has to be made anew."""
        self.weight.data = self.whole()
        self.weight.grad = None
        del self.weight.whole_shape  # type: ignore[attr-defined]
        for module in self.modules:
            del module.forward
        for hook in self.hooks:
            hook.remove()

    def told(self) -> str:
        """What is saved, for the header and the report."""
        rows, whole = len(self.occurring), len(self.place)
        return f"embedding: {rows:,} of {whole:,} rows occur in training: {1 - rows / whole:.0%} less gradient and optimizer state"


class Lookup:
    """The forward of an embedding module whose weight holds only the rows that occur."""

    def __init__(self, table: SparseTable, module: Any) -> None:
        self.table, self.module = table, module
        self.padding = None if module.padding_idx is None else int(table.place[module.padding_idx])

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        """(..., D) of token ids (...)."""
        table, rows = self.table, self.table.place[input]
        if self.module.training:
            return functional.embedding(rows, table.weight, self.padding)
        known = len(table.weight)
        learned = functional.embedding(rows.clamp(max=known - 1), table.weight, self.padding)
        others = functional.embedding((rows - known).clamp(min=0), table.rest) * table.scale
        return torch.where((rows < known)[..., None], learned, others)


class Shrinkage(Technique):
    """Decoupled weight decay of the rows that do not occur, as one factor on all of them:

        w = w - lr_t decay_t w  at each update t  gives  w_T = w_0 prod_t (1 - lr_t decay_t).

    Kept in double precision: nearer to the formula than the rows themselves would come, which round at every update. A table that is
    not unfrozen yet is not decayed. `share`, where a running average of the weights is kept, gives the weight of the new value in it at
    each update; the average of the rows is that of the factor, a = a + share_t (s_t - a).
    """

    def __init__(self, table: SparseTable, optimizer: torch.optim.Optimizer, share: Callable[[int], float] | None = None) -> None:
        self.table, self.optimizer, self.share = table, optimizer, share
        groups = enumerate(optimizer.param_groups)
        self.group = next(number for number, group in groups if any(weight is table.weight for weight in group["params"]))
        self.averaged = 1.0

    def updated(self, step: int) -> None:
        group = self.optimizer.param_groups[self.group]
        if self.table.weight.requires_grad:
            self.table.scale *= 1 - group["lr"] * group["weight_decay"]
        if self.share is not None:
            self.averaged += self.share(step) * (self.table.scale - self.averaged)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Where averages are measured and kept, the rest of the table is averaged too."""
        learned = self.table.scale
        try:
            self.table.scale = learned if self.share is None else self.averaged
            yield
        finally:
            self.table.scale = learned

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {}, {"scale": self.table.scale, "averaged": self.averaged}

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        self.table.scale, self.averaged = values["scale"], values["averaged"]


def sparse_embedding(model: Any, ids: Iterable[np.ndarray]) -> SparseTable | str:
    """Keeps only the rows of `ids` as the parameter of the model's input embeddings, or says in a word why that cannot be.

    `ids` are all tokens that training may show the model (negative ones are no tokens): those of its examples, and what stands between
    and before them (padding, the token that a decoder begins with). Positions and token types are other tables and stay as they are.
    To be called before the optimizer is made, on the device where the model trains.
    """
    module = model.get_input_embeddings()
    reason = fault(model, module)
    if reason is not None:
        return reason
    seen = np.zeros(len(module.weight), dtype=bool)
    for tokens in ids:
        seen[tokens[tokens >= 0]] = True
    if module.padding_idx is not None:
        seen[module.padding_idx] = True
    if seen.mean() > WORTH:
        return f"{seen.sum():,} of its {len(seen):,} rows occur in training"
    return SparseTable(model, module.weight, np.flatnonzero(seen))


def fault(model: nn.Module, module: Any) -> str | None:
    """Why the rows of an embedding module cannot stand apart; None where they can."""
    if not plain(module):
        return f"{type(module).__name__} looks rows up in a way of its own"
    if not module.weight.requires_grad:
        return "it does not learn"
    sharing: Sequence[nn.Module] = [other for other in model.modules() if any(own is module.weight for own in other._parameters.values())]
    different = next((type(other).__name__ for other in sharing if not plain(other)), None)
    return f"it is tied to the output ({different}), whose gradient falls on every row" if different else None


def plain(module: Any) -> bool:
    """Whether a module looks up rows of its weight and does nothing else."""
    usual = type(module).forward is nn.Embedding.forward and "forward" not in vars(module)
    return usual and module.max_norm is None and not module.sparse and not module.scale_grad_by_freq
