"""Models from the name of an architecture: small, of the tokenizer's vocabulary, saved and opened like any other."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from burnish.core.errors import ModelError
from burnish.models.load import length_limit, load_model, load_tokenizer
from burnish.models.spec import Model

CAUSAL, MASKED, SEQ2SEQ = "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"


@dataclass(frozen=True)
class Family:
    """An architecture, the head that it is tried under, and the token that its decoder starts with."""

    name: str
    head: str
    start: str | None = None
    bounded: bool = True


FAMILIES = [
    Family("llama", CAUSAL, bounded=False),
    Family("gpt2", CAUSAL),
    Family("qwen2", CAUSAL, bounded=False),
    Family("qwen3", CAUSAL, bounded=False),
    Family("gemma3_text", CAUSAL, bounded=False),
    Family("gpt_neo", CAUSAL),
    Family("opt", CAUSAL),
    Family("bert", MASKED),
    Family("roberta", MASKED),
    Family("xlm-roberta", MASKED),
    Family("distilbert", MASKED),
    Family("electra", MASKED),
    Family("modernbert", MASKED, bounded=False),
    Family("deberta-v2", MASKED),
    Family("t5", SEQ2SEQ, "pad", bounded=False),
    Family("bart", SEQ2SEQ, "eos"),
    Family("marian", SEQ2SEQ, "pad"),
    Family("pegasus", SEQ2SEQ, "pad"),
]
EVERY = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def made(architecture: str, head: str, folder: Path, seed: int = 0, task: dict[str, Any] | None = None, **config: Any) -> tuple[Any, Any]:
    spec = Model(name=f"new:{architecture}", tokenizer=str(folder), config=config)
    tokenizer = load_tokenizer(spec)
    return load_model(spec, head, tokenizer, seed, **(task or {}))[0], tokenizer


def batch(tokens: int, count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    ids = torch.randint(10, tokens, (1, count))
    return {"input_ids": ids, "labels": ids}


@EVERY
def test_a_small_model_that_knows_nothing_yet(family: Family, folders: dict[str, Path]) -> None:
    model, tokenizer = made(family.name, family.head, folders["bpe"])
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.config.tie_word_embeddings
    assert 500_000 < sum(parameter.numel() for parameter in model.parameters()) < 2_500_000
    assert model.config.hidden_size == 128 and model.config.num_hidden_layers == 4
    with torch.no_grad():
        loss = float(model.eval()(**batch(len(tokenizer), 20)).loss)
    assert abs(loss - math.log(len(tokenizer))) < 1.2


@EVERY
def test_it_takes_the_tokenizers_ids(family: Family, folders: dict[str, Path]) -> None:
    model, tokenizer = made(family.name, family.head, folders["bpe"])
    for settings in (model.config, model.generation_config if model.can_generate() else model.config):
        assert settings.pad_token_id == tokenizer.pad_token_id
        assert settings.eos_token_id == tokenizer.eos_token_id
        assert getattr(settings, "forced_eos_token_id", None) in (None, tokenizer.eos_token_id)
    if family.start is not None:
        assert model.config.decoder_start_token_id == getattr(tokenizer, f"{family.start}_token_id")
        assert model.generation_config.decoder_start_token_id == model.config.decoder_start_token_id


@EVERY
def test_saved_it_opens_like_any_other(family: Family, folders: dict[str, Path], tmp_path: Path) -> None:
    model, tokenizer = made(family.name, family.head, folders["bpe"])
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, info = getattr(transformers, family.head).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    inputs = batch(len(tokenizer), 20)
    with torch.no_grad():
        assert model.eval()(**inputs).logits.equal(again.eval()(**inputs).logits)
    text = "It's 1984: L’œuvre « déjà vue »\n\n coûte 350"
    assert transformers.AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == tokenizer(text)["input_ids"]


@EVERY
def test_the_longest_text(family: Family, folders: dict[str, Path]) -> None:
    """The tokenizer says 100; without its word the model's own limit holds, and one more does not fit a table of positions."""
    config = {} if family.name == "t5" else {"max_position_embeddings": 40}
    model, tokenizer = made(family.name, family.head, folders["bpe"], **config)
    tokenizer.model_max_length = 10**30
    limit = length_limit(tokenizer, model)
    assert limit == {"t5": 512, "roberta": 39, "xlm-roberta": 39}.get(family.name, 40)
    with torch.no_grad():
        model.eval()(**batch(len(tokenizer), limit))
        if family.bounded:
            with pytest.raises((IndexError, RuntimeError, ValueError)):
                model(**batch(len(tokenizer), limit + 1))
    tokenizer.model_max_length = 30
    assert length_limit(tokenizer, model) == 30


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta"])
def test_robertas_table_has_rows_for_512_positions(name: str, folders: dict[str, Path]) -> None:
    model, tokenizer = made(name, MASKED, folders["bpe"])
    tokenizer.model_max_length = 10**30
    assert length_limit(tokenizer, model) == 512


