"""Operations by formula against those that torch counts while real steps are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from burnish import build
from burnish.core.protocols import Course
from burnish.plan import flops
from burnish.plan.flops import Block, Network, Texts
from burnish.recipe import load
from burnish.run.forecasting import network_of
from burnish.run.rehearsal import Stage
from burnish.run.savings import read_share
from burnish.run.stepping import make_step
from cases import recipe_of


def attended(products: int) -> Callable[..., int]:
    """Operations of torch's attention on a CPU, which its counter does not know: `products` of (B, H, Q, D) with (B, H, T, D)."""

    def count(*sizes: Any, out_shape: Any = None, **named: Any) -> int:
        query, key = sizes[products == 5], sizes[1 + (products == 5)]
        return products * 2 * query[0] * query[1] * query[2] * key[2] * query[3]

    return count


CLOSE, ROUGH = 0.02, 0.05
"""Where two stacks meet, what is spared below the lowest of them that learns, and what of a block is computed again, is told roughly."""

UNKNOWN = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attended(2),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attended(5),
}

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "padded": {"engine": {"savings": {"unpadded": False}}},
    "whole": {"engine": {"savings": {"trimmed": False}}},
    "lora": {"method": {"name": "lora", "r": 4}},
    "freeze": {"method": {"name": "freeze", "blocks": 1}, "engine": {"savings": {"frozen_prefix": False}}},
    "ahead": {"method": {"name": "freeze", "blocks": 1}},
    "again": {"train": {"duration": "4st", "batch_size": 8, "checkpoint_blocks": 1, "device": "cpu"}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("task", "model"), [("classify", "tiny_bert"), ("tag", "tiny_bert"), ("chat", "tiny_llama"), ("rewrite", "tiny_t5")]
)
def test_the_formulas_count_what_torch_counts(
    task: str, model: str, way: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    settings = {name: dict(value) for name, value in WAYS[way].items()}
    settings["engine"] = {**settings.get("engine", {}), "prepacked": False}
    recipe = load(recipe_of(task, request.getfixturevalue(model), tmp_path, **settings))
    parts = build.assemble(recipe, build.gather(recipe), lambda message: None)
    lengths = parts.examples["train"].lengths
    alike = [int(index) for index in range(len(lengths)) if lengths[index] == lengths[0]]
    order = build.order(parts)
    step = make_step(parts, Course(order.steps_per_epoch, 4))
    stage = Stage(parts, step, order, network_of(parts), read_share(parts, order), tmp_path)
    prepared = step.preparation(0, alike, step.budget)
    with FlopCounterMode(display=False, custom_mapping=UNKNOWN) as counter:
        step.attempt(prepared)
    counted, expected = counter.get_total_flops(), flops.step(stage.network, exactly(stage, prepared))
    assert expected == pytest.approx(counted, rel=ROUGH if parts.model.config.is_encoder_decoder else CLOSE)


def exactly(stage: Stage, prepared: Any) -> Sequence[Texts]:
    """The micro-batches with the positions that are really read."""
    found = []
    for group, batch in zip(prepared.groups, prepared.batches, strict=True):
        texts = stage.texts(prepared.chosen[0], [prepared.chosen[1][at] for at in group])
        read = float(batch.read.sum()) if batch.read is not None else float(sum(texts.lengths))
        if not stage.network.head_rows:
            read = float(len(texts.lengths))
        found.append(Texts(texts.lengths, read, texts.sources))
    return found


def test_a_model_that_learns_whole_takes_six_operations_for_each_number_and_token() -> None:
    """Kaplan et al. 2020: 2 N forward, 4 N backward, attention aside."""
    network = Network([Block(1000, 1000)] * 3, width=0, head=500, head_learning=500)
    assert flops.step(network, [Texts([7, 9], read=16.0)]) == 6 * 3500 * 16


def test_attention_grows_with_the_square_of_lengths() -> None:
    network = Network([Block(0, 0)], width=64, head=0, head_learning=0)
    one, two = (flops.forward(network, Texts([length], read=0.0)) for length in (100, 200))
    assert (one, two) == (4 * 64 * 100**2, 4 * one)


def test_where_nothing_learns_below_no_gradient_goes_down() -> None:
    still, learning = Block(1000, 0), Block(1000, 1000, entry=300)
    frozen = Network([still, learning], width=0, head=0, head_learning=0, below=False)
    assert flops.backward(frozen, Texts([10], read=10.0)) == 2 * 10 * (1000 + 1000 - 300)
