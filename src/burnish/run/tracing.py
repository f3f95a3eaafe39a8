"""What a forward pass keeps for backward, counted by autograd itself on a model without numbers.

Every tensor that an operation saves is seen by a hook, and its storage counted once; parameters, which are there anyway, are not. So any
architecture and any method is counted as it is, on torch's meta device: no memory, seconds for 80 blocks. What Burnish computes in a way
of its own has stand-ins: attention within texts, dropout that keeps a byte an element.

Legend: B examples, T tokens, H heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from burnish.core.protocols import Anatomy
from burnish.models.fast.layout import Layout
from burnish.models.load import quiet
from burnish.plan.work import LARGE, Kept

NAME = "burnish-traced"
"""What the stand-in for attention is registered as."""


class Standing(torch.autograd.Function):
    """An operation of which only counts what it keeps: `kept` tensors, and an output like the first."""

    @staticmethod
    def forward(ctx: Any, *kept: torch.Tensor) -> torch.Tensor:
        found = torch.empty_like(kept[0])
        ctx.save_for_backward(*kept, found)
        return found


class Spreading(torch.autograd.Function):
    """The same, where of three inputs copies are kept and not themselves."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *copies: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*copies)
        return torch.empty_like(query)


class Dropped(torch.autograd.Function):
    """Dropout that keeps one byte an element."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(torch.empty(x.shape, dtype=torch.bool, device=x.device))
        return torch.empty_like(x)


@dataclass(frozen=True)
class Attending:
    """How the texts of a micro-batch attend: padded blocks of `spread` positions in all, with `cells` (the sum of b Q T) weights a head.

    `packed` says whether texts stand one after another: they are spread out into groups of like length where `padding` makes that needed.
    """

    packed: bool
    spread: int
    cells: int
    padding: bool

    @classmethod
    def of(cls, lengths: Sequence[int], packed: bool) -> Attending:
        """As `models.fast.layout` groups them, longest first."""
        if not packed:
            return cls(False, len(lengths) * max(lengths), len(lengths) * max(lengths) ** 2, True)
        ordered = sorted(lengths, reverse=True)
        layout = Layout(ordered, max(ordered), range(len(ordered)), torch.device("cpu"), None)
        groups = [[ordered[one] for one in group] for group in layout.groups]
        blocks = [(len(group), max(group)) for group in groups]
        padding = any(min(group) != max(group) for group in groups)
        return cls(
            True, sum(number * longest for number, longest in blocks), sum(number * longest**2 for number, longest in blocks), padding
        )


class Attention:
    """Attention as transformers' interface calls it, keeping what Burnish's own or torch's would.

    Queries, keys, values and output; where texts are spread out for it, these as padded blocks. Where weights are dropped, the weights and
    a byte for each; in torch's own function (of padded texts, or with a bias that learns) three times the weights, and scaled copies of
    queries and keys beside them.
    """

    def __init__(self, attending: Attending) -> None:
        self.attending = attending

    def __call__(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        dropout: float = 0.0,
        **asked: Any,
    ) -> tuple[torch.Tensor, None]:
        how, heads = self.attending, query.shape[1]
        biased = attention_mask is not None and attention_mask.requires_grad

        def empty(*sizes: int, dtype: torch.dtype = query.dtype) -> torch.Tensor:
            return torch.empty(sizes, device=query.device, dtype=dtype)

        # Of cross-attention, whose sides differ, as many weights as it has.
        same = query.shape[2] == key.shape[2]
        cells = heads * (how.cells if same else query.shape[0] * query.shape[2] * key.shape[2])
        if how.packed and dropout:
            beside = [empty(cells, dtype=torch.float32), empty(cells, dtype=torch.bool)]
        elif dropout or biased:
            beside = [*(empty(cells) for _ in range(3 if dropout else 1)), torch.empty_like(query), torch.empty_like(key)]
        elif how.packed and how.padding:
            widths = (query.shape[1] * query.shape[3], 2 * key.shape[1] * key.shape[3], query.shape[1] * query.shape[3])
            beside = [empty(how.spread, width) for width in widths]
            spread: torch.Tensor = Spreading.apply(query, key, value, *beside)
            return spread.transpose(1, 2), None
        else:
            beside = []
        found: torch.Tensor = Standing.apply(query, key, value, *beside)
        return found.transpose(1, 2), None


def trace(model: nn.Module, anatomy: Anatomy, inputs: dict[str, torch.Tensor], attending: Attending, keyed: bool) -> Kept:
    """What `model`, on the meta device, keeps of one micro-batch. `keyed` dropout keeps a byte an element, torch's own as much as it does."""
    seen: dict[int, tuple[torch.UntypedStorage, int]] = {}
    place = [0]
    own = {storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    entered: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        which = storage(tensor)
        if which not in own and which not in seen:
            seen[which] = tensor.untyped_storage(), place[0]
        return tensor

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        hidden = next((one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)), None)
        entered.append(0 if hidden is None else hidden.untyped_storage().nbytes())
        place[0] = len(entered)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        place[0] = -1

    named = dict(model.named_modules())
    blocks = [
        next(module for own_name, module in named.items() if own_name == name or own_name.endswith("." + name))
        for name in anatomy.block_modules
    ]
    with standing_in(model, Attention(attending), keyed), quiet():
        hooks = [
            hook
            for block in blocks
            for hook in (block.register_forward_pre_hook(enter, with_kwargs=True), block.register_forward_hook(leave))
        ]
        try:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                output = model(**inputs, use_cache=False) if takes_cache(model) else model(**inputs)
        finally:
            for hook in hooks:
                hook.remove()
    del output
    sizes = [0] * len(entered)
    below = above = 0
    for held, at in seen.values():
        if at > 0:
            sizes[at - 1] += held.nbytes()
        elif at == 0:
            below += held.nbytes()
        else:
            above += held.nbytes()
    positions = sum(tensor.numel() for name, tensor in inputs.items() if name.endswith("input_ids"))
    large = sum(held.nbytes() for held, _ in seen.values() if held.nbytes() >= LARGE)
    return Kept(positions, below, tuple(sizes), tuple(entered), above, large)