def test_weights_are_a_function_of_the_seed(folders: dict[str, Path]) -> None:
    first, second, other = (made("llama", CAUSAL, folders["bpe"], seed)[0].model.embed_tokens.weight for seed in (0, 0, 1))
    assert first.equal(second) and not first.equal(other)


def test_every_parameter_is_fresh_and_dtype_holds(folders: dict[str, Path]) -> None:
    spec = Model(name="new:gpt2", tokenizer=str(folders["bpe"]), dtype="bfloat16")
    model, fresh = load_model(spec, CAUSAL, load_tokenizer(spec), 0)
    assert fresh == [name for name, _ in model.named_parameters()]
    assert model.transformer.wte.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("architecture", "head", "layers"),
    [("llama", CAUSAL, 2), ("gpt2", CAUSAL, 2), ("distilbert", MASKED, 2), ("gpt_neo", CAUSAL, 3), ("gemma3_text", CAUSAL, 3)],
)
def test_sizes_go_by_one_name(architecture: str, head: str, layers: int, folders: dict[str, Path]) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 48}
    model, tokenizer = made(architecture, head, folders["bpe"], **sizes)
    config = model.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, layers, 2)
    shapes = {tuple(parameter.shape) for parameter in model.parameters()}
    assert {(48, 32), (32, 48)} & shapes
    model(**batch(len(tokenizer), 8)).loss.backward()


@pytest.mark.parametrize(("architecture", "first"), [("t5", "num_layers"), ("bart", "encoder_layers"), ("marian", "encoder_layers")])
def test_a_decoder_is_as_deep_as_its_encoder_unless_it_is_told(architecture: str, first: str, folders: dict[str, Path]) -> None:
    def depth(**config: Any) -> tuple[int, int]:
        found = made(architecture, SEQ2SEQ, folders["bpe"], **config)[0]
        stacks = (found.get_encoder(), found.get_decoder())
        encoder, decoder = (len(stack.block if architecture == "t5" else stack.layers) for stack in stacks)
        return encoder, decoder

    own = "num_decoder_layers" if architecture == "t5" else "decoder_layers"
    assert depth() == (4, 4)
    assert depth(num_hidden_layers=2) == depth(**{first: 2}) == (2, 2)
    assert depth(num_hidden_layers=2, **{own: 1}) == (2, 1)
    assert depth(**{own: 1}) == (4, 1)


def test_gates_make_the_inner_layer_narrower(folders: dict[str, Path]) -> None:
    assert made("llama", CAUSAL, folders["bpe"])[0].config.intermediate_size == 344
    assert made("bert", MASKED, folders["bpe"])[0].config.intermediate_size == 512
    assert made("t5", SEQ2SEQ, folders["bpe"], d_model=64)[0].config.d_ff == 256
    assert made("t5", SEQ2SEQ, folders["bpe"], d_model=64)[0].config.d_kv == 16


@pytest.mark.parametrize(
    ("architecture", "config", "words"),
    [
        ("lama", {}, "there is no architecture `lama` - did you mean `llama`?"),
        ("vit", {}, "not one stack of blocks that reads text"),
        ("llama", {"num_hidden_layer": 2}, "`model.config.num_hidden_layer` is unknown to llama - did you mean `num_hidden_layers`?"),
        ("llama", {"colour": 2, "n_layr": 1}, "`model.config.colour` is unknown to llama (known: attention_bias,"),
        ("llama", {"num_hidden_layers": "four"}, "`model.config.num_hidden_layers` has to be a whole number from 1"),
        ("llama", {"hidden_size": 130}, "4 heads cannot share a width of 130"),
        ("llama", {"num_key_value_heads": 3}, "4 heads cannot share 3 heads of keys and values"),
        ("llama", {"hidden_act": "nosuch"}, "it asks for 'nosuch', which transformers does not know"),
        ("llama", {"attention_dropout": "much"}, "Field 'attention_dropout'"),
        ("llama", {"vocab_size": 20}, "the model new:llama only 20: they do not belong together"),
        ("llama", {"num_labels": 3}, "`model.config.num_labels` is"),
    ],
)
def test_what_cannot_be_made(architecture: str, config: dict[str, Any], words: str, folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError) as caught:
        made(architecture, CAUSAL, folders["bpe"], **config)
    assert words in str(caught.value)


