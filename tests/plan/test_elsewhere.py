"""The time of a run on a machine that is not here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from burnish.plan.elsewhere import forecast_on
from burnish.plan.machines import named
from burnish.plan.time import UTILISATION
from burnish.plan.work import Work
from burnish.recipe import load
from burnish.run.planning import work_of
from burnish.run.surveying import survey
from cases import recipe_of


@pytest.fixture
def work(tiny_llama: Path, tmp_path: Path) -> Work:
    recipe = load(recipe_of("chat", tiny_llama, tmp_path))
    return work_of(recipe, survey(recipe), "cuda")


def test_large_work_goes_at_a_share_of_the_peak_and_devices_share_it(work: Work) -> None:
    large = replace(work, operations=1e15)
    one, eight = forecast_on(large, named("1xA100")), forecast_on(large, named("8xA100"))
    assert one is not None
    assert eight is not None
    assert one.step == pytest.approx(1e15 / (19.5e12 * UTILISATION), rel=1e-3)
    assert one.step / eight.step == pytest.approx(8, rel=1e-3)
    half = forecast_on(replace(large, precision="bf16"), named("1xA100"))
    assert half is not None
    assert one.step / half.step == pytest.approx(312 / 19.5, rel=1e-2)


def test_a_small_step_waits_for_its_kernels(work: Work) -> None:
    found = forecast_on(work, named("1xH100"))
    assert found is not None
    assert found.step > 10 * work.operations / 67e12


def test_where_only_the_memory_is_named_no_time_is_told(work: Work) -> None:
    assert forecast_on(work, named("1x24GB")) is None
