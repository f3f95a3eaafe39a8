"""Closed formulas of how many parameters the parts of known architectures have, read by sympy.

Letters: V tokens of the vocabulary, T rows of the position table, K token types, D width, E width of the embeddings where it is another,
F inner width of the feed-forward part, H heads, G heads of keys and values, W width of a head, A = H W width of all attention heads,
B = G W width of all key-value heads, R relative positions times heads, C outputs of the head.

BERT and RoBERTa without pooler and head have (V + T + K + 2) D + L (4 D^2 + 2 D F + 9 D + F) parameters in L blocks. With L = 4, V = 32,000,
D = 512, T = 256, F = D and RoBERTa's default of K = 2 that is (32,000 + 256 + 4) 512 + 4 (6 D^2 + 10 D) = 22,829,056. (F = 4 D would make
29,125,120 of it, and a pooler D^2 + D more.)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

FIELDS: dict[str, tuple[str, ...]] = {
    "V": ("vocab_size",),
    "T": ("max_position_embeddings", "n_positions"),
    "K": ("type_vocab_size",),
    "D": ("hidden_size", "n_embd", "dim", "d_model"),
    "E": ("embedding_size",),
    "F": ("intermediate_size", "n_inner", "hidden_dim", "d_ff", "encoder_ffn_dim"),
    "H": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "G": ("num_key_value_heads",),
    "W": ("head_dim", "d_kv"),
    "P": ("relative_attention_num_buckets",),
    "C": ("num_labels",),
}
"""What configurations call the numbers that letters stand for. H heads, G key-value heads, W width of a head, P relative positions."""

IN_DECODER = {"F": ("decoder_ffn_dim",), "H": ("decoder_attention_heads",)}
"""What configurations call the numbers that a second stack may have of its own."""

BERT = {
    "tokens": "V*D",
    "positions": "T*D",
    "types": "K*D",
    "embedding norms": "2*D",
    "attention": "4*D**2 + 4*D",
    "feed-forward": "2*D*F + F + D",
    "norms": "4*D",
    "pooler": "D**2 + D",
}
SPANS = "2*D + 2 | C*D + C"
"""Where an answer begins and ends: two outputs, or in some classes as many as the configuration has labels."""

WRITTEN = "D**2 + 3*D + V | D**2 + 3*D + V*D + 2*V"
"""A masked model's scores: a layer, a norm, and a bias of the vocabulary; a table and its own bias where it is not that of the embeddings."""

LLAMA = {
    "tokens": "V*D",
    "attention": "2*D*A + 2*D*B | 2*D*A + 2*D*B + A + 2*B + D",
    "feed-forward": "3*D*F | 3*D*F + 2*F + D",
    "norms": "2*D",
    "lm_head": "V*D",
    "norm": "D",
    "score": "C*D | C*D + C",
    "qa_outputs": SPANS,
}
T5 = {
    "tokens": "V*D",
    "attention": "4*D*A",
    "cross-attention": "4*D*A",
    "position bias": "R",
    "feed-forward": "2*D*F | 3*D*F",
    "norms": "2*D",
    "decoder norms": "3*D",
    "final norm": "D",
    "final_layer_norm": "D",
    "lm_head": "V*D",
    "classification_head": "D**2 + D + C*D + C",
    "classifier": "C*D + C",
    "qa_outputs": SPANS,
}
DENSE_HEADS = {"classifier": "D**2 + D + C*D + C | C*D + C", "qa_outputs": SPANS}
GPT = {
    "tokens": "V*D",
    "attention": "4*D**2 + 4*D",
    "feed-forward": "2*D*F + F + D",
    "norms": "4*D",
    "ln_f": "2*D",
    "lm_head": "V*D",
    "score": "C*D",
    "classifier": "C*D + C",
    "qa_outputs": SPANS,
}
NARROW = {**BERT, "tokens": "V*E + E*D + D | V*E", "positions": "T*E", "types": "K*E", "embedding norms": "2*E"}

