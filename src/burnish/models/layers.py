"""A smaller model made of some of a larger one's blocks, with their weights: the usual beginning of a distilled student.

DistilBERT starts from every second block of its teacher (Sanh et al. 2019, arXiv:1910.01108, section 3); such a start learns far
faster than a random one, because a residual stack loses only part of what it computes when a block is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from burnish.core.errors import ModelError, count
from burnish.models.blocks import block_lists

if TYPE_CHECKING:
    from torch import nn

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "num_encoder_layers")
DECODER_COUNTS = ("num_decoder_layers", "decoder_layers")
"""Where configurations say how many blocks a stack has; the second where a model has an encoder and a decoder."""
NUMBERS = ("layer_idx", "layer_id")
"""What blocks and what is in them call their number, by which they find their part of the cache of keys and values."""

Layers = int | Sequence[int]


def evenly(number: int, total: int) -> list[int]:
    """`number` of `total` blocks, evenly spread, the first and the last among them: round(i (L - 1) / (n - 1))."""
    if number == 1:
        return [0]
    return [round(index * (total - 1) / (number - 1)) for index in range(number)]


def keep_blocks(model: Any, wanted: Layers, fresh: Sequence[str] = ()) -> list[str]:
    """Leaves only the `wanted` blocks (a number, or places counted from 0) in each stack of `model`; everything else stays.

    The configuration follows, so that the saved model is an ordinary, smaller one. Returns what the parameters `fresh` are called
    now. Raises ModelError where a block is not there, or where this architecture cannot be made smaller in this way.
    """
    stacks = block_lists(model)
    name = type(model).__name__
    if not stacks:
        raise ModelError(f"`model.layers`: {name} has no list of equal blocks to choose from.")
    chosen = {stack: places(wanted, len(blocks)) for stack, blocks in stacks}
    for number, (stack, blocks) in enumerate(stacks):
        alone = len(stacks) == 1
        shorten_configs(
            model, stack, len(blocks), chosen[stack], (*COUNTS, *DECODER_COUNTS) if alone else (COUNTS, DECODER_COUNTS)[number > 0]
        )
        cut(model, stack, blocks, chosen[stack])
    require_same_shape(model)
    renamed = [moved(parameter, chosen) for parameter in fresh]
    return [parameter for parameter in renamed if parameter is not None]


def places(wanted: Layers, total: int) -> list[int]:
    """Which of `total` blocks are kept. Raises ModelError where there are not that many."""
    kept = evenly(wanted, total) if isinstance(wanted, int) and wanted <= total else wanted
    if isinstance(kept, int) or max(kept) >= total:
        raise ModelError(f"`model.layers`: {wanted} asks for more than there is: the model has {count(total, 'block')} (0 to {total - 1}).")
    return list(kept)


def shorten_configs(model: Any, stack: str, total: int, kept: list[int], names: Sequence[str]) -> None:
    """Sets the number of blocks, and what is listed block by block, in the configurations of the modules around a stack.

    An encoder-decoder's own configuration has a field for each stack (`names`); a stack with a configuration of its own (T5) says
    its number under any of the names.
    """
    done = set()
    parts = stack.split(".")
    for depth in range(len(parts)):
        config = getattr(model.get_submodule(".".join(parts[:depth])), "config", None)
        if config is None or id(config) in done:
            continue
        done.add(id(config))
        for field, value in config.to_dict().items():
            known = names if config is model.config else (*COUNTS, *DECODER_COUNTS)
            if field in known and value == total:
                setattr(config, field, len(kept))
            elif isinstance(value, list) and "layer" in field and len(value) == total:
                setattr(config, field, [value[place] for place in kept])


def cut(model: nn.Module, stack: str, blocks: nn.ModuleList, kept: list[int]) -> None:
    """Puts a list of the kept blocks in the place of all; each learns its new number."""
    from torch import nn

    hand_over_positions(blocks[0], blocks[kept[0]])
    parent, _, own = stack.rpartition(".")
    setattr(model.get_submodule(parent), own, nn.ModuleList([blocks[place] for place in kept]))
    for number, place in enumerate(kept):
        for module in blocks[place].modules():
            for name in NUMBERS:
                if isinstance(getattr(module, name, None), int):
                    setattr(module, name, number)


def hand_over_positions(before: nn.Module, now: nn.Module) -> None:
    """The first block of a T5 holds the relative positions for all: a new first block takes them over."""
    if before is now:
        return
    for name, module in before.named_modules():
        if getattr(module, "has_relative_attention_bias", False):
            heir: Any = now.get_submodule(name)
            heir.has_relative_attention_bias = True
            heir.relative_attention_bias = module.relative_attention_bias


def require_same_shape(model: Any) -> None:
    """Raises ModelError unless the configuration alone would give a model with exactly these weights."""
    import torch

    try:
        with torch.device("meta"):
            again = type(model)(type(model.config).from_dict(model.config.to_dict()))
        wanted = {name: tensor.shape for name, tensor in again.state_dict().items()}
        different = sorted(wanted.keys() ^ model.state_dict().keys())
        reason = f"{different[0]} would differ" if different else None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        reason = str(error)
    if reason is not None:
        raise ModelError(
            f"`model.layers`: {type(model).__name__} with these blocks cannot be written as an ordinary model ({reason}). "
            "Keep its first block, or take all of them."
        )


def moved(parameter: str, chosen: dict[str, list[int]]) -> str | None:
    """What a parameter is called now; None where its block was left out."""
    for stack, kept in chosen.items():
        if parameter.startswith(stack + "."):
            place, _, rest = parameter.removeprefix(stack + ".").partition(".")
            return f"{stack}.{kept.index(int(place))}.{rest}" if int(place) in kept else None
    return parameter
