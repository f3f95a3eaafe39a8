"""Every recipe of this repository passes `burnish check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.experiment.check import check

RECIPES = sorted((Path(__file__).parents[3] / "recipes").rglob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_the_repository_passes(recipe: Path, tmp_path: Path) -> None:
    found = check(recipe, [f"run={tmp_path / 'run'}"])
    assert found.passed, found.sentences()
    assert {finding.name for finding in found.of("pass")} >= {"gradients", "first loss", "numbers", "trainable parameters", "lengths"}
