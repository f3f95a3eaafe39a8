"""What optimizers keep, against what torch's and bitsandbytes' own really do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from burnish.optim.eight_bit import AdamW8bit, Lion8bit
from burnish.optim.lion import Lion
from burnish.optim.optimizers import SGD, Adafactor, Adam, AdamW, RMSprop
from burnish.plan.moments import state_bytes

SHAPES = [(64, 96), (96,), (3, 5), (8192,), (33, 257)]


def held(optimizer: Any, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> int:
    """Bytes of the state after one step, without scalars and tables that all parameters share."""
    parameter = torch.nn.Parameter(torch.randn(shape, dtype=dtype))
    built = optimizer.build([{"params": [parameter]}])
    parameter.grad = torch.randn_like(parameter)
    built.step()
    tensors = [value for value in built.state[parameter].values() if isinstance(value, torch.Tensor) and value.dim() > 0]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.shape != (256,) or shape == (256,))


@pytest.mark.parametrize("optimizer", [AdamW(), Adam(), SGD(), RMSprop(), Adafactor(), Lion()], ids=lambda one: str(one.name))
@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_are_those_of_the_optimizer_itself(optimizer: Any, shape: tuple[int, ...]) -> None:
    assert state_bytes(optimizer, shape, 4) == held(optimizer, shape)


@pytest.mark.parametrize("optimizer", [AdamW8bit(), Lion8bit()], ids=lambda one: str(one.name))
@pytest.mark.parametrize("shape", [(64, 96), (96,), (8192,), (16, 512)])
def test_eight_bits_keep_a_byte_and_a_scale_for_each_block(optimizer: Any, shape: tuple[int, ...]) -> None:
    pytest.importorskip("bitsandbytes")
    assert state_bytes(optimizer, shape, 4) == held(optimizer, shape)


@pytest.mark.parametrize("optimizer", [SGD(momentum=0.0), RMSprop(momentum=0.5, centered=True), RMSprop(momentum=0.5)])
def test_settings_decide_how_much_is_kept(optimizer: Any) -> None:
    assert state_bytes(optimizer, (64, 96), 4) == held(optimizer, (64, 96))


def test_moments_are_in_the_format_of_the_weights() -> None:
    assert state_bytes(AdamW(), (64, 96), 2) == held(AdamW(), (64, 96), torch.bfloat16)
