"""When training turns its knobs, how far, and that a run that is gone on with turns them the same; torch's own scheduler as the oracle."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from burnish.core.errors import RunError
from burnish.engine.control import DECAY, DROPOUT, RATE, Dynamic, Knob, Moving, Panel, Replaying, Steps, Watch, moves_of
from burnish.engine.events import Moved


@dataclass
class Raisable:
    """Stands where a model's dropouts stand."""

    least: float | None = 0.1
    raised: list[tuple[float, float]] = field(default_factory=list)

    def raise_by(self, amount: float, most: float) -> None:
        self.raised.append((amount, most))


def panel_of(least: float | None = 0.1, decays: Sequence[float] = (0.01, 0.0)) -> Panel:
    groups: list[dict[str, Any]] = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for lr, decay in zip((1.0, 0.5), decays, strict=True)
    ]
    return Panel(torch.optim.AdamW(groups), Raisable(least))


def control(panel: Panel | None = None, **settings: Any) -> Moving:
    made = Dynamic(**settings).technique(panel or panel_of(), {"loss": False, "accuracy": True})
    assert isinstance(made, Moving)
    return made


def rates(panel: Panel, factor: float = 1.0) -> list[float]:
    for group in panel.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return [group["lr"] for group in panel.optimizer.param_groups]


def after(moving: Any, step: int, factor: float = 1.0) -> list[float]:
    """The learning rates of update `step`, as the step sets them and the technique turns them."""
    rates(moving.panel, factor)
    moving.before(step)
    return [group["lr"] for group in moving.panel.optimizer.param_groups]


VALUES = [0.9, 0.8, 0.85, 0.81, 0.79, 0.79, 0.795, 0.9, float("nan"), 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.69, 0.7, 0.71, 0.72]


@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize(("metric", "mode"), [("loss", "min"), ("accuracy", "max")])
@pytest.mark.parametrize("delta", [0.0, 0.015])
def test_a_plateau_is_what_torch_takes_for_one(patience: int, metric: str, mode: str, delta: float) -> None:
    moving = control(metric=metric, patience=patience, min_delta=delta, lr_factor=0.5, lr_min=0.05, dropout_step=0, weight_decay_factor=1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, factor=0.5, patience=patience - 1, threshold=delta, threshold_mode="abs", min_lr=0.05, eps=0
    )
    found = []
    for step, value in enumerate(VALUES, start=1):
        moving.evaluated(step, {"loss": value, "accuracy": value}, 0.5)
        peer.step(value)
        found.append(after(moving, step)[0])
        assert found[-1] == pytest.approx(peer.get_last_lr()[0]), step
    assert found[-1] < 1


def test_a_gap_that_grows_makes_a_move_and_is_measured_anew() -> None:
    watch = Watch("loss", False, gap=0.1, window=2)
    validation = [0.7, 0.7, 0.7, 0.7, 0.7, 0.7]
    training = [0.7, 0.65, 0.58, 0.55, 0.50, 0.40]
    seen = [watch.see({"loss": value}, told) for value, told in zip(validation, training, strict=True)]
    assert [reason is not None for reason in seen] == [False, False, True, False, False, True]
    assert seen[2] == "validation loss grew 0.12 away from training loss in 2 evaluations"


def test_a_gap_that_does_not_grow_is_none() -> None:
    watch = Watch("loss", False, gap=0.1)
    assert [watch.see({"loss": loss}, loss - 0.5) for loss in (2.0, 1.0, 0.5, 0.9)] == [None] * 4


def test_patience_and_gap_together_make_one_move() -> None:
    watch = Watch("loss", False, patience=1, gap=0.1)
    assert watch.see({"loss": 1.0}, 1.0) is None
    assert (
        watch.see({"loss": 1.0}, 0.5)
        == "loss no better than 1 in 1 evaluation and validation loss grew 0.5 away from training loss in 1 evaluation"
    )


def test_each_knob_stops_at_its_bound() -> None:
    panel = panel_of(least=0.1, decays=(0.02, 0.0))
    steps = Steps(0.5, 0.3, 0.1, 0.25, 2.0, 0.05)
    knobs: dict[str, Knob] = {}
    history = []
    for _ in range(4):
        made = steps.after(knobs, panel)
        knobs |= made
        history.append({what: knob.value for what, knob in made.items()})
    assert history == [
        {RATE: 0.5, DROPOUT: 0.1, DECAY: 2.0},
        {RATE: 0.3, DROPOUT: pytest.approx(0.15), DECAY: 2.5},
        {},
        {},
    ]


