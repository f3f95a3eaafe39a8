"""Dropout by place: which share of the values is dropped at the head, in attention, in the blocks, at the embeddings.

In training each value is set to 0 with probability p and the others are divided by 1 - p, so that what is expected stays the same;
in evaluation nothing happens. Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".

Architectures keep their probabilities in modules (BERT), in plain numbers that their forward pass reads (Llama, BART), or have none at
a place (Llama's feed-forward): there a hook drops. Hooks are no part of a saved model, and its configuration keeps the values that it
was pretrained with. Imports no torch, for the recipe does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import CodeType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from burnish.core.errors import ModelError, count
from burnish.core.protocols import Anatomy
from burnish.core.spec import Spec
from burnish.models.frozen import first_stack, frozen_blocks, hold_still

if TYPE_CHECKING:
    from torch import nn

Probability = Annotated[float, Field(ge=0, lt=1)]
NAMED = re.compile(r"(^|_)p?drop(out)?(_p|_prob|_rate)?$")
"""How architectures call a probability of dropout, and not that of skipping a whole layer (layerdrop)."""
BESIDE = re.compile(r"^out|resid|hidden|^pos_")
"""Dropouts of an attention module that are not those of its probabilities: on its output, on relative positions."""


class LastBlocks(Spec):
    """The blocks nearest to the head, where what is learned is most easily learned by heart."""

    blocks: int = Field(ge=1)
    """How many, counted from the top (a decoder's before its encoder's); 1 to 4."""

    p: Probability
    """Probability in their attention and feed-forward; 0.1 to 0.5."""


class Dropout(Spec):
    """How much is dropped in training, by place; what is not named stays as the model has it.

    More of it helps where rows are few and the training loss falls far below the validation loss; less where the model cannot even
    learn the training rows, and in LoRA, which leaves little to overfit.
    """

    all: Probability | None = None
    """Probability at every place that is not named itself, as far as the model has it; 0 to 0.3."""

    head: Probability | None = None
    """Probability before the last layer (the classifier, or what gives each token's score); 0 to 0.5."""

    attention: Probability | None = None
    """Probability that one token does not look at another; 0 to 0.2."""

    feed_forward: Probability | None = None
    """Probability inside the blocks, on what attention and feed-forward give; 0 to 0.3."""

    embeddings: Probability | None = None
    """Probability on the embeddings (in a T5 also on what leaves each stack, which goes through the same module); 0 to 0.2."""

    last: LastBlocks | None = None
    """Another probability in the last blocks, such as {blocks: 2, p: 0.3}."""

    frozen: bool = False
    """Whether the lowest blocks drop values too where nothing learns in them or below: noise that only hides what they know."""


PLACES = ("head", "attention", "feed_forward", "embeddings")


@dataclass
class Switch:
    """One probability: the attribute `name` of `owner`, and where it acts (`block` counts from 0, None outside of blocks)."""

    place: str
    block: int | None
    owner: Any
    name: str

    @property
    def probability(self) -> float:
        return float(getattr(self.owner, self.name))

    @probability.setter
    def probability(self, value: float) -> None:
        setattr(self.owner, self.name, value)


@dataclass
class Dropping:
    """Drops where an architecture has no dropout of its own, as a hook of a module; `draw` does so in place of torch's own dropout."""

    p: float = 0.0
    draw: Callable[[Any, float], Any] | None = None

    def __call__(self, module: nn.Module, found: Any) -> Any:
        """The tensor, or the first of several, with values dropped while `module` is training."""
        import torch.nn.functional as F

        if not module.training or self.p == 0:
            return found
        if isinstance(found, tuple):
            return (self(module, found[0]), *found[1:])
        return F.dropout(found, self.p) if self.draw is None else self.draw(found, self.p)

    def output(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        return self(module, output)


@dataclass
class Dropouts:
    """Every probability of dropout in a model, to be read and turned while it trains; `own` are those that it began with.

    The lowest `still` blocks, and the embeddings below them, drop nothing, for nothing learns there.
    """

    switches: Sequence[Switch]
    still: int = 0
    own: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.own = [switch.probability for switch in self.switches]

    @property
    def least(self) -> float | None:
        """The smallest of the probabilities that the model began with; None where it has none at all."""
        return min(self.own, default=None)

    def told(self) -> str:
        """The probabilities of each place, in words."""
        found = {place: sorted({switch.probability for switch in self.switches if switch.place == place}) for place in PLACES}
        ends = {place: dict.fromkeys((values[0], values[-1])) for place, values in found.items() if values}
        told = [f"{place} {' to '.join(f'{value:g}' for value in values)}" for place, values in ends.items()]
        return ", ".join(
            [*told, *([f"none in the lowest {count(self.still, 'block')} and below, where nothing learns"] if self.still else [])]
        )

    def raise_by(self, amount: float, most: float) -> None:
        """Every probability becomes what it was at first plus `amount`, but not more than `most` (or than it was)."""
        for switch, own in zip(self.switches, self.own, strict=True):
            switch.probability = min(own + amount, max(own, most))


def place_dropout(model: Any, anatomy: Anatomy, spec: Dropout) -> Dropouts:
    """Sets what `spec` names, and gives all probabilities of the model.

    `model` may already be wrapped by its method. Raises ModelError where there is nothing to drop at a place that is named.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    switches = list(find(inner, anatomy))
    for place in PLACES:
        wanted = getattr(spec, place)
        if wanted is None and spec.all is None:
            continue
        chosen = [switch for switch in switches if switch.place == place]
        if not chosen:
            chosen = hooked(inner, anatomy, place, range(len(anatomy.block_modules)))
            switches += chosen
        if not chosen and wanted is not None:
            raise ModelError(missing(inner, place))
        for switch in chosen:
            switch.probability = float(spec.all or 0) if wanted is None else wanted
    if spec.last is not None:
        switches += set_last(inner, anatomy, spec.last, switches)
    blocks = 0 if spec.frozen else frozen_blocks(model, anatomy)
    return Dropouts(stilled(inner, anatomy, switches, blocks) if blocks else switches, blocks)


def stilled(model: Any, anatomy: Anatomy, switches: Sequence[Switch], blocks: int) -> list[Switch]:
    """Lets nothing be dropped in the lowest `blocks` and in the embeddings below them; gives the switches that are left.

    Of an encoder-decoder these are the encoder's: its decoder's embeddings keep their dropout.
    """
    hold_still(model, anatomy, blocks)
    others = {name.rpartition(".")[0].rpartition(".")[0] for name in anatomy.block_modules[first_stack(anatomy) :]}
    elsewhere = {id(module) for name in others for module in model.get_submodule(name).modules()}
    left = []
    for switch in switches:
        if switch.place == "embeddings" and id(switch.owner) not in elsewhere:
            switch.probability = 0.0
        elif switch.block is None or switch.block >= blocks:
            left.append(switch)
    return left


def set_last(model: Any, anatomy: Anatomy, last: LastBlocks, switches: Sequence[Switch]) -> list[Switch]:
    """Sets the probabilities of the last blocks, and gives those that had to be made for it."""
    blocks = len(anatomy.block_modules)
    if last.blocks > blocks:
        raise ModelError(f"`dropout.last`: {type(model).__name__} has {count(blocks, 'block')}, not {last.blocks}.")
    chosen = range(blocks - last.blocks, blocks)
    inside = [switch for switch in switches if switch.block in chosen]
    made = [] if any(switch.place == "feed_forward" for switch in inside) else hooked(model, anatomy, "feed_forward", chosen)
    for switch in [*inside, *made]:
        switch.probability = last.p
    return made


def find(model: nn.Module, anatomy: Anatomy) -> Iterator[Switch]:
    """The probabilities that an architecture has of its own, in modules and in numbers, but for those that nothing reads."""
    from torch import nn

    adapted = tuple(f"{name}." for name, module in model.named_modules() if hasattr(module, "base_layer"))
    for holder, module in model.named_modules():
        if adapted and f"{holder}.".startswith(adapted):
            continue  # an adapter's own dropout is its method's
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout) and (name.isdigit() or reads(module, name)):
                yield Switch(*where(model, anatomy, holder, name), child, "p")
        for name, value in vars(module).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and NAMED.search(name) and reads(module, name):
                yield Switch(*where(model, anatomy, holder, name), module, name)


def where(model: Any, anatomy: Anatomy, holder: str, name: str) -> tuple[str, int | None]:
    """The place of the probability `name` of the module `holder`, and the number of its block."""
    block = next((number for number, prefix in enumerate(anatomy.block_modules) if f"{holder}.".startswith(prefix + ".")), None)
    if block is not None:
        module = model.get_submodule(holder)
        probabilities = "attention" in type(module).__name__.lower() and projects(module) and not BESIDE.search(name)
        return ("attention" if probabilities else "feed_forward"), block
    prefix = getattr(model, "base_model_prefix", "")
    below = not hasattr(model, prefix or " ") or f"{holder}.".startswith(prefix + ".")
    head = any(f"{holder}.".startswith(module + ".") for module in anatomy.head_modules)
    return ("embeddings" if below and not head else "head"), None


def projects(module: nn.Module) -> bool:
    """Whether linear layers stand directly in a module: queries and keys are made here, not further inside."""
    return any(hasattr(child, "in_features") or type(child).__name__ == "Conv1D" for child in module.children())


def reads(module: nn.Module, name: str) -> bool:
    """Whether the class of a module reads the attribute outside of its constructor; some set one that has no effect."""
    cls: Any = type(module)
    return name in names_read(cls)


@cache
def names_read(cls: type) -> frozenset[str]:
    """Names in all methods of a model's class but its constructor and what every torch module has."""
    methods = (method for key, method in inspect.getmembers(cls, inspect.isfunction) if key != "__init__")
    own = (inspect.unwrap(method) for method in methods if not method.__module__.startswith("torch.nn.modules"))
    return frozenset().union(*(names_in(method.__code__) for method in own))


def names_in(code: CodeType) -> set[str]:
    """Names of attributes and globals in a function and in those within it."""
    inner = (names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def hooked(model: Any, anatomy: Anatomy, place: str, blocks: Sequence[int]) -> list[Switch]:
    """Makes dropout where an architecture has none of its own; empty where a hook cannot reach, as inside of attention."""
    made: list[Switch] = []

    def enter(hook: Callable[..., Any], register: Callable[..., Any], block: int | None) -> None:
        register(hook)
        made.append(Switch(place, block, getattr(hook, "__self__", hook), "p"))

    if place == "embeddings":
        enter(Dropping().output, model.get_input_embeddings().register_forward_hook, None)
    if place == "head" and (last := last_layer(model, anatomy)) is not None:
        enter(Dropping(), last.register_forward_pre_hook, None)
    if place == "feed_forward":
        for block in blocks:
            for branch in branches(model.get_submodule(anatomy.block_modules[block])):
                enter(Dropping().output, branch.register_forward_hook, block)
    return made


def last_layer(model: Any, anatomy: Anatomy) -> nn.Module | None:
    """What makes scores of hidden states: the output over the vocabulary, or the last matrix of the head."""
    output: nn.Module | None = model.get_output_embeddings()
    if output is not None:
        return output
    heads = [model.get_submodule(name) for name in anatomy.head_modules]
    return next((module for module in reversed(heads) if is_matrix(module)), None)


def branches(block: nn.Module) -> list[nn.Module]:
    """The parts of a block that are added to what flows through it: those with matrices (attention, feed-forward), not its norms."""
    return [child for child in block.children() if is_matrix(child)]


def is_matrix(module: nn.Module) -> bool:
    return any(parameter.dim() > 1 for parameter in module.parameters())


def missing(model: nn.Module, place: str) -> str:
    reason = {
        "attention": "the probabilities of its attention are dropped nowhere, and cannot be reached from outside",
        "head": "it has no layer above its blocks that it could stand before",
        "feed_forward": "its blocks have no parts that it could stand behind",
    }.get(place, "it has no such part")
    return f"`dropout.{place}`: {type(model).__name__} has no dropout there: {reason}. Leave it out, or take another place."
