"""Closed formulas of how many parameters the parts of known architectures have.

Letters: V tokens of the vocabulary, T rows of the position table, K token types, D width, F inner width of the feed-forward part,
A width of all attention heads, B width of all key-value heads, R relative positions times heads, C outputs of the head.

BERT and RoBERTa without pooler and head have (V + T + K + 2) D + L (4 D^2 + 2 D F + 9 D + F) parameters in L blocks. With L = 4, V = 32,000,
D = 512, T = 256, F = D and RoBERTa's default of K = 2 that is (32,000 + 256 + 4) 512 + 4 (6 D^2 + 10 D) = 22,829,056. (F = 4 D would make
29,125,120 of it, and a pooler D^2 + D more.)
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from typing import Any

FIELDS: dict[str, tuple[str, ...]] = {
    "V": ("vocab_size",),
    "T": ("max_position_embeddings", "n_positions"),
    "K": ("type_vocab_size",),
    "D": ("hidden_size", "n_embd", "dim", "d_model"),
    "F": ("intermediate_size", "n_inner", "hidden_dim", "d_ff", "encoder_ffn_dim"),
    "H": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "G": ("num_key_value_heads",),
    "W": ("head_dim", "d_kv"),
    "P": ("relative_attention_num_buckets",),
    "C": ("num_labels",),
}
"""What configurations call the numbers that letters stand for. H heads, G key-value heads, W width of a head, P relative positions."""

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
LLAMA = {
    "tokens": "V*D",
    "attention": "2*D*A + 2*D*B",
    "feed-forward": "3*D*F",
    "norms": "2*D",
    "lm_head": "V*D",
    "norm": "D",
    "score": "C*D",
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
}

ARCHITECTURES: dict[str, dict[str, str]] = {
    "bert": {**BERT, "classifier": "C*D + C", "qa_outputs": "2*D + 2", "cls": "D**2 + 3*D + V"},
    "roberta": {**BERT, "classifier": "D**2 + D + C*D + C | C*D + C", "lm_head": "D**2 + 3*D + V", "qa_outputs": "2*D + 2"},
    "distilbert": {
        **{part: formula for part, formula in BERT.items() if part not in ("types", "pooler")},
        "pre_classifier": "D**2 + D",
        "classifier": "C*D + C",
        "qa_outputs": "2*D + 2",
        "vocab_transform": "D**2 + D",
        "vocab_layer_norm": "2*D",
        "vocab_projector": "V",
    },
    "gpt2": {
        "tokens": "V*D",
        "positions": "T*D",
        "attention": "4*D**2 + 4*D",
        "feed-forward": "2*D*F + F + D",
        "norms": "4*D",
        "ln_f": "2*D",
        "score": "C*D",
    },
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": {**LLAMA, "attention": "2*D*A + 2*D*B + A + 2*B"},
    "t5": T5,
}
"""Part -> formula by the name that configurations give the architecture; | stands between forms that one part has (a gated feed-forward)."""

ARCHITECTURES["xlm-roberta"] = ARCHITECTURES["camembert"] = ARCHITECTURES["roberta"]
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Pow: operator.pow}


def letters(config: Any) -> dict[str, int]:
    """The numbers of a model's configuration, by letter."""
    found: dict[str, int] = {}
    for letter, names in FIELDS.items():
        values = [getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)]
        found |= {letter: int(values[0])} if values else {}
    if "D" in found:
        heads = found.get("H", 1)
        width = found.get("W", found["D"] // heads)
        found.setdefault("F", 4 * found["D"])  # GPT-2 leaves it open
        found |= {"A": heads * width, "B": found.get("G", heads) * width, "R": found.get("P", 0) * heads}
    return found


def formulas_of(config: Any, part: str) -> list[str]:
    """The formulas that a part such as `attention` may have, in Python's signs; none where the architecture or the part is not known here."""
    known = ARCHITECTURES.get(config.model_type, {}).get(part, "")
    return [formula.strip() for formula in known.split("|")] if known else []


def value(formula: str, numbers: Mapping[str, int]) -> int:
    """What a formula comes to.

    >>> value("4*D**2 + 4*D", {"D": 512})
    1050624
    """

    def computed(node: ast.expr) -> int:
        if isinstance(node, ast.BinOp):
            return int(OPERATORS[type(node.op)](computed(node.left), computed(node.right)))
        return numbers[node.id] if isinstance(node, ast.Name) else int(ast.literal_eval(node))

    return computed(ast.parse(formula, mode="eval").body)


def written(formula: str) -> str:
    """A formula as it is read: `4 D² + 4 D`."""
    return formula.replace("**2", "²").replace("*", " ")
