"""Configurations of fresh models: small sizes where nothing is said, one name for each size in every family, the tokenizer's ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from burnish.core.errors import ModelError, listing, nearest

SIZES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "d_model", "n_embd", "dim", "emb_dim"),
    "num_hidden_layers": (
        "num_hidden_layers",
        "n_layer",
        "n_layers",
        "num_layers",
        "encoder_layers",
        "num_encoder_layers",
        "decoder_layers",
        "num_decoder_layers",
    ),
    "num_attention_heads": (
        "num_attention_heads",
        "n_head",
        "n_heads",
        "num_heads",
        "encoder_attention_heads",
        "num_encoder_attention_heads",
        "decoder_attention_heads",
        "num_decoder_attention_heads",
    ),
    "intermediate_size": (
        "intermediate_size",
        "n_inner",
        "hidden_dim",
        "d_ff",
        "d_inner",
        "dff",
        "ffn_dim",
        "ffn_hidden_size",
        "encoder_ffn_dim",
        "decoder_ffn_dim",
    ),
    "max_position_embeddings": ("max_position_embeddings", "n_positions"),
}
"""What the families call a size, under the name that goes for all; an encoder's comes before its decoder's, which is alike unless
it is given itself."""

DEFAULTS = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 512}

MODEL_WIDTHS = ("embedding_size", "word_embed_proj_dim", "pooler_hidden_size")
"""Fields that are as wide as the model; families that narrow them do so for widths that are no small model's."""

HEAD_WIDTHS = ("head_dim", "d_kv", "d_head", "rotary_dim", "query_pre_attn_scalar")
"""Fields that are as wide as a head."""

STARTS = ("pad_token_id", "eos_token_id", "bos_token_id")

AFTER_PADDING = {"roberta", "xlm-roberta", "camembert", "longformer", "mpnet", "xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text"}
"""Families that count positions from the padding id + 1, so that their table needs as many more rows."""


def new_config(architecture: str, given: Mapping[str, Any], tokenizer: Any, task: Mapping[str, Any]) -> Any:
    """The configuration of a small model of an architecture: 4 blocks, 128 wide, 4 heads, 512 positions, an output that shares the
    embeddings, and otherwise what the family has by default. `given` comes before all that, what the `task` needs before `given`.

    Raises ModelError for an architecture or a field that transformers does not know.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    if architecture not in CONFIG_MAPPING:
        raise ModelError(f"there is no architecture `{architecture}`{nearest(architecture, CONFIG_MAPPING.keys())}")
    family = CONFIG_MAPPING[architecture]()
    usual = family.to_dict()
    if "vocab_size" not in usual or not names_of("hidden_size", usual):
        raise ModelError(f"new:{architecture} is not one stack of blocks that reads text: give another architecture.")
    wanted = native(family, given, task)
    sizes = default_sizes(usual, wanted)
    if architecture in AFTER_PADDING:
        sizes["max_position_embeddings"] += tokenizer.pad_token_id + 1
    return AutoConfig.for_model(architecture, **{"tie_word_embeddings": True, **sizes, **token_fields(usual, tokenizer), **wanted, **task})


def altered_config(settings: Any, given: Mapping[str, Any], tokenizer: Any | None, task: Mapping[str, Any]) -> Any:
    """A checkpoint's configuration with the `given` fields, and with the size and ids of a `tokenizer` that is not the checkpoint's.

    Raises ModelError for a field that it does not know.
    """
    usual = settings.to_dict()
    wanted = native(settings, given, task)
    sizes = {size: wanted[names[0]] for size in SIZES if (names := names_of(size, usual)) and names[0] in wanted}
    follow: dict[str, Any] = {}
    if sizes.keys() & {"hidden_size", "num_attention_heads"}:
        follow |= widths(usual, *(sizes.get(size, getattr(settings, size, 0)) for size in ("hidden_size", "num_attention_heads")))
    if "num_hidden_layers" in sizes:
        follow |= kinds_of_blocks(usual, sizes["num_hidden_layers"])
    ids = token_fields(usual, tokenizer) if tokenizer is not None else {}
    return type(settings).from_dict({**usual, **follow, **ids, **wanted})


def names_of(size: str, usual: Mapping[str, Any]) -> list[str]:
    """What a family calls a size."""
    return [name for name in SIZES[size] if name in usual]


def native(family: Any, given: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields under the family's own names. Raises ModelError telling all that cannot be set.

    A size under the common name, or the first of the family's, is set wherever the family has it and nothing else is said.
    """
    usual, aliases = family.to_dict(), family.attribute_map
    own = {size: names for size in SIZES if (names := names_of(size, usual))}
    known = sorted((usual.keys() | own.keys() | aliases.keys()) - inherited())
    whole = {name for size, names in own.items() for name in (size, *names)}
    problems = [unknown(key, known, family.model_type) for key in given if key not in known]
    problems += [f"`model.config.{key}` is decided by the task" for key in given if key in task]
    problems += [f"`model.config.{key}` has to be a whole number from 1" for key in given if key in whole and not is_size(given[key])]
    if problems:
        raise ModelError(listing("the model's configuration cannot be made", problems))
    wanted = {key: value for key, value in given.items() if key in usual}
    for key, value in given.items():
        wanted = {**dict.fromkeys(own.get(key) or [aliases.get(key, key)], value), **wanted}
    for first, *others in own.values():
        if first in wanted:
            wanted = {**dict.fromkeys(others, wanted[first]), **wanted}
    return wanted


