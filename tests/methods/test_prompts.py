"""Virtual tokens: what the model sees of them, and that no text depends on the padding of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import build
from burnish import recipe as recipes
from burnish.core.errors import BurnishError, ModelError
from burnish.core.generation import Generation
from burnish.engine.generation import write
from burnish.methods.prompts import PrefixTuning, PromptTuning, PTuning
from burnish.models import blocks
from cases import recipe_of

METHODS = [PromptTuning(virtual_tokens=3), PTuning(virtual_tokens=3, hidden=8), PrefixTuning(virtual_tokens=3)]
NAMES = [method.name for method in METHODS]


def llama(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def shaken(model: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_texts_are_written_as_the_forward_pass_foretells_and_alone_as_in_company(method: Any, tiny_llama: Path) -> None:
    plain = llama(tiny_llama)
    model = shaken(method.apply(plain, blocks.anatomy(plain)))
    prompts: Sequence[Sequence[int]] = [[20, 21, 22, 23, 24], [30, 31], [40, 41, 42], [50, 51]]

    def written(some: Sequence[Sequence[int]]) -> list[list[int]]:
        return [list(one.ids) for one in write(model, some, Generation(max_new_tokens=6), torch.device("cpu"), lambda: None)]

    together = written(prompts)
    assert len({tuple(ids) for ids in together}) > 1
    for prompt, found in zip(prompts, together, strict=True):
        assert written([prompt]) == [found]
        ids = list(prompt)
        for token in found:
            with torch.no_grad():
                output = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits
            assert output.shape[1] == len(ids), "of the text's own tokens"
            assert int(output[0, -1].argmax()) == token
            ids.append(token)


def test_prompt_tuning_is_a_text_with_embeddings_before_it(tiny_llama: Path) -> None:
    plain = llama(tiny_llama)
    model = shaken(PromptTuning(virtual_tokens=3).apply(plain, blocks.anatomy(plain)))
    ids = torch.tensor([[20, 21, 22]])
    prompt = model.prompt_encoder["default"].embedding.weight[None]
    with torch.no_grad():
        expected = plain(inputs_embeds=torch.cat([prompt, plain.get_input_embeddings()(ids)], dim=1)).logits[:, 3:]
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(found, expected)
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learning == ["prompt_encoder.default.embedding.weight"]


def test_a_decoder_that_looks_for_its_last_token_is_refused_where_it_would_read_padding() -> None:
    from transformers import GPT2Config, GPT2ForSequenceClassification

    def parts(model: Any) -> Any:
        found = blocks.anatomy(model)
        return replace(found, fresh=found.head)

    model = GPT2ForSequenceClassification(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=20, pad_token_id=0))
    with pytest.raises(ModelError, match="reads the padding"):
        PromptTuning(virtual_tokens=3).apply(model, parts(model))
    model = GPT2ForSequenceClassification(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=20, pad_token_id=0))
    PrefixTuning(virtual_tokens=3).apply(model, parts(model))


def test_an_architecture_that_peft_cannot_serve_is_refused() -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    model = DistilBertForSequenceClassification(DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=16))
    with pytest.raises(ModelError, match="peft cannot apply prefix_tuning to DistilBert"):
        PrefixTuning(virtual_tokens=3).apply(model, blocks.anatomy(model))


def test_a_head_that_came_with_the_weights_stays(tiny_bert: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    parts = blocks.anatomy(model)
    fixed = PromptTuning(virtual_tokens=2).apply(model, parts)
    assert [name for name, parameter in fixed.named_parameters() if parameter.requires_grad] == ["prompt_encoder.default.embedding.weight"]
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    fresh = PromptTuning(virtual_tokens=2).apply(model, replace(parts, fresh=parts.head))
    roles = {parts.role(name) for name, parameter in fresh.named_parameters() if parameter.requires_grad}
    assert roles == {"embeddings", "head"}
    assert {parts.role(name) for name, _ in fresh.named_parameters()} == {"embeddings", "block 1", "block 2", "head"}


@pytest.mark.parametrize("method", METHODS[:2], ids=NAMES[:2])
def test_virtual_tokens_are_as_wide_as_the_embeddings_that_they_stand_beside(method: Any) -> None:
    from transformers import ElectraConfig, ElectraForTokenClassification

    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    plain = ElectraForTokenClassification(ElectraConfig(vocab_size=50, embedding_size=8, **size)).eval()
    model = shaken(method.apply(plain, blocks.anatomy(plain)))
    ids = torch.tensor([[20, 21, 22]])
    with torch.no_grad():
        whole = torch.cat([model.get_prompt(batch_size=1), plain.get_input_embeddings()(ids)], dim=1)  # (1, 3 + T, 8)
        expected = plain(inputs_embeds=whole).logits[:, 3:]
        torch.testing.assert_close(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, expected)


def test_a_prefix_that_does_not_fit_is_refused() -> None:
    from transformers import FalconConfig, FalconForCausalLM

    plain = FalconForCausalLM(FalconConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, multi_query=True))
    with pytest.raises(ModelError, match="do not fit FalconForCausalLM"):
        PrefixTuning(virtual_tokens=3).apply(plain, blocks.anatomy(plain))


def test_virtual_tokens_take_positions(tiny_bert: Path, tmp_path: Path) -> None:
    def allowed(**sections: Any) -> int:
        made = recipe_of("classify", tiny_bert, tmp_path, method={"name": "prompt_tuning", "virtual_tokens": 24}, **sections)
        made["data"].pop("max_length")
        made["data"] |= sections.get("data", {})
        checked = recipes.load(made)
        return build.assemble(checked, build.gather(checked), lambda message: None).max_length

    assert allowed() == 64 - 24
    made = recipe_of("classify", tiny_bert, tmp_path, method={"name": "prompt_tuning", "virtual_tokens": 24})
    made["data"]["max_length"] = 41
    checked = recipes.load(made)
    with pytest.raises(BurnishError, match="beside the 24 virtual tokens of method=prompt_tuning, 40"):
        build.assemble(checked, build.gather(checked), lambda message: None)
    made["method"]["virtual_tokens"] = 64
    checked = recipes.load(made)
    with pytest.raises(BurnishError, match=r"64 leave no room for a text, since .* reads 64 tokens"):
        build.assemble(checked, build.gather(checked), lambda message: None)
