"""Optimizers with 8-bit state: near those in full precision, small, bitwise the same after a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from burnish import recipe as recipes
from burnish.core import registry
from burnish.core.errors import RecipeError
from burnish.core.rundir import RunFolder
from burnish.engine import checkpoint
from burnish.engine.progress import Progress
from burnish.optim.eight_bit import AdamW8bit, EightBit, Lion8bit
from burnish.optim.optimizers import AdamW

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.usefixtures("quick")

SPECS: list[EightBit] = [AdamW8bit(lr=1e-2, min_8bit_size=256), Lion8bit(lr=1e-3, min_8bit_size=256)]


def made(spec: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 3))
    parameters = dict(model.named_parameters())
    group = {"params": list(parameters.values()), "names": list(parameters), "lr": spec.lr, "weight_decay": 0.01}
    return model, spec.build([group])


def losses(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> list[float]:
    found = []
    for number in range(first, last):
        inputs = torch.randn(64, 32, generator=torch.Generator().manual_seed(number))
        loss = nn.functional.cross_entropy(model(inputs), (inputs[:, 0] > 0).long() + (inputs[:, 1] > 1).long())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


def test_the_curve_of_adamw8bit_is_that_of_adamw() -> None:
    eight = losses(*made(AdamW8bit(lr=1e-2, min_8bit_size=1)), 0, 60)
    whole = losses(*made(AdamW(lr=1e-2)), 0, 60)
    assert eight == pytest.approx(whole, abs=0.03) and eight != whole
    assert whole[-1] < whole[0] / 2


def test_the_first_step_of_lion_is_the_sign_of_the_gradient() -> None:
    """With an empty mean, w = w (1 - lr decay) - lr sign(g)."""
    spec = Lion8bit(lr=1e-3, min_8bit_size=1)
    model, optimizer = made(spec)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    inputs = torch.randn(8, 32)
    model(inputs).square().sum().backward()
    expected = {name: before[name] * (1 - 1e-3 * 0.01) - 1e-3 * parameter.grad.sign() for name, parameter in model.named_parameters()}
    optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_checkpoint_brings_the_state_back_bit_for_bit(spec: Any, tmp_path: Path) -> None:
    model, optimizer = made(spec)
    losses(model, optimizer, 0, 3)
    folder = RunFolder.create(tmp_path / "run", "task: x", False)
    checkpoint.save(folder, checkpoint.Trained(model, optimizer), Progress(step=3), 1)
    unbroken = losses(model, optimizer, 3, 8)
    again, other = made(spec)
    checkpoint.load(checkpoint.folder_of(folder, 3), checkpoint.Trained(again, other))
    assert losses(again, other, 3, 8) == unbroken
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    for parameter, copy in zip(model.parameters(), again.parameters(), strict=True):
        one, two = optimizer.state[parameter], other.state[copy]
        assert one.keys() == two.keys()
        for entry, value in one.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(two[entry])) and type(value) is type(two[entry]), entry
            assert getattr(value, "dtype", None) == getattr(two[entry], "dtype", None), entry


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_large_parameters_have_their_state_in_bytes_and_small_ones_in_32_bits(spec: Any) -> None:
    model, optimizer = made(spec)
    losses(model, optimizer, 0, 1)
    kinds = {name: optimizer.state[parameter]["state1"].dtype for name, parameter in model.named_parameters()}
    assert kinds == {"0.weight": torch.uint8, "0.bias": torch.float32, "2.weight": torch.float32, "2.bias": torch.float32}


def test_without_the_library_the_recipe_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path, rows_csv: Path) -> None:
    recipe = {"model": str(tiny_bert), "task": "classify", "data": {"train": str(rows_csv)}, "optimizer": "adamw8bit"}
    assert recipes.load(recipe).optimizer.min_8bit_size == 4096
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"burnish\[quantize\]"):
        recipes.load(recipe)
    assert registry.specs("optimizer")["adamw8bit"](name="adamw8bit")  # a run trained with it still opens
