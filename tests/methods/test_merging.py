"""What was learned beside the weights goes into them and out of them again without changing what the model says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import burnish
from burnish.core.errors import BurnishError
from burnish.core.protocols import Anatomy
from burnish.methods import adalora, ia3, lora, orthogonal, pissa, structured
from burnish.models import blocks
from burnish.run.merging import merge
from cases import recipe_of

FAMILY: dict[str, Any] = {
    "lora": lora.Lora(r=2),
    "dora": lora.Dora(r=2),
    "rslora": lora.RsLora(r=2),
    "pissa": pissa.Pissa(r=2),
    "adalora": adalora.AdaLora(r=4, target_r=2),
    "ia3": ia3.IA3(),
    "vera": structured.Vera(r=8),
    "loha": structured.LoHa(r=2),
    "lokr": structured.LoKr(r=2),
    "fourierft": structured.FourierFT(frequencies=40),
    "ln_tuning": structured.LayerNormTuning(),
    "oft": orthogonal.Oft(block=8),
}
IDS = torch.tensor([[5, 20, 21, 22, 6], [5, 30, 31, 32, 6]])


def classifier(folder: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def causal(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def seq2seq(folder: Path) -> Any:
    from transformers import AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


MODELS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "bert": ("tiny_bert", classifier),
    "llama": ("tiny_llama", causal),
    "t5": ("tiny_t5", seq2seq),
}


def logits(model: Any) -> torch.Tensor:
    further = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model.eval()(input_ids=IDS, **further).logits


def parts(model: Any) -> Anatomy:
    found = blocks.anatomy(model)
    return replace(found, fresh=found.head) if "Classification" in type(model).__name__ else found


def shaken(model: Any) -> torch.Tensor:
    """What a model says after everything that learns was moved."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return logits(model)


@pytest.mark.parametrize("kind", sorted(MODELS))
@pytest.mark.parametrize("name", sorted(FAMILY))
def test_merged_weights_say_what_the_adapter_said(name: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fixture, opened = MODELS[kind]
    source = request.getfixturevalue(fixture)
    method, model = FAMILY[name], opened(source)
    before = logits(model)
    adapted = method.apply(model, parts(model))
    torch.testing.assert_close(logits(adapted), before, rtol=1e-5, atol=1e-5)
    expected = shaken(adapted)
    assert (expected - before).abs().max() > 1e-3
    linked, written = tmp_path / "linked", tmp_path / "written"
    method.save(adapted, linked, [source / "model.safetensors"])
    method.save(adapted, written, None)
    torch.testing.assert_close(logits(adapted), expected, rtol=0, atol=0)
    for folder in (linked, written):
        torch.testing.assert_close(logits(method.open(folder, opened)), expected, rtol=1e-5, atol=1e-5)
        plain = method.merged(folder, opened)
        assert not any("lora" in found or "adapter" in found for found, _ in plain.named_parameters())
        plain.save_pretrained(tmp_path / "plain")
        assert not (tmp_path / "plain" / "adapter_config.json").exists()
        torch.testing.assert_close(logits(opened(tmp_path / "plain")), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_what_was_merged_comes_out_again(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    method, model = FAMILY[name], causal(tiny_llama)
    adapted: Any = method.apply(model, parts(model))
    expected = shaken(adapted)
    weights = {found: tensor.clone() for found, tensor in adapted.state_dict().items()}
    adapted.merge_adapter()
    torch.testing.assert_close(logits(adapted), expected, rtol=1e-5, atol=1e-5)
    if name != "ln_tuning":  # whose merging swaps modules: there is no sum that could differ
        assert any(not tensor.equal(weights[found]) for found, tensor in adapted.state_dict().items())
    adapted.unmerge_adapter()
    torch.testing.assert_close(logits(adapted), expected, rtol=1e-5, atol=1e-5)
    for found, tensor in adapted.state_dict().items():
        torch.testing.assert_close(tensor, weights[found], rtol=1e-5, atol=1e-5, msg=found)


def test_only_folders_that_transformers_reads_rightly_look_like_its_own(tiny_bert: Path, tmp_path: Path) -> None:
    """Of DoRA and VeRA it would make something else, silently or not at all: it is not to find weights beside the adapter."""
    from transformers import AutoModelForSequenceClassification

    for name, method in FAMILY.items():
        adapted = method.apply(model := classifier(tiny_bert), parts(model))
        expected = shaken(adapted)
        method.save(adapted, tmp_path / name, [tiny_bert / "model.safetensors"])
        if name in ("dora", "vera"):
            with pytest.raises((OSError, ValueError)):
                AutoModelForSequenceClassification.from_pretrained(tmp_path / name)
        else:
            again = AutoModelForSequenceClassification.from_pretrained(tmp_path / name)
            torch.testing.assert_close(logits(again), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("quick")
def test_a_run_is_merged(tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = burnish.train(
        recipe_of("classify", tiny_bert, tmp_path, method={"name": "lora", "r": 2}, optimizer={"name": "adamw", "lr": 0.05})
    )
    asked = "where is the lamp?"
    expected = run.predict([asked])[0]["probabilities"]
    merge(run.path, tmp_path / "merged")
    tokenizer, model = (
        AutoTokenizer.from_pretrained(tmp_path / "merged"),
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged"),
    )
    with torch.no_grad():
        found = model(**tokenizer(asked, return_tensors="pt")).logits.softmax(dim=-1)[0]
    for index, label in model.config.id2label.items():
        assert float(found[index]) == pytest.approx(expected[label], abs=1e-5)
    with pytest.raises(BurnishError, match="merged exists"):
        merge(run.path, tmp_path / "merged")
    merge(run.path, tmp_path / "merged", overwrite=True)
    with pytest.raises(BurnishError, match="within the run itself"):
        merge(run.path, run.path / "model", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BurnishError, match="holds no model"):
        merge(run.path, tmp_path / "mine", overwrite=True)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("adapters", "with a bend in the middle"),
        ({"name": "prompt_tuning", "virtual_tokens": 2}, "virtual tokens"),
        ("head", "plain weights already"),
    ],
)
def test_what_is_no_update_of_weights_is_not_merged(method: Any, reason: str, tiny_bert: Path, tmp_path: Path) -> None:
    run = burnish.train(recipe_of("classify", tiny_bert, tmp_path, method=method, train={"duration": "1st", "device": "cpu"}))
    with pytest.raises(BurnishError, match=reason):
        merge(run.path, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.usefixtures("quick")
def test_the_command(tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from burnish.cli import app, guarded

    run = burnish.train(recipe_of("classify", tiny_bert, tmp_path, method="ia3", train={"duration": "1st", "device": "cpu"}))
    target = str(tmp_path / "merged")

    def command() -> int:
        return guarded(lambda: app(["merge", str(run.path), "-o", target], standalone_mode=False))

    assert command() == 0 and (tmp_path / "merged" / "model.safetensors").is_file()
    assert command() != 0 and "exists" in capsys.readouterr().err