ARCHITECTURES: dict[str, dict[str, str]] = {
    "bert": {**BERT, "classifier": "C*D + C", "qa_outputs": SPANS, "cls": WRITTEN},
    "roberta": {**BERT, **DENSE_HEADS, "lm_head": WRITTEN},
    "mpnet": {**BERT, **DENSE_HEADS, "position bias": "R", "lm_head": "D**2 + 3*D + V"},
    "electra": {**NARROW, **DENSE_HEADS, "generator_predictions": "D*E + 3*E", "generator_lm_head": "V"},
    "albert": {**NARROW, "classifier": "C*D + C", "qa_outputs": SPANS, "predictions": "D*E + 3*E + V"},
    "distilbert": {
        **{part: formula for part, formula in BERT.items() if part not in ("types", "pooler")},
        "pre_classifier": "D**2 + D",
        "classifier": "C*D + C",
        "qa_outputs": SPANS,
        "vocab_transform": "D**2 + D",
        "vocab_layer_norm": "2*D",
        "vocab_projector": "V | V*D + V",
    },
    "gpt2": {**GPT, "positions": "T*D"},
    "bloom": {**GPT, "embedding norms": "2*D"},
    "llama": LLAMA,
    "mistral": LLAMA,
    "gemma": LLAMA,
    "phi3": LLAMA,
    "qwen2": {**LLAMA, "attention": "2*D*A + 2*D*B + A + 2*B"},
    "qwen3": {**LLAMA, "norms": "2*D + 2*W"},
    "t5": T5,
    "bart": {
        "tokens": "V*D | 2*V*D | 3*V*D",
        "positions": "2*(T + 2)*D | (T + 2)*D",
        "embedding norms": "4*D | 2*D",
        "attention": "4*D**2 + 4*D",
        "cross-attention": "4*D**2 + 4*D",
        "feed-forward": "2*D*F + F + D",
        "norms": "4*D | 6*D",
        "decoder norms": "6*D",
        "lm_head": "V*D",
        "classification_head": "D**2 + D + C*D + C",
        "qa_outputs": SPANS,
    },
}
"""Part -> formula by the name that configurations give the architecture; | stands between forms that one part has (a gated feed-forward)."""

ARCHITECTURES["xlm-roberta"] = ARCHITECTURES["camembert"] = ARCHITECTURES["roberta"]


def letters(config: Any, decoder: bool = False) -> dict[str, int]:
    """The numbers of a model's configuration, by letter; those of its `decoder` where a second stack has its own."""
    found: dict[str, int] = {}
    for letter, names in FIELDS.items():
        own = (*IN_DECODER.get(letter, ()), *names) if decoder else names
        values = [getattr(config, name) for name in own if isinstance(getattr(config, name, None), int)]
        found |= {letter: int(values[0])} if values else {}
    if "D" in found:
        heads = found.setdefault("H", getattr(config, "num_attention_heads", None) or 1)
        width = found.setdefault("W", found["D"] // heads)
        found.setdefault("F", 4 * found["D"])  # GPT-2 and BLOOM leave it open
        found.setdefault("E", found["D"])
        found.setdefault("G", heads)
        found |= {"A": heads * width, "B": found["G"] * width, "R": found.get("P", 0) * heads}
    return found


def formulas_of(config: Any, part: str) -> list[str]:
    """The formulas that a part such as `attention` may have, in Python's signs; none where the architecture or the part is not known here."""
    known = ARCHITECTURES.get(config.model_type, {}).get(part, "")
    return [formula.strip() for formula in known.split("|")] if known else []


@lru_cache(maxsize=256)
def expression(formula: str) -> Any:
    """A formula as sympy reads it, each letter a positive whole number."""
    import sympy

    symbols = {letter: sympy.Symbol(letter, integer=True, positive=True) for letter in (*FIELDS, "A", "B", "R")}
    return sympy.sympify(formula, locals=symbols)


def value(formula: str, numbers: Mapping[str, int]) -> int:
    """What a formula comes to. Raises KeyError for a letter that has no number.

    >>> value("4*D**2 + 4*D", {"D": 512})
    1050624
    """
    read = expression(formula)
    return int(read.subs({symbol: numbers[symbol.name] for symbol in read.free_symbols}))


def written(formula: str) -> str:
    """A formula as it is read: `4 D² + 4 D`."""
    return formula.replace("**2", "²").replace("*", " ")
