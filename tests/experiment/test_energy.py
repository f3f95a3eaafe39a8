"""Energy from the machine's counters, where it has any."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.experiment import energy


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "intel-rapl:0"
    folder.mkdir()
    for name, value in (("name", "package-0"), ("max_energy_range_uj", "100000000"), ("energy_uj", "90000000")):
        (folder / name).write_text(f"{value}\n")
    (tmp_path / "intel-rapl:0:0").mkdir()
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return folder


def test_what_a_counter_rises_is_what_was_taken(package: Path) -> None:
    with energy.counted() as found:
        (package / "energy_uj").write_text("95000000")
    assert found.joules == pytest.approx(5.0) and found.sources == ("package-0 (intel-rapl:0)",)


def test_a_counter_that_begins_anew(package: Path) -> None:
    with energy.counted() as found:
        (package / "energy_uj").write_text("2000000")
    assert found.joules == pytest.approx(12.0)


def test_without_a_counter_nothing_is_known(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "energy_uj").unlink()
    with energy.counted() as found:
        pass
    assert found.joules is None
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "nothing")
    monkeypatch.setattr(energy, "NVML", "libno-such.so")
    with energy.counted(gpu=True) as found:
        pass
    assert found.joules is None and found.sources == ()
