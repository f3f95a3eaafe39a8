"""Machines by name."""

from __future__ import annotations

import pytest

from burnish.core.errors import BurnishError
from burnish.plan.machines import GIB, named


@pytest.mark.parametrize(
    ("text", "devices", "gib", "kind"),
    [
        ("8xH100", 8, 80, "cuda"),
        ("H100", 1, 80, "cuda"),
        ("2xA100-40GB", 2, 40, "cuda"),
        ("2 x A100 40GB", 2, 40, "cuda"),
        ("a100-80gb", 1, 80, "cuda"),
        ("1x24GB", 1, 24, "cuda"),
        ("16GiB", 1, 16, "cuda"),
        ("1x24 gb", 1, 24, "cuda"),
        ("4×12.5GB", 4, 12.5, "cuda"),
        ("M2-16GB", 1, 16, "mps"),
        ("m4-max", 1, 36, "mps"),
        ("V100-16GB", 1, 16, "cuda"),
        ("NVIDIA GeForce RTX 4090", 1, 24, "cuda"),
        ("3xrtx_3090", 3, 24, "cuda"),
    ],
)
def test_names_of_machines(text: str, devices: int, gib: float, kind: str) -> None:
    found = named(text)
    assert (found.devices, found.memory, found.kind) == (devices, int(gib * GIB), kind)


def test_a_known_card_keeps_its_rates_under_another_memory() -> None:
    assert named("V100-32GB").bf16 == named("V100-16GB").bf16 > 0
    assert named("24GB").bf16 == 0
    assert named("M2-16GB").usable == 12 * GIB < named("M2-16GB").memory


@pytest.mark.parametrize("text", ["8xH1000", "0xH100", "x", "", "1x0GB", "-1xH100", "H100-0GB", "A100-many"])
def test_a_name_that_means_nothing_is_refused_with_what_may_be_said(text: str) -> None:
    with pytest.raises(BurnishError, match=r"there is no machine .*1x24GB, 4x80GB.*known: H200"):
        named(text)


def test_the_nearest_card_is_asked_for() -> None:
    with pytest.raises(BurnishError, match=r"did you mean `RTX4090`\? Write how many"):
        named("2xRTX409")