def test_what_is_not_there_is_not_turned() -> None:
    steps = Steps(1.0, 0.0, 0.1, 0.25, 2.0, 0.05)
    assert steps.after({}, panel_of(least=None, decays=(0.0, 0.0))) == {}
    assert steps.after({}, panel_of(least=0.4, decays=(0.1, 0.0))) == {}


def test_a_move_acts_on_every_group_and_on_the_schedule() -> None:
    panel = panel_of(decays=(0.01, 0.0))
    moving = control(panel, patience=1, lr_factor=0.5, dropout_step=0.05, dropout_max=0.3, weight_decay_factor=2, weight_decay_max=1)
    moving.evaluated(1, {"loss": 1.0}, 1.0)
    moving.evaluated(2, {"loss": 1.0}, 1.0)
    assert after(moving, 2, factor=0.8) == pytest.approx([0.4, 0.2])
    assert after(moving, 3, factor=0.6) == pytest.approx([0.3, 0.15])
    assert [group["weight_decay"] for group in panel.optimizer.param_groups] == [0.02, 0.0]
    assert panel.dropouts.raised == [(0.05, 0.3)] * 2  # type: ignore[attr-defined]


def test_moves_are_told_once_as_the_next_step_begins() -> None:
    moving, told = control(patience=1, dropout_step=0, weight_decay_factor=1), list[Moved]()
    moving.announce(told.append)
    for step in (4, 8):
        moving.evaluated(step, {"loss": 1.0}, 1.0)
    assert told == []
    moving.before(8)
    moving.before(9)
    assert [(move.step, move.what, move.before, move.after) for move in told] == [(8, RATE, 1.0, 0.5)]
    assert told[0].why == "loss no better than 1 in 1 evaluation"


@pytest.mark.parametrize("stop", range(1, len(VALUES)))
def test_restored_it_goes_on_as_if_unbroken(stop: int) -> None:
    settings = {"patience": 2, "gap": 0.08, "window": 2, "lr_min": 0.001}
    whole, first, told = control(**settings), control(**settings), list[Any]()
    again = control(**settings)
    whole.announce(told.append)
    for step, value in enumerate(VALUES, start=1):
        whole.evaluated(step, {"loss": value}, 0.7)
        expected = after(whole, step)
        broken = first if step <= stop else again
        broken.evaluated(step, {"loss": value}, 0.7)
        if step == stop:
            tensors, values = first.state()
            again.restore(tensors, json.loads(json.dumps(values)))
            pending: list[Any] = []
            again.announce(pending.append)
            assert after(again, step) == expected
            assert pending == [move for move in told if move.step == step]
        else:
            assert after(broken, step) == expected, step
    assert told


def test_a_replay_makes_the_same_moves_at_the_same_steps() -> None:
    watching, told = control(patience=1, lr_min=0.001), list[Moved]()
    watching.announce(told.append)
    live = []
    for step, value in enumerate(VALUES, start=1):
        watching.evaluated(step, {"loss": value}, 0.7)
        live.append((after(watching, step), [group["weight_decay"] for group in watching.panel.optimizer.param_groups]))
    again, retold = Replaying(panel_of(), told), list[Moved]()
    again.announce(retold.append)
    replayed = [
        (after(again, step), [group["weight_decay"] for group in again.panel.optimizer.param_groups]) for step in range(1, len(VALUES) + 1)
    ]
    assert replayed == live and retold == told
    assert again.panel.dropouts.raised == watching.panel.dropouts.raised  # type: ignore[attr-defined]


def test_what_watches_or_turns_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="it watches nothing"):
        Dynamic(patience=None)
    with pytest.raises(ValidationError, match="it turns nothing"):
        Dynamic(lr_factor=1, dropout_step=0, weight_decay_factor=1)


def test_a_nan_is_never_better() -> None:
    watch = Watch("loss", False, patience=2)
    assert watch.see({"loss": math.nan}, 1.0) is None
    assert watch.see({"loss": math.nan}, 1.0) is not None
    assert watch.see({"loss": 1.0}, 1.0) is None and watch.best == 1.0


def test_moves_are_read_from_finished_runs_only(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        moves_of(tmp_path)
    (tmp_path / "recipe.yaml").write_text("{}")
    with pytest.raises(RunError, match="is not finished"):
        moves_of(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n')
    with pytest.raises(RunError, match="made no moves"):
        moves_of(tmp_path)
    move = {"step": 1, "what": RATE, "before": 1.0, "after": 0.5, "limit": 0.01, "why": "because"}
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"kind": "move", **move}) + "\n")
    assert moves_of(tmp_path) == [Moved(**move)]  # type: ignore[arg-type]
