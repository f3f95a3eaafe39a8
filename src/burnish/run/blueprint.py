"""The matrices of a model, counted on the model itself: what the formulas of operations are fed with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from burnish.core.protocols import Anatomy
from burnish.core.sizes import elements
from burnish.plan.flops import Block, Network

KEYS = ("key", "k_proj", "k_lin", "value", "v_proj", "v_lin", ".k.", ".v.")
"""Parts of the names of matrices that make keys and values; where one makes queries as well, it is a FUSED one."""

FUSED = ("c_attn", "query_key_value", "qkv")
QUERIES = ("query", "q_proj", "q_lin", ".q.")
NORMED_AFTER = ("output.LayerNorm", "output_layer_norm", "final_layer_norm", "full_layer_layer_norm")
"""Norms that end a block. Blocks without one end in a sum, and begin with a norm, below which nothing needs a gradient but what it learns."""

CROSSED = ("EncDecAttention", "encoder_attn", "crossattention")


def blueprint(model: torch.nn.Module, anatomy: Anatomy, settings: Mapping[str, Any]) -> Network:
    """The network of a model with its method applied; `settings` are those of `Network` that its matrices do not tell."""
    tables = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    counted: dict[str, dict[str, int]] = {}
    own = {name for names in (*anatomy.blocks, anatomy.head) for name in names}
    below, head, head_learning = False, 0, 0
    after = any(norm in name for norm in NORMED_AFTER for names in anatomy.blocks for name in names) and not before_norm(model.config)
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        plain, role = anatomy.own_name(name), anatomy.role(name)
        if role == "embeddings":
            below |= parameter.requires_grad
        if role.startswith("block") and parameter.ndim == 1 and parameter.requires_grad and not after:
            counted.setdefault(role, {})["normed"] = 1
        if (parameter.ndim < 2 and not hasattr(parameter, "quant_state")) or name.rpartition(".")[0] in tables:
            continue
        size, learns = elements(parameter), parameter.requires_grad
        if role == "head":
            head, head_learning = head + size, head_learning + size * learns
        elif role != "embeddings":
            last = not after and any(plain.startswith(module + ".") for module in anatomy.feed_forward_outputs)
            enter(counted.setdefault(role, {}), plain, size, learns, plain in own, last)
    blocks = [block_of(counted.get(f"block {number + 1}", {}), name) for number, name in enumerate(anatomy.block_modules)]
    head, head_learning = with_tied(model, head, head_learning)
    return Network(blocks, attention_width(model.config), head, head_learning, below=below, **settings)


def enter(counted: dict[str, int], name: str, size: int, learns: bool, own: bool, last: bool) -> None:
    """Adds a matrix of a block to what it is for."""

    def add(what: str, number: int) -> None:
        counted[what] = counted.get(what, 0) + number

    keys = size * 2 // 3 if any(part in name for part in FUSED) else size if any(part in name for part in KEYS) else 0
    enters = bool(keys) or any(part in name for part in QUERIES)
    if not own:
        add("added", size)
        add("added_keys", keys)
        add("added_entry", size if enters and "lora_A" in name else 0)
        return
    if keys and any(part in name for part in CROSSED):
        add("crossed", size)
        add("crossed_learning", size * learns)
        return
    add("own", size)
    add("learning", size * learns)
    add("keys", keys)
    add("entry", size if enters else 0)
    add("exit", size if last else 0)


def block_of(counted: Mapping[str, int], name: str) -> Block:
    found = {"own": 0, "learning": 0, **counted}
    if found.pop("normed", 0):
        found["entry"] = found["added_entry"] = 0
    return Block(**found, decoder="decoder." in f"{name}." and "crossed" in counted)


def with_tied(model: Any, head: int, learning: int) -> tuple[int, int]:
    """Numbers of the head, and those that learn, with those of a table of tokens that is its output as well."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    output, table = inner.get_output_embeddings(), inner.get_input_embeddings()
    weight = getattr(output, "weight", None)
    if weight is None or not (weight is getattr(table, "weight", None) or inner.config.get_text_config().tie_word_embeddings):
        return head, learning
    learns = any(parameter.requires_grad for parameter in (*output.parameters(), *table.parameters()))
    return head + elements(weight), learning + elements(weight) * learns


def attention_width(config: Any) -> int:
    """A: heads times the width of each."""
    text = config.get_text_config()
    names = ("num_attention_heads", "n_head", "n_heads", "num_heads")
    heads = next(int(getattr(text, name)) for name in names if getattr(text, name, None))
    width = getattr(text, "head_dim", None) or getattr(text, "d_kv", None) or int(text.hidden_size) // heads
    return heads * int(width)


def two_sided(model: Any) -> bool:
    """Whether a decoder looks at an encoder."""
    return bool(model.config.is_encoder_decoder)


def before_norm(config: Any) -> bool:
    """Whether an architecture that can do both puts its norms before what they feed (OPT)."""
    return bool(getattr(config, "do_layer_norm_before", False))
