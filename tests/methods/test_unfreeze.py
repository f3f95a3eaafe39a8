"""Gradual unfreezing: which parameters move when, and that a resumed run needs no memory of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.core.protocols import Course
from burnish.engine.events import Event, Saved
from burnish.methods.unfreeze import Unfreeze
from burnish.models import blocks
from cases import recipe_of


@pytest.fixture
def model(tiny_bert: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(tiny_bert)


@pytest.mark.parametrize(
    ("every", "blocks_each", "begins"),
    [
        (1.0, 1, {"head": 0, "block 2": 4, "block 1": 8, "embeddings": 12}),
        (0.5, 1, {"head": 0, "block 2": 2, "block 1": 4, "embeddings": 6}),
        (1.0, 2, {"head": 0, "block 2": 4, "block 1": 4, "embeddings": 8}),
    ],
)
def test_parameters_move_from_their_step_on_and_not_before(model: Any, every: float, blocks_each: int, begins: dict[str, int]) -> None:
    parts = blocks.anatomy(model)
    method = Unfreeze(every=every, blocks=blocks_each)
    method.apply(model, parts)
    (thaw,) = method.techniques(model, parts, Course(steps_per_epoch=4, total_steps=16))
    # Decay moves whatever has a gradient, were it zero.
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ids = torch.tensor([[2, 10, 11, 12, 3]])
    for step in range(14):
        thaw.before(step)
        model(ids).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for role, first in begins.items():
            own = [name for name in start if parts.role(name) == role]
            changed = [name for name in own if not model.get_parameter(name).equal(start[name])]
            assert bool(changed) == (step >= first), (step, role)


@pytest.mark.usefixtures("quick")
def test_a_run_stopped_between_two_stages_ends_with_the_same_weights(tiny_bert: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, Saved) and event.step == 3:
            raise Stop

    def made(name: str) -> dict[str, Any]:
        train = {"duration": "6st", "batch_size": 6, "save_every": "1st", "device": "cpu"}  # 2 steps an epoch
        return recipe_of("classify", tiny_bert, tmp_path, method="unfreeze", train=train, run=str(tmp_path / name))

    whole = load_file(burnish.train(made("whole")).folder.model / "model.safetensors")
    with pytest.raises(Stop):
        burnish.train(made("stopped"), listeners=[stop])
    resumed = load_file(burnish.resume(tmp_path / "stopped").folder.model / "model.safetensors")
    assert all(tensor.equal(resumed[name]) for name, tensor in whole.items())
    first = load_file(tiny_bert / "model.safetensors")
    assert whole["bert.embeddings.word_embeddings.weight"].equal(first["embeddings.word_embeddings.weight"]), "its time comes at step 6"
    for block, moves in ((0, True), (1, True)):
        name = f"encoder.layer.{block}.output.dense.weight"
        assert (not whole[f"bert.{name}"].equal(first[name])) == moves
