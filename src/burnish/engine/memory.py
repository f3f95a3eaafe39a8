"""Less memory for the same result: blocks that are computed again in backward, and what waits in the CPU's memory meanwhile.

Nothing here changes a bit of what is learned, dropout included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from burnish.core.errors import ModelError
from burnish.engine.runtime import Runtime


class Recomputed:
    """The forward of a block that keeps its inputs only, and is computed again when its gradient is due.

    Memory of a deep model falls from all that its blocks compute to one hidden state a block, for a third more computation. Dropout
    draws the same again. Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174, section 4.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block, self.forward = block, block.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self.block.training and torch.is_grad_enabled()):
            return self.forward(*args, **kwargs)
        # A cache of keys and values would be written to twice; training has no use for one.
        kept = [uncached(value) for value in args]
        named: dict[str, Any] = {name: False if name == "use_cache" else uncached(value) for name, value in kwargs.items()}
        # Keyed dropout counts how often a place was gone through: the second computation has to count like the first.
        passage = getattr(self.block, "passage", None)
        around = noop_context_fn if passage is None else passage.computed_twice
        return checkpoint(self.forward, *kept, use_reentrant=False, context_fn=around, **named)


def uncached(value: Any) -> Any:
    """None for transformers' caches of keys and values, anything else as it is. Raises ModelError for a cache that holds something."""
    if not hasattr(value, "get_seq_length"):
        return value
    if value.get_seq_length() > 0:
        raise ModelError(
            "train.checkpoint_blocks: this method keeps what it learns in the cache of keys and values (prefix tuning). Say null."
        )
    return None


def caching(model: nn.Module) -> list[Any]:
    """The configurations by which parts of a model keep keys and values, each once."""
    configs: Iterator[Any] = (getattr(module, "config", None) for module in model.modules())
    return list({id(config): config for config in configs if hasattr(config, "use_cache")}.values())


@contextmanager
def uncached_by(configs: Sequence[Any]) -> Iterator[None]:
    """Within, decoders keep no keys and values of their own accord: only writing needs them, and they cost memory and time.

    What a method hands in as a cache (prefixes) is still read. The setting is put back, for it is saved with the model.
    """
    changed = [config for config in configs if config.use_cache is True]
    try:
        for config in changed:
            config.use_cache = False
        yield
    finally:
        for config in changed:
            config.use_cache = True


def uncaching(model: nn.Module) -> AbstractContextManager[None]:
    """The same by the configurations that a model has now."""
    return uncached_by(caching(model))


def recompute_blocks(model: nn.Module, blocks: Sequence[str], every: int) -> list[str]:
    """Lets the first of each `every` blocks be computed again in backward, and names them. A method may have hung the model into another."""
    chosen = set(blocks[::every])
    found = [name for name, _ in model.named_modules() if any(name == block or name.endswith("." + block) for block in chosen)]
    for name in found:
        block = model.get_submodule(name)
        block.forward = Recomputed(block)
    return found


def offloaded(runtime: Runtime) -> AbstractContextManager[object]:
    """Within, what a forward pass keeps for backward waits in the CPU's memory (pinned, where a GPU computes)."""
    return torch.autograd.graph.save_on_cpu(pin_memory=runtime.device.type == "cuda")


class OnHost:
    """An optimizer whose state lives, and whose update is computed, in the CPU's memory.

    Weights and gradients are copied there, moved, and the weights copied back: AdamW's two moments (twice the weights) take no GPU memory.
    Ren et al. 2021, "ZeRO-Offload", arXiv:2101.06840. The copies of the weights are made anew at each step, so that whatever else
    changes the weights (a checkpoint that is loaded) is seen. Stands where an optimizer stands: groups, state, step.
    """

    def __init__(self, build: Callable[[list[dict[str, Any]]], torch.optim.Optimizer], groups: list[dict[str, Any]]) -> None:
        self.param_groups = groups
        self.copies = {p: nn.Parameter(on_host(p)) for group in groups for p in group["params"]}
        self.inner = build([{**group, "params": [self.copies[p] for p in group["params"]]} for group in groups])
        # What the optimizer filled in (betas and the like) is in view outside too, where techniques may change it.
        for group, own in zip(groups, self.inner.param_groups, strict=True):
            group |= {name: value for name, value in own.items() if name != "params"}

    @torch.no_grad()
    def step(self) -> None:
        """Moves every parameter that has a gradient."""
        whole = self.inner.param_groups
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        for parameter in moved:
            copy = self.copies[parameter]
            copy.copy_(parameter)
            copy.grad = parameter.grad.to("cpu")
        self.inner.param_groups = [
            {**group, "params": [self.copies[p] for p in group["params"] if p.grad is not None]} for group in self.param_groups
        ]
        try:
            self.inner.step()
        finally:
            self.inner.param_groups = whole
        for parameter in moved:
            copy = self.copies[parameter]
            parameter.copy_(copy)
            copy.grad = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state)

    @property
    def state(self) -> Any:
        return self.inner.state


def on_host(parameter: torch.Tensor) -> torch.Tensor:
    """A place for its copy in the CPU's memory, pinned where a GPU will read it."""
    return torch.empty_like(parameter, device="cpu", pin_memory=parameter.device.type == "cuda").copy_(parameter.detach())
