"""The recipe's side of a model: what is plainly wrong is told without loading anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from burnish.core.errors import ModelError
from burnish.models.spec import Model, bundled


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "{tmp}/tiny-brt"}, "does not exist - did you mean `tiny-bert`?"),
        ({"name": "{tmp}"}, "holds no config.json: give the folder of a whole model"),
        ({"name": "{tmp}/tiny-bert/config.json"}, "config.json is a file: give the folder that it is in"),
        ({"name": "./no/such/folder"}, "the folder ./no/such/folder does not exist"),
        ({"name": "starter:minlm"}, "there is no starter `minlm` - did you mean `minilm`?"),
        ({"name": "bundled:tokenizer"}, "holds no config.json"),
        ({"name": "new:llama"}, "new:llama has no tokenizer of its own: say model.tokenizer, such as bundled:tokenizer"),
        ({"name": "new:", "tokenizer": "bundled:tokenizer"}, "new: needs the name of an architecture"),
        ({"name": "new:llama", "tokenizer": "bundled:tokeniser"}, "there is no `bundled:tokeniser` - did you mean `bundled:tokenizer`?"),
        ({"name": "new:llama", "tokenizer": "{tmp}/tiny-brt"}, "`tokenizer`: the folder"),
        ({"name": "new:llama", "tokenizer": "{tmp}"}, "holds no tokenizer: give a folder that save_pretrained made"),
        ({"name": "{tmp}/tiny-bert", "config": {"num_hidden_layers": 1}}, "`config` is for new: and from_scratch models"),
        ({"name": "gpt2", "config": {"n_layer": 1}}, "pretrained weights fit the configuration"),
    ],
)
def test_faults(tiny_bert: Path, settings: dict[str, Any], words: str) -> None:
    filled = {key: value.replace("{tmp}", str(tiny_bert.parent)) if isinstance(value, str) else value for key, value in settings.items()}
    assert words in str(Model(**filled).fault())


def test_two_faults_are_told_together() -> None:
    fault = str(Model(name="./nowhere", tokenizer="./nothing", config={"n_layer": 1}).fault())
    assert "./nowhere" in fault and "./nothing" in fault and "`config`" in fault


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in str(Model(name=str(tmp_path)).fault())


def test_sound_models_have_no_fault(tiny_bert: Path) -> None:
    for settings in (
        {"name": str(tiny_bert)},
        {"name": "google-bert/bert-base-uncased"},
        {"name": "gpt2", "tokenizer": "bundled:tokenizer"},
        {"name": "new:llama", "tokenizer": str(tiny_bert), "config": {"num_hidden_layers": 2}},
        {"name": "new:gpt2", "tokenizer": "openai-community/gpt2"},
        {"name": str(tiny_bert), "from_scratch": True, "config": {"num_hidden_layers": 1}},
    ):
        assert Model(**settings).fault() is None, settings


def test_what_is_fresh() -> None:
    assert Model(name="new:llama").fresh and Model(name="gpt2", from_scratch=True).fresh and not Model(name="gpt2").fresh
    assert Model(name="new:xlm-roberta").architecture == "xlm-roberta" and Model(name="newt/llama").architecture is None


def test_a_hub_model_is_the_only_one_that_asks_the_hub(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path) -> None:
    monkeypatch.setattr("burnish.models.spec.hub_reachable", lambda: False)
    asked = {name: Model(name=name).access()["local_files_only"] for name in ("gpt2", str(tiny_bert), "bundled:tokenizer", "new:gpt2")}
    assert asked == {"gpt2": True, str(tiny_bert): False, "bundled:tokenizer": False, "new:gpt2": False}


def test_the_tokenizer_has_no_revision_of_the_model() -> None:
    opened = Model(name="org/model", revision="abc", tokenizer="org/other").opened_for_tokenizer
    assert (opened.name, opened.revision) == ("org/other", None)
    assert Model(name="org/model", revision="abc").opened_for_tokenizer.access()["revision"] == "abc"


def test_bundled() -> None:
    assert (bundled("bundled:tokenizer") / "tokenizer.json").is_file()
    with pytest.raises(ModelError, match="known: orders-tokenizer, tokenizer"):
        bundled("bundled:messages-train")


def test_it_needs_no_library_of_models() -> None:
    script = "import sys, burnish.models.spec; sys.exit(bool({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