def storage(tensor: torch.Tensor) -> int:
    """Which memory a tensor would lie in."""
    return int(tensor.untyped_storage()._cdata)


def takes_cache(model: Any) -> bool:
    """Whether a model would keep keys and values of its own accord."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner.config, "use_cache", None) is not None and inner.get_output_embeddings() is not None and decodes(inner)


def decodes(inner: Any) -> bool:
    """Whether a model writes one token after another."""
    return bool(inner.can_generate())


@contextmanager
def standing_in(model: Any, attention: Attention, keyed: bool) -> Iterator[None]:
    """Within, the model is in training, and attention and dropout are their stand-ins; afterwards everything is as it was."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    before, training = inner.config._attn_implementation, model.training
    dropouts = [
        module for module in model.modules() if keyed and type(module) is nn.Dropout and module.p > 0 and "forward" not in vars(module)
    ]
    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    try:
        with quiet():
            inner.set_attn_implementation(NAME)
        for module in dropouts:
            module.forward = Dropped.apply  # type: ignore[method-assign]
        model.train()
        yield
    finally:
        for module in dropouts:
            del module.forward
        inner.set_attn_implementation(before)
        model.train(training)


def shaped(lengths: Sequence[int], packed: bool, two_sided: Sequence[int] | None) -> dict[str, torch.Tensor]:
    """Inputs without numbers that take as many positions as a micro-batch of these lengths: of one length, where it is packed. For a
    model of two sides `two_sided` holds what of each length the encoder reads."""
    number = len(lengths)

    def ids(longest: int) -> torch.Tensor:
        return torch.zeros(number, longest, dtype=torch.long, device="meta")

    def longest(sizes: Sequence[int]) -> int:
        return -(-sum(sizes) // number) if packed else max(sizes)

    if two_sided is None:
        return {"input_ids": ids(longest(lengths))}
    targets = [length - source for length, source in zip(lengths, two_sided, strict=True)]
    return {"input_ids": ids(longest(two_sided)), "decoder_input_ids": ids(longest(targets))}
