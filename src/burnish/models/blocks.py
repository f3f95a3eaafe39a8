"""Finds embeddings, blocks and head in any transformers model, by structure and not by name."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy

BELOW = {"layernorm_embedding", "embeddings_layer_norm"}
"""Modules that stand after the blocks in the order of parameters and before them in the computation (BART and its kin, ProphetNet)."""

ABOVE = {"final_layer_norm", "project_out"}
"""The other way round (OPT, whose smaller models bring hidden states back to the width of their embeddings)."""

ATTENTION = re.compile(r"att(?:n|ention)", re.IGNORECASE)
"""In the name of every module that attends, whatever the architecture calls it (attention, self_attn, SelfAttention, encoder_attn)."""


def anatomy(model: Any) -> Anatomy:
    """Where a model keeps its parts.

    Blocks are the outermost lists of equal modules; an encoder's come before its decoder's. What lies below them (and every
    embedding table) is embeddings; what stands above the last block (final norm, pooler, classifier, an output that shares no
    weights) is the head. What closes an encoder, below a decoder, goes with the encoder's last block. A parameter that two modules
    share counts once, under its first name: an output that is tied to the embeddings is embeddings.
    """
    lists = block_lists(model)
    if not lists:
        raise ModelError(f"{type(model).__name__} has no list of equal blocks: its parts cannot be told apart.")
    prefixes = [f"{name}.{index}." for name, blocks in lists for index in range(len(blocks))]
    tables = tuple(embedding_prefixes(model, [name for name, _ in lists]))
    parameters = [name for name, _ in model.named_parameters()]
    owner = {name: next((prefix for prefix in prefixes if name.startswith(prefix)), None) for name in parameters}
    stacks = [[index for index, name in enumerate(parameters) if name.startswith(listed + ".")] for listed, _ in lists]
    first, last = stacks[0][0], max(stack[0] for stack in stacks if stack)
    beside = [name for (listed, _), stack in zip(lists, stacks, strict=True) for name in after_a_table(parameters, listed, stack, tables)]
    below: list[str] = []
    above: list[str] = []
    for index, name in enumerate(parameters):
        if owner[name] is not None:
            continue
        if name in beside or is_below(model, name, index < first, tables):
            below.append(name)
        elif first < index < last:
            owner[name] = next(owner[before] for before in reversed(parameters[:index]) if owner[before] is not None)
        else:
            above.append(name)
    return Anatomy(
        embeddings=below,
        blocks=[[name for name in parameters if owner[name] == prefix] for prefix in prefixes],
        head=above,
        block_modules=[prefix.removesuffix(".") for prefix in prefixes],
        linears=[name for name, module in model.named_modules() if is_linear(module) and name.startswith(tuple(prefixes))],
        head_modules=outermost(model, set(above)),
        attention_outputs=[name for prefix in prefixes for name in part_outputs(model, prefix, attention=True)],
        feed_forward_outputs=[name for prefix in prefixes for name in part_outputs(model, prefix, attention=False)],
    )


def part_outputs(model: Any, block: str, attention: bool) -> list[str]:
    """The linear layers that bring a block's attention (each of them, where it has a second one over the encoder), or its feed-forward
    part, back to the width of the block, which the residual sum follows.

    The last of each that is so wide, for some classes list a part's layers in another order than that in which they are computed
    (Phi-3, MobileBERT). A single layer is no attention, whatever its name (it may feed one).
    """
    parts: dict[str, list[str]] = {}
    within = block.removesuffix(".")
    for name, module in model.get_submodule(within).named_modules(prefix=within):
        if not is_linear(module):
            continue
        steps = name.removeprefix(block).split(".")
        depth = next((at for at, step in enumerate(steps) if ATTENTION.search(step)), None)
        if (depth is not None) == attention:
            parts.setdefault(".".join(steps[: depth + 1]) if depth is not None else "", []).append(name)
    width = getattr(getattr(model, "config", None), "hidden_size", None)
    whole = [names for names in parts.values() if len(names) > 1 or not attention]
    return [next((name for name in reversed(names) if out_width(model.get_submodule(name)) == width), names[-1]) for names in whole]


def out_width(layer: Any) -> int:
    """What a linear layer puts out; GPT-2's Conv1D calls it nf."""
    return int(getattr(layer, "out_features", 0) or layer.nf)


def after_a_table(parameters: list[str], listed: str, stack: list[int], tables: tuple[str, ...]) -> list[str]:
    """What follows an embedding table that a stack keeps behind its blocks: made of that table, or used from the first block on (the norm
    of DeBERTa's relative positions, its convolution), and no head."""
    own = [name for name in parameters[stack[-1] + 1 :] if name.startswith(listed.rpartition(".")[0] + ".")] if stack else []
    return own[next((place for place, name in enumerate(own) if name.startswith(tables)), len(own)) :]


def is_below(model: Any, name: str, first: bool, tables: tuple[str, ...]) -> bool:
    """Whether a parameter outside the blocks is computed before them; `first` says whether it stands before them.

    What stands beside the base model is a head, wherever its class puts it (XLM-RoBERTa makes it first), but not the matrix that it
    shares with an embedding table.
    """
    base = getattr(model, "base_model_prefix", "")
    beside = bool(base) and hasattr(model, base) and not name.startswith(base + ".")
    module = name.rpartition(".")[0].rpartition(".")[2]
    if name.startswith(tables) or module in BELOW:
        return True
    if beside and any(model.get_parameter(name) is table.weight for table in model.modules() if isinstance(table, nn.Embedding)):
        return True
    return first and not beside and module not in ABOVE


def block_lists(model: nn.Module) -> list[tuple[str, nn.ModuleList]]:
    """The outermost ModuleLists of modules of one class, without small side lists."""
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        nested = any(name.startswith(outer + ".") for outer, _ in found)
        if isinstance(module, nn.ModuleList) and not nested and size(module) > 0 and len({type(block) for block in module}) == 1:
            found.append((name, module))
    largest = max((size(blocks) for _, blocks in found), default=0)
    return [(name, blocks) for name, blocks in found if size(blocks) * 10 >= largest]


def embedding_prefixes(model: nn.Module, lists: list[str]) -> list[str]:
    """Prefixes of the embedding tables, each widened to the largest module around it that holds no blocks."""
    prefixes = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Embedding) or any(name.startswith(blocks + ".") for blocks in lists):
            continue
        while "." in name:
            parent = name.rpartition(".")[0]
            if any(blocks.startswith(parent + ".") for blocks in lists):
                break
            name = parent
        prefixes.append(name + ".")
    return prefixes


def outermost(model: nn.Module, names: set[str]) -> list[str]:
    """The largest modules whose parameters are all among `names`."""
    chosen: list[str] = []
    for name, module in model.named_modules():
        owned = [f"{name}.{inner}" for inner, _ in module.named_parameters()]
        inside = any(name.startswith(outer + ".") for outer in chosen)
        if name and owned and not inside and all(parameter in names for parameter in owned):
            chosen.append(name)
    return chosen


def is_linear(module: nn.Module) -> bool:
    """Linear layers, and GPT-2's Conv1D, which is one with its weight transposed."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
