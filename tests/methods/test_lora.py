"""LoRA: only the update and the head learn, training begins at the pretrained function, and what is saved opens like any model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy
from burnish.methods.lora import Lora
from burnish.models import blocks
from burnish.plan.parameters import by_role

INPUTS = torch.tensor([[2, 10, 11, 12, 3], [2, 40, 41, 42, 3]])


@pytest.fixture
def model(tiny_bert: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(tiny_bert).eval()


def anatomy(model: Any) -> Anatomy:
    """The parts of a model whose head no weights filled."""
    parts = blocks.anatomy(model)
    return replace(parts, fresh=parts.head)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(INPUTS).logits


def test_the_update_and_the_head_learn_and_nothing_else(model: Any) -> None:
    adapted = Lora(r=4).apply(model, anatomy(model))
    found = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    lora = [name for name in found if ".lora_" in name]
    others = [name for name in found if ".lora_" not in name]
    # Six linear layers a block, each with A and B.
    assert len(lora) == 2 * 6 * 2
    assert all(parameter.shape[0] == 4 for name, parameter in adapted.named_parameters() if "lora_A" in name)
    assert sorted({name.split(".modules_to_save")[0] for name in others}) == ["base_model.model.bert.pooler", "base_model.model.classifier"]
    assert len(others) == 4


def test_training_begins_at_the_pretrained_function(model: Any) -> None:
    before = logits(model)
    assert logits(Lora(r=4).apply(model, anatomy(model))).equal(before)


def test_named_targets(model: Any) -> None:
    parts = anatomy(model)
    names = Lora(target=["query", "value"]).targets(parts)
    assert names == [f"bert.encoder.layer.{n}.attention.self.{kind}" for n in range(2) for kind in ("query", "value")]
    one = "bert.encoder.layer.1.attention.self.key"
    assert Lora(target=[one]).targets(parts) == [one]
    assert set(Lora().targets(parts)) == set(parts.linears)
    adapted = Lora(target=["query"]).apply(model, parts)
    assert sum("lora_A" in name for name, _ in adapted.named_parameters()) == 2


def test_an_unknown_target_names_the_nearest(model: Any) -> None:
    with pytest.raises(
        ModelError, match=r"`method.target`: no linear layer is named 'qeury' - did you mean `query`\? \(known: dense, key, query, value\)"
    ):
        Lora(target=["value", "qeury"]).apply(model, anatomy(model))
    with pytest.raises(ModelError, match="no linear layer is named 'uery'"):
        Lora(target=["uery"]).targets(anatomy(model))


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "written out"])
def test_what_is_saved_opens_like_any_model(model: Any, tiny_bert: Path, tmp_path: Path, linked: bool) -> None:
    from transformers import AutoModelForSequenceClassification

    adapted = Lora(r=4).apply(model, anatomy(model))
    before = logits(adapted)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    expected = logits(adapted)
    assert not torch.allclose(expected, before, atol=1e-3)
    Lora(r=4).save(adapted, tmp_path, [tiny_bert / "model.safetensors"] if linked else None)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert (tmp_path / "model.safetensors").is_symlink() == linked
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.allclose(logits(again), expected, atol=1e-6)


def test_the_count_of_parameters_knows_the_adapters_names(model: Any) -> None:
    parts = anatomy(model)
    plain = by_role(model.named_parameters(), parts)
    found = by_role(Lora(r=4).apply(model, parts).named_parameters(), parts)
    assert [role for role, *_ in found] == ["embeddings", "block 1", "block 2", "head"]
    update = 4 * (4 * (32 + 32) + 2 * (32 + 64))
    for (role, total, learning), (_, before, _) in zip(found, plain, strict=True):
        adds = update if role.startswith("block") else 0
        assert total == before + adds, role
        assert learning == (before if role == "head" else adds), role


def test_counts_of_a_plain_model(model: Any) -> None:
    found = by_role(model.named_parameters(), anatomy(model))
    assert sum(total for _, total, _ in found) == sum(parameter.numel() for parameter in model.parameters())
    assert all(total == learning for _, total, learning in found)


def test_gpt2s_transposed_layers_are_adapted_too() -> None:
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=20, pad_token_id=0)
    model = GPT2ForSequenceClassification(config).eval()
    before = logits(model)
    adapted = Lora(r=2).apply(model, anatomy(model))
    assert logits(adapted).equal(before)
    assert sum("lora_A" in name for name, _ in adapted.named_parameters()) == 2 * 4


def test_a_pretrained_head_stays_as_it_is(model: Any) -> None:
    adapted = Lora(r=2).apply(model, blocks.anatomy(model))
    assert all("lora_" in name for name, parameter in adapted.named_parameters() if parameter.requires_grad)


def test_tokens_that_the_task_added_learn_and_are_saved(tmp_path: Path) -> None:
    """Also where input and output embeddings are one; the other rows of the table stay as they were."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **size, tie_word_embeddings=True)).eval()
    before = model.get_input_embeddings().weight.detach().clone()
    method = Lora(r=2)
    adapted = method.apply(model, replace(blocks.anatomy(model), new_tokens=[48, 49]))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    inputs = torch.tensor([[3, 48, 7, 49]])
    expected = adapted(inputs).logits.detach()
    method.save(adapted, tmp_path, None)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(inputs).logits.detach(), expected, rtol=1e-5, atol=1e-5)
    table = again.get_input_embeddings()(torch.arange(50)).detach()
    moved = (table - before).abs().amax(dim=1) > 1e-3
    assert moved.nonzero().flatten().tolist() == [48, 49]
