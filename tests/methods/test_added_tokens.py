"""Only what the task added to the vocabulary learns: row by row, apart from its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import burnish
from burnish.core.errors import ModelError
from burnish.methods.tokens import Tokens
from burnish.models import blocks
from burnish.run.merging import merge
from cases import CASES, recipe_of

IDS = torch.tensor([[3, 48, 7, 49]])


def llama(tied: bool = True) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **size, tie_word_embeddings=tied)).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_the_rows_of_new_tokens_move_and_no_other(tied: bool, tmp_path: Path) -> None:
    model = llama(tied)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    method = Tokens()
    adapted = method.apply(model, replace(blocks.anatomy(model), new_tokens=[48, 49]))
    learning = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in learning.values()) == 2 * 16
    with torch.no_grad():
        for parameter in learning.values():
            parameter.add_(torch.randn_like(parameter))
        expected = adapted(IDS).logits
    method.save(adapted, tmp_path / "saved", None)
    with torch.no_grad():
        torch.testing.assert_close(method.open(tmp_path / "saved", type(model).from_pretrained)(IDS).logits, expected)
        plain = method.merged(tmp_path / "saved", type(model).from_pretrained)
        plain.save_pretrained(tmp_path / "plain")
        again = type(model).from_pretrained(tmp_path / "plain")
        torch.testing.assert_close(again(IDS).logits, expected)
    for name, value in again.state_dict().items():
        moved = (value - before[name]).reshape(len(value), -1).abs().amax(dim=1) > 1e-3
        table = "embed_tokens" in name or (tied and "lm_head" in name)
        assert moved.nonzero().flatten().tolist() == ([48, 49] if table else []), name


def test_where_there_is_nothing_to_learn_or_a_head_would_stay_noise_it_is_refused() -> None:
    model = llama(tied=False)
    parts = blocks.anatomy(model)
    with pytest.raises(ModelError, match="adds nothing"):
        Tokens().apply(model, parts)
    with pytest.raises(ModelError, match="starts at random"):
        Tokens().apply(model, replace(parts, new_tokens=[48], fresh=parts.head))


@pytest.mark.usefixtures("quick")
def test_a_chat_learns_the_tokens_of_its_template(tiny_llama: Path, tmp_path: Path) -> None:
    run = burnish.train(recipe_of("chat", tiny_llama, tmp_path, method="tokens"))
    found = burnish.load(run.path).evaluate("validation").metrics
    assert found["loss"] == pytest.approx(run.metrics["validation"]["loss"], rel=1e-4)
    assert burnish.load(run.path).predict([CASES["chat"].asked])
    merge(run.path, tmp_path / "merged")
    assert (tmp_path / "merged" / "tokenizer.json").is_file()
