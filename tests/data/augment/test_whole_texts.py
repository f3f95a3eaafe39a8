"""Texts that are written anew as a whole: by two models that translate there and back, and by a function of the user's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from burnish.core.errors import DataError
from burnish.core.passage import around, fixed_extents, written
from burnish.data.augment import translation
from burnish.data.augment.material import Material
from burnish.data.augment.paraphrase import Paraphrase
from burnish.data.augment.translation import BackTranslation
from burnish.data.augment.whole import refitted

TEXTS = ["the kettle is lovely", "my parcel was late", "a candle", "  the kettle is broken \n"]


def test_a_new_text_is_taken_where_what_is_fixed_stands_in_it_once_and_in_order() -> None:
    passage = around(" Anna saw Paris. ", [(1, 5), (10, 15)])
    found = refitted(passage, "It was Anna who visited Paris\n")
    assert found is not None and written(found) == " It was Anna who visited Paris "
    assert [written(found)[start:end] for start, end in fixed_extents(found)] == ["Anna", "Paris"]
    for wrong in ("Paris saw Anna", "Anna saw Anna in Paris", "Anna saw Parisians", "Anna saw London", "  "):
        assert refitted(passage, wrong) is None
    assert refitted(around("  "), "text") is None


@pytest.fixture
def pair(tiny_t5: Path, tmp_path: Path) -> dict[str, str]:
    """A model that has learned nothing, but must not be silent."""
    folder = shutil.copytree(tiny_t5, tmp_path / "talking-t5")
    config = json.loads((folder / "config.json").read_text())
    settings = folder / "generation_config.json"
    silence = {"suppress_tokens": [config["pad_token_id"], config["eos_token_id"]]}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **silence}))
    lengths = folder / "tokenizer_config.json"
    lengths.write_text(json.dumps({**json.loads(lengths.read_text()), "model_max_length": 300}))
    return {"there": str(folder), "back": str(folder)}


@pytest.fixture
def cached(material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Material:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return replace(material, texts=lambda: TEXTS)


@pytest.mark.usefixtures("quick")
def test_translations_are_made_once_told_and_remembered(
    pair: dict[str, str], cached: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int, int]] = []
    spec = BackTranslation(**pair, variants=2)
    spec.build(replace(cached, tell=lambda *facts: told.append(facts)))
    assert told == [("texts translated", 4, 12), ("texts translated", 8, 12), ("texts translated", 12, 12)]
    (kept,) = (tmp_path / "cache" / "translations").iterdir()
    table = json.loads(kept.read_text())
    assert set(table) <= {text.strip() for text in TEXTS} and all(len(variants) == 2 for variants in table.values())
    kept.unlink()
    spec.build(cached)
    assert json.loads(next((tmp_path / "cache" / "translations").iterdir()).read_text()) == table, "made again they are the same"
    monkeypatch.setattr(translation.Translator, "opened", lambda *given: pytest.fail("the models are asked again"))
    change = spec.build(cached)
    text = max(table, key=lambda text: len(set(table[text])))
    drawn = {written(change(around(text), np.random.default_rng(draw))).strip() for draw in range(20)}
    assert drawn == set(table[text])
    assert written(change(around("a text that no row has"), np.random.default_rng(0))) == "a text that no row has"


@pytest.mark.usefixtures("quick")
def test_the_way_there_is_what_transformers_writes(pair: dict[str, str], cached: Material) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(pair["there"]), AutoTokenizer.from_pretrained(pair["there"])
    translator = translation.Translator.opened(pair["there"], "cpu")
    found = translator.translations([TEXTS[0], None, "word " * 600], 0.0, [0, 0], translation.Telling(cached, 0, 3))
    ids = tokenizer(TEXTS[0], return_tensors="pt")
    longest = min(translator.limit - 1, 2 * ids["input_ids"].shape[1] + 16)
    expected = tokenizer.decode(model.generate(**ids, do_sample=False, num_beams=1, max_new_tokens=longest)[0], skip_special_tokens=True)
    assert found == [expected.strip(), None, None]


def test_drawing_translations_leaves_the_generators_alone(pair: dict[str, str], cached: Material) -> None:
    import torch

    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    BackTranslation(**pair).build(cached)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_models_that_cannot_be_loaded_and_settings_that_contradict(cached: Material, tiny_bert: Path) -> None:
    with pytest.raises(DataError, match="back_translation: the model nobody/nothing cannot be loaded"):
        BackTranslation(there="nobody/nothing", back="nobody/nothing").build(cached)
    with pytest.raises(DataError, match="cannot be loaded as an encoder-decoder"):
        BackTranslation(there=str(tiny_bert), back=str(tiny_bert)).build(cached)
    with pytest.raises(ValidationError, match="at temperature 0 all variants are the same"):
        BackTranslation(there="a", back="b", variants=2, temperature=0)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Paraphrase]:
    (tmp_path / "own_words.py").write_text(
        "def shout(text, draw):\n    return text.upper() + '!' * int(draw.integers(1, 4))\n"
        "def fail(text, draw):\n    raise KeyError('no word')\n"
        "def number(text, draw):\n    return 3\n"
        "constant = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name: Paraphrase(callable=f"own_words:{name}")


def test_a_function_of_ones_own_writes_the_text(own: Any, material: Material) -> None:
    change = own("shout").build(material)
    texts = [written(change(around("a kettle"), np.random.default_rng(draw))) for draw in range(20)]
    assert set(texts) == {"A KETTLE!", "A KETTLE!!", "A KETTLE!!!"}
    fixed = around("see Anna", [(4, 8)])
    assert change(fixed, np.random.default_rng(0)) == fixed, "ANNA is not Anna"


def test_functions_that_are_none_or_fail_are_told(own: Any, material: Material) -> None:
    for name, message in (("nothing", "cannot be imported: .*nothing.*PYTHONPATH"), ("constant", "is int and no function")):
        with pytest.raises(DataError, match=message):
            own(name).build(material)
    with pytest.raises(DataError, match="no_such_module"):
        Paraphrase(callable="no_such_module:f").build(material)
    for name, message in (("fail", r"failed on 'a kettle': KeyError"), ("number", "gave int where a text is expected")):
        with pytest.raises(DataError, match=message):
            own(name).build(material)(around("a kettle"), np.random.default_rng(0))
    with pytest.raises(ValidationError):
        Paraphrase(callable="os.system")