def inherited() -> set[str]:
    """Fields that every configuration has; none is the recipe's to set."""
    from transformers import PretrainedConfig

    return set(PretrainedConfig().to_dict())


def unknown(key: str, known: Collection[str], family: str) -> str:
    return f"`model.config.{key}` is unknown to {family}{nearest(key, known) or ' (known: ' + ', '.join(known) + ')'}"


def is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def default_sizes(usual: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a small model, and what follows from them, by the family's names. Raises ModelError where heads cannot share the
    width."""
    chosen = {}
    for size, default in DEFAULTS.items():
        first = next(iter(names_of(size, usual)), None)
        chosen[size] = wanted.get(first, default) if first else default
    width, heads = chosen["hidden_size"], chosen["num_attention_heads"]
    if names_of("num_attention_heads", usual) and width % heads and not wanted.keys() & set(HEAD_WIDTHS):
        raise ModelError(f"`model.config`: {heads} heads cannot share a width of {width}.")
    shared = wanted.get("num_key_value_heads") or heads
    if heads % shared:
        raise ModelError(f"`model.config`: {heads} heads cannot share {shared} heads of keys and values.")
    chosen["intermediate_size"] = inner_size(usual, width)
    sizes = {name: value for size, value in chosen.items() for name in names_of(size, usual)}
    return {**sizes, **widths(usual, width, heads), **kinds_of_blocks(usual, chosen["num_hidden_layers"])}


def inner_size(usual: Mapping[str, Any], width: int) -> int:
    """4 times the width; with gates, whose three matrices stand for two, 8/3 times, in whole eights. Shazeer 2020, arXiv:2002.05202."""
    gated = "rms_norm_eps" in usual or usual.get("hidden_act") == "silu"
    return -(-width // 3) * 8 if gated else 4 * width


def widths(usual: Mapping[str, Any], width: int, heads: int) -> dict[str, int]:
    """Fields that follow from the width and the number of heads."""
    found = dict.fromkeys(MODEL_WIDTHS, width) | dict.fromkeys(HEAD_WIDTHS, width // heads) | {"num_key_value_heads": heads}
    return {name: value for name, value in found.items() if name in usual}


def kinds_of_blocks(usual: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Lists with an entry for each block: made anew by the family's rule, or by ours for GPT-Neo, whose blocks take turns in seeing
    everything and seeing a window."""
    found = {
        "layer_types": None,
        "attention_types": [[["global", "local"], layers // 2], [["global"], layers % 2]],
        "attention_layers": [("global", "local")[block % 2] for block in range(layers)],
    }
    return {name: value for name, value in found.items() if name in usual}


def token_fields(usual: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Size of the vocabulary and special ids, as far as the family has fields for them.

    A decoder starts with the token that its family starts it with: padding (T5, Marian) or the end (BART).
    """
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("pad", "bos", "eos", "cls", "sep", "mask", "unk")}
    for marker, alike in (("cls_token_id", "bos_token_id"), ("sep_token_id", "eos_token_id")):
        ids[marker] = ids[alike] if ids[marker] is None else ids[marker]
    fields = {"vocab_size": len(tokenizer), "decoder_vocab_size": len(tokenizer), **ids, "forced_eos_token_id": ids["eos_token_id"]}
    found = {name: value for name, value in fields.items() if name in usual}
    if usual.get("is_encoder_decoder"):
        start = usual.get("decoder_start_token_id")
        like = next((name for name in STARTS if start is not None and usual.get(name) == start), STARTS[0])
        found["decoder_start_token_id"] = ids[like] if ids[like] is not None else tokenizer.pad_token_id
    return found