def test_all_unknown_fields_are_told_at_once(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError) as caught:
        made("gpt2", CAUSAL, folders["bpe"], task={"problem_type": None}, n_layr=1, n_haed=2, problem_type="x")
    assert all(word in str(caught.value) for word in ("`n_layer`", "`n_head`", "`model.config.problem_type` is decided by the task"))


def test_an_architecture_without_the_tasks_head(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"no form that suits the task \(AutoModelForSeq2SeqLM\)"):
        made("bert", SEQ2SEQ, folders["bpe"])


@pytest.mark.parametrize("kind", ["unigram", "wordpiece"])
def test_a_tokenizer_that_transformers_would_not_open_again_is_refused(kind: str, folders: dict[str, Path]) -> None:
    """It gives every tokenizer beside a Qwen2 model the cut of Qwen2's."""
    with pytest.raises(ModelError, match="opens the tokenizer of every qwen2 model in a way of its own"):
        made("qwen2", CAUSAL, folders[kind])


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
@pytest.mark.parametrize(("architecture", "head"), [("gpt2", CAUSAL), ("bert", MASKED), ("modernbert", MASKED), ("bart", SEQ2SEQ)])
def test_any_kind_of_tokenizer(architecture: str, head: str, kind: str, folders: dict[str, Path]) -> None:
    model, tokenizer = made(architecture, head, folders[kind])
    inputs = tokenizer(["The kettle arrived late", "déjà vu"], padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        assert torch.isfinite(model(**inputs, labels=inputs["input_ids"]).loss)


def test_from_scratch_with_another_size(tiny_bert: Path) -> None:
    spec = Model(name=str(tiny_bert), from_scratch=True, config={"num_hidden_layers": 1, "hidden_dropout_prob": 0.2})
    model, fresh = load_model(spec, MASKED, load_tokenizer(spec), 0)
    assert len(model.bert.encoder.layer) == 1 and model.config.hidden_dropout_prob == 0.2
    assert model.config.hidden_size == 32 and len(fresh) == len(list(model.named_parameters()))


def test_from_scratch_with_another_tokenizer(tiny_bert: Path, folders: dict[str, Path]) -> None:
    spec = Model(name=str(tiny_bert), from_scratch=True, tokenizer=str(folders["bpe"]))
    model, _ = load_model(spec, MASKED, load_tokenizer(spec), 0)
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == 330


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3_text", "gpt_neo"])
def test_from_scratch_lists_of_blocks_are_made_anew(architecture: str, folders: dict[str, Path], tmp_path: Path) -> None:
    model, tokenizer = made(architecture, CAUSAL, folders["bpe"])
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spec = Model(name=str(tmp_path), from_scratch=True, config={"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 2})
    smaller, _ = load_model(spec, CAUSAL, load_tokenizer(spec), 0)
    assert smaller.config.num_hidden_layers == 3 and smaller.config.hidden_size == 64
    with torch.no_grad():
        smaller(**batch(len(tokenizer), 8))


def test_from_scratch_unknown_fields(tiny_bert: Path) -> None:
    spec = Model(name=str(tiny_bert), from_scratch=True, config={"num_hidden_layer": 1})
    with pytest.raises(ModelError, match="unknown to bert - did you mean `num_hidden_layers`"):
        load_model(spec, MASKED, load_tokenizer(spec), 0)


def test_a_pretrained_model_with_a_tokenizer_from_elsewhere(tiny_bert: Path, tmp_path: Path) -> None:
    """Weights in one folder, their tokenizer in another."""
    shutil.copytree(tiny_bert, tmp_path / "bare")
    for file in (tmp_path / "bare").glob("tokenizer*"):
        file.unlink()
    spec = Model(name=str(tmp_path / "bare"), tokenizer=str(tiny_bert))
    assert spec.fault() is None
    _, fresh = load_model(spec, "AutoModelForSequenceClassification", load_tokenizer(spec), 0, num_labels=2)
    assert fresh == ["classifier.bias", "classifier.weight"]
