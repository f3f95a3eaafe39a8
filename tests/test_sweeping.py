"""`burnish sweep` at the command line: every setting is an option, and what a user can mend is told before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from burnish import cli
from burnish.cli.sweeping import SETTINGS
from burnish.recipe.sweep import Sweep


def run(*words: object) -> int:
    try:
        return cli.guarded(lambda: cli.app([str(word) for word in words], standalone_mode=True))
    except SystemExit as exit_:
        return int(exit_.code or 0)


@pytest.fixture
def recipe(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> Path:
    raw = {"model": str(tiny_bert), "task": "classify", "data": {"train": str(rows_csv), "validation": "25%"}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**raw, "train": {"duration": "1st", "device": "cpu"}, "method": {"choice": ["head", "norms"]}}))
    return path


def test_every_setting_of_a_search_is_an_option_and_a_key() -> None:
    assert SETTINGS.keys() == Sweep.model_fields.keys()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["method=full"], "nothing is to be searched"),
        (["method={choice: [head, nroms]}"], "did you mean `norms`?"),
        (["--sampler", "tpee"], "`sweep.sampler`: input should be 'tpe', 'random' or 'grid'"),
        (["--metric", "acuracy"], "did you mean `accuracy`?"),
        (["--storage", "nonsense"], "the study nonsense cannot be opened"),
    ],
)
def test_faults_are_told_with_exit_code_2(recipe: Path, tmp_path: Path, capsys: Any, words: list[str], told: str) -> None:
    assert run("sweep", recipe, "-o", tmp_path / "s", *words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_sweep_prints_what_it_found_and_where(recipe: Path, tmp_path: Path, capsys: Any) -> None:
    assert run("sweep", recipe, "--sampler", "grid", "--seeds", 1, "-o", tmp_path / "s") == 0
    out = capsys.readouterr().out
    assert "2 trials for the highest accuracy on validation (grid, median pruning, seed 0)" in out
    assert "method=norms" in out and "best of 2 on validation" in out and "fresh seeds 1, validation" in out
    assert (tmp_path / "s" / "best.yaml").is_file() and f"{tmp_path}/s/index.html" in out


def test_a_faulty_search_loads_nothing_heavy(recipe: Path, tmp_path: Path) -> None:
    script = "import sys\nfrom burnish import cli\ncode = cli.guarded(lambda: cli.app(sys.argv[1:]))\nprint(code, 'torch' in sys.modules)"
    command = [sys.executable, "-c", script, "sweep", str(recipe), "method=full", "-o", str(tmp_path / "s")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "2 False\n"
    assert not (tmp_path / "s").exists()
