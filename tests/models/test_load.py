"""Loading: what is plainly wrong is told without loading, what transformers raises is told in words, and seeds decide fresh weights."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.core.errors import ModelError
from burnish.models import load, spec
from burnish.models.load import length_limit, load_model, load_tokenizer, weight_files
from burnish.models.spec import Model

HEAD = "AutoModelForSequenceClassification"


@pytest.fixture
def copy(tiny_bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "copy"))


def loaded(spec: Model, seed: int = 0, **config: Any) -> tuple[Any, list[str]]:
    return load_model(spec, HEAD, load_tokenizer(spec), seed, **{"num_labels": 3, **config})


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(ModelError) as caught:
        loaded(Model(name=str(path), **settings))
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_weights_are_those_of_the_folder_and_the_head_is_fresh(tiny_bert: Path) -> None:
    from safetensors.torch import load_file

    model, fresh = loaded(Model(name=str(tiny_bert)))
    stored = load_file(tiny_bert / "model.safetensors")
    assert sorted(fresh) == ["classifier.bias", "classifier.weight"]
    for name, parameter in model.bert.named_parameters():
        assert parameter.equal(stored[name]), name
    assert model.classifier.weight.shape == (3, 32)


def test_fresh_weights_are_a_function_of_the_seed(tiny_bert: Path) -> None:
    spec = Model(name=str(tiny_bert))
    first, second, other = (loaded(spec, seed)[0].classifier.weight for seed in (0, 0, 1))
    assert first.equal(second) and not first.equal(other)


def test_from_scratch_keeps_the_architecture_and_no_weight(tiny_bert: Path) -> None:
    pretrained, _ = loaded(Model(name=str(tiny_bert)))
    model, fresh = loaded(Model(name=str(tiny_bert), from_scratch=True), seed=1)
    assert set(fresh) == {name for name, _ in model.named_parameters()}
    before, after = (m.bert.encoder.layer[0].attention.self.query.weight for m in (pretrained, model))
    assert before.shape == after.shape and not before.equal(after)


def test_dtype(tiny_bert: Path) -> None:
    model, _ = loaded(Model(name=str(tiny_bert), dtype="bfloat16"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_head_of_another_size_is_made_anew(tiny_bert: Path, tmp_path: Path) -> None:
    loaded(Model(name=str(tiny_bert)))[0].save_pretrained(tmp_path / "three")
    shutil.copy(tiny_bert / "tokenizer.json", tmp_path / "three")
    shutil.copy(tiny_bert / "tokenizer_config.json", tmp_path / "three")
    model, fresh = loaded(Model(name=str(tmp_path / "three")), num_labels=5)
    assert sorted(fresh) == ["classifier.bias", "classifier.weight"]
    assert model.classifier.weight.shape == (5, 32)
    assert loaded(Model(name=str(tmp_path / "three")), num_labels=3)[1] == []


def test_half_a_safetensors_file(copy: Path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "its safetensors file is damaged or half written" in refusal(copy)
    file.write_bytes(b"")
    assert "damaged or half written" in refusal(copy)


def test_pickled_weights_are_never_opened(copy: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (copy / "exploded",))

    torch.save({"weight": Bomb()}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert "pickled weights only (.bin)" in refusal(copy)
    assert not (copy / "exploded").exists()


def test_no_weights_at_all(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(copy)


def test_a_damaged_config(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": ')
    assert "config.json" in refusal(copy)


def test_code_of_its_own_needs_trust(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.Config", HEAD: "code.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "code.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\n")
    assert "model.trust_remote_code=true" in refusal(copy)
    assert not (copy / "ran").exists()


def test_weights_of_another_architecture(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    save_file({f"other.{name}": tensor for name, tensor in tensors.items()}, copy / "model.safetensors", metadata={"format": "pt"})
    assert "do not fit its architecture" in refusal(copy)


def test_a_tokenizer_of_another_model(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text()) | {"vocab_size": 100}
    (copy / "config.json").write_text(json.dumps(config))
    assert "they do not belong together" in refusal(copy, from_scratch=True)


@pytest.mark.parametrize(("reachable", "words"), [(False, "the hub cannot be reached"), (True, "Check the name, the network")])
def test_a_hub_id_that_gives_nothing(monkeypatch: pytest.MonkeyPatch, reachable: bool, words: str) -> None:
    for module in (load, spec):
        monkeypatch.setattr(module, "hub_reachable", lambda: reachable)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(Model(name="nobody/no-such-model"))
    assert "nobody/no-such-model" in str(caught.value) and words in str(caught.value)


def test_a_tokenizer_without_padding_pads_with_its_end(copy: Path) -> None:
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    for ends, expected in [({"eos_token": "[SEP]"}, "[SEP]"), ({}, None)]:
        (copy / "tokenizer_config.json").write_text(json.dumps(settings | ends))
        if expected is not None:
            assert load_tokenizer(Model(name=str(copy))).pad_token == expected
            continue
        with pytest.raises(ModelError, match="neither a padding nor an end token"):
            load_tokenizer(Model(name=str(copy)))


def test_weight_files(tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    assert weight_files(Model(name=str(tiny_bert))) == [tiny_bert / "model.safetensors"]
    AutoModel.from_pretrained(tiny_bert).save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    index, *shards = weight_files(Model(name=str(tmp_path / "shards")))
    assert index.name == "model.safetensors.index.json"
    assert len(shards) > 1 and all(shard.is_file() for shard in shards)


FAMILIES = {
    "gpt2": ("AutoModelForCausalLM", {}),
    "llama": ("AutoModelForCausalLM", {"tie_word_embeddings": False}),
    "bert": ("AutoModelForMaskedLM", {}),
    "t5": ("AutoModelForSeq2SeqLM", {}),
    "bart": ("AutoModelForSeq2SeqLM", {}),
    "marian": ("AutoModelForSeq2SeqLM", {}),
}


def pretrained(architecture: str, tokenizer: Path, folder: Path, **config: Any) -> tuple[Model, str]:
    """A folder with weights of an architecture and its tokenizer, as if from the hub."""
    head, own = FAMILIES[architecture]
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    settings = Model(name=f"new:{architecture}", tokenizer=str(tokenizer), config={**small, **own, **config})
    words = load_tokenizer(settings)
    load_model(settings, head, words, 0)[0].save_pretrained(folder)
    words.save_pretrained(folder)
    return Model(name=str(folder)), head


@pytest.mark.parametrize("architecture", FAMILIES)
def test_added_tokens_get_embeddings(architecture: str, folders: dict[str, Path], tmp_path: Path) -> None:
    import transformers

    settings, head = pretrained(architecture, folders["bpe"], tmp_path / "before")
    before, _ = load_model(settings, head, load_tokenizer(settings), 0)
    tokenizer = load_tokenizer(settings)
    known = len(tokenizer)
    added = tokenizer.add_tokens(["<user>", "<assistant>", "<system>"], special_tokens=True)
    model, fresh = load_model(settings, head, tokenizer, 0, added)
    table = model.get_input_embeddings().weight
    assert fresh == [] and table.shape[0] == known + 3 == model.config.vocab_size
    assert table[:known].equal(before.get_input_embeddings().weight)
    assert (table.data_ptr() == model.get_output_embeddings().weight.data_ptr()) == (architecture != "llama")
    mean, spread = table[:known].mean(dim=0), table[:known].std(dim=0)
    assert ((table[known:] - mean).abs() < spread).all()
    again, _ = load_model(settings, head, tokenizer, 0, added)
    assert again.get_input_embeddings().weight.equal(table)
    ids = torch.tensor([[5, known, known + 2, 6]])
    with torch.no_grad():
        logits = model.eval()(input_ids=ids, labels=ids).logits
        assert logits.shape[-1] == known + 3
        model.save_pretrained(tmp_path / "after")
        reopened = getattr(transformers, head).from_pretrained(tmp_path / "after").eval()
        assert reopened(input_ids=ids, labels=ids).logits.equal(logits)


def test_spare_embeddings_are_used_before_new_ones_are_made(folders: dict[str, Path], tmp_path: Path) -> None:
    """Many models have a few rows more than their tokenizer has tokens."""
    settings, head = pretrained("gpt2", folders["bpe"], tmp_path / "spare", vocab_size=336)
    tokenizer = load_tokenizer(settings)
    added = tokenizer.add_tokens(["<user>", "<assistant>"])
    assert load_model(settings, head, tokenizer, 0, added)[0].get_input_embeddings().num_embeddings == 336


def test_added_tokens_excuse_no_tokenizer_of_another_model(folders: dict[str, Path], tmp_path: Path) -> None:
    settings, head = pretrained("gpt2", folders["bpe"], tmp_path / "one")
    tokenizer = load_tokenizer(settings)
    tokenizer.add_tokens([f"<{number}>" for number in range(5)])
    with pytest.raises(ModelError, match=r"knows 331 tokens, the model .* only 330: they do not belong together"):
        load_model(settings, head, tokenizer, 0, 4)


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_writing_pads_with_the_tokenizers_padding_and_ends_with_its_end(
    architecture: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    settings, head = pretrained(architecture, folders["bpe"], tmp_path / "one")
    for file in ("config.json", "generation_config.json"):
        content = json.loads((tmp_path / "one" / file).read_text()) | {"pad_token_id": 7, "eos_token_id": None}
        (tmp_path / "one" / file).write_text(json.dumps(content))
    tokenizer = load_tokenizer(settings)
    model, _ = load_model(settings, head, tokenizer, 0)
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    content["eos_token_id"] = [2, 9]
    (tmp_path / "one" / "generation_config.json").write_text(json.dumps(content))
    assert load_model(settings, head, tokenizer, 0)[0].generation_config.eos_token_id == [2, 9]


def test_a_tokenizer_of_its_own_choice(tiny_bert: Path, folders: dict[str, Path]) -> None:
    assert len(load_tokenizer(Model(name="new:gpt2", tokenizer="bundled:tokenizer"))) == 2000
    assert load_tokenizer(Model(name=str(tiny_bert), tokenizer=str(folders["bpe"]))).eos_token == "</s>"
    with pytest.raises(ModelError, match=f"the tokenizer of {tiny_bert.parent}/none cannot be loaded"):
        load_tokenizer(Model(name=str(tiny_bert), tokenizer=str(tiny_bert.parent / "none")))


def test_length_limit(tiny_bert: Path) -> None:
    spec = Model(name=str(tiny_bert))
    tokenizer = load_tokenizer(spec)
    model, _ = loaded(spec)
    assert length_limit(tokenizer, model) == 64
    tokenizer.model_max_length = 10
    assert length_limit(tokenizer, model) == 10


def test_length_limit_leaves_out_robertas_two_lost_positions(tiny_bert: Path) -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    tokenizer = load_tokenizer(Model(name=str(tiny_bert)))
    tokenizer.model_max_length = 10**30
    config = RobertaConfig(
        vocab_size=500, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=42
    )
    model = RobertaForSequenceClassification(config).eval()
    limit = length_limit(tokenizer, model)
    assert limit == 40
    model(torch.full((1, limit), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 7))


@pytest.mark.parametrize("architecture", ["bart", "t5"])
def test_a_class_told_by_the_end_token_needs_a_tokenizer_that_ends_texts(architecture: str) -> None:
    spec = Model(name=f"new:{architecture}", tokenizer="bundled:tokenizer")
    tokenizer = load.load_tokenizer(spec)
    with pytest.raises(ModelError, match="does not end texts with it"):
        load.load_model(spec, "AutoModelForSequenceClassification", tokenizer, 0, num_labels=2)
    load.load_model(spec, "AutoModelForSeq2SeqLM", tokenizer, 0)


def test_remarks_of_bitsandbytes_on_other_kernels_are_kept_off() -> None:
    logging.getLogger("bitsandbytes").setLevel(logging.NOTSET)
    with load.quiet():
        pass
    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)
