"""AdaLoRA: steps, penalty and ranks are those of peft used by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from burnish.core.errors import ModelError
from burnish.core.protocols import Course
from burnish.methods.adalora import AdaLora
from burnish.models import blocks

STEPS = 12
METHOD = AdaLora(r=4, target_r=2, warmup=0.2, settled=0.3, every=2, orthogonality=0.4)


@pytest.fixture
def model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **size))


def batch(step: int) -> torch.Tensor:
    return torch.randint(3, 50, (4, 8), generator=torch.Generator().manual_seed(step))


def prepared(model: Any) -> tuple[Any, Any, Any]:
    parts = blocks.anatomy(model)
    torch.manual_seed(3)
    adapted: Any = METHOD.apply(copy.deepcopy(model), parts)
    (allocation,) = METHOD.techniques(adapted, parts, Course(4, STEPS))
    learning = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    return adapted, allocation, torch.optim.AdamW(learning, lr=0.02)


def step_of(adapted: Any, allocation: Any, optimizer: Any, step: int) -> float:
    """As the engine does it: the penalty apart from the loss."""
    allocation.before(step)
    torch.nn.functional.cross_entropy(adapted(batch(step)).logits[:, :-1].flatten(0, 1), batch(step)[:, 1:].flatten()).backward()
    penalty = allocation.differentiated()
    optimizer.step()
    allocation.updated(step)
    optimizer.zero_grad()
    return float(penalty)


def test_training_is_that_of_peft_by_hand(model: Any) -> None:
    adapted, allocation, optimizer = prepared(model)
    theirs, _, other = prepared(model)
    for step in range(STEPS):
        penalty = step_of(adapted, allocation, optimizer, step)
        # peft adds the penalty to the loss within its own forward pass.
        output = theirs.base_model(input_ids=batch(step), labels=batch(step))
        plain = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), batch(step)[:, 1:].flatten())
        assert penalty == pytest.approx(float(output.loss - plain), abs=1e-5)
        output.loss.backward()
        other.step()
        theirs.base_model.update_and_allocate(step)
        other.zero_grad()
    for (name, ours), expected in zip(adapted.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5, msg=name)
    left = sum(int((value != 0).sum()) for name, value in adapted.named_parameters() if "lora_E" in name)
    assert left <= METHOD.target_r * 14 < METHOD.r * 14, "two blocks of seven layers"


def test_going_on_from_what_was_kept_gives_the_same_bits(model: Any) -> None:
    adapted, allocation, optimizer = prepared(model)
    for step in range(7):
        step_of(adapted, allocation, optimizer, step)
    tensors, values = allocation.state()
    assert tensors and values["pattern"]
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    again, resumed, second = prepared(model)
    again.load_state_dict(adapted.state_dict())
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed.restore(kept, copy.deepcopy(values))
    for step in range(7, STEPS):
        assert step_of(adapted, allocation, optimizer, step) == step_of(again, resumed, second, step)
    assert all(one.equal(two) for one, two in zip(adapted.parameters(), again.parameters(), strict=True))


def test_how_long_the_run_is_has_to_be_known(model: Any) -> None:
    parts = blocks.anatomy(model)
    adapted = METHOD.apply(model, parts)
    with pytest.raises(ModelError, match="how many steps"):
        METHOD.techniques(adapted, parts, Course(4, None))
    with pytest.raises(ModelError, match="too few"):
        METHOD.techniques(adapted, parts, Course(1, 1))


def test_the_rank_has_to_fall() -> None:
    with pytest.raises(ValidationError, match="less than r"):
        AdaLora(r=4, target_r=4)
    with pytest.raises(ValidationError, match="leave some steps"):
        AdaLora(warmup=0.5, settled=0.5)


@pytest.mark.parametrize("left_out", [{0}, {7, 8, 9}, set(range(9))])
def test_the_last_cut_is_made_though_updates_are_left_out(model: Any, left_out: set[int]) -> None:
    """As fp16 leaves them out where the gradient overflows: the planned step of the last cut, or all before it."""
    adapted, allocation, optimizer = prepared(model)
    for step in range(STEPS):
        if step not in left_out:
            step_of(adapted, allocation, optimizer, step)
    kept = [int((p != 0).sum()) for name, p in adapted.named_parameters() if "lora_E" in name]
    assert allocation.cut and sum(kept) == METHOD.target_r * len(kept) < METHOD.r * len(kept)
