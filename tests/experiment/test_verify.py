"""`burnish verify`: passes where Burnish is sound, and names the check where something is broken on purpose."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from burnish import build, cli
from burnish.core.verification import Check, Verification
from burnish.engine import checkpoint
from burnish.engine.memory import Recomputed
from burnish.engine.savings import Savings
from burnish.experiment import agreement, keeping, neighbors
from burnish.experiment.agreement import gradient_error, output_error
from burnish.experiment.trial import Setting, Trial
from burnish.experiment.verify import CUT, RECOMPUTED, TOGETHER, Comparable, cuts, kept, memory, savings, trials
from burnish.methods.lora import Lora
from burnish.methods.select import Full
from burnish.models.fast.embedding import Shrinkage
from burnish.models.fast.replay import Replay
from burnish.recipe import Recipe, load
from burnish.run.finding import without_watched
from burnish.tasks.classify import Classifier
from burnish.terminal import show_checks
from cases import CASES, recipe_of

pytestmark = pytest.mark.usefixtures("quick")
Make = Callable[..., Recipe]


def silent(*words: object) -> None:
    """Nobody listens."""


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """The checked recipe of a task on its tiny model: `make("chat", method="lora")`."""

    def made(task: str = "classify", **sections: Any) -> Recipe:
        model = request.getfixturevalue(CASES[task].model)
        return load(recipe_of(task, model, tmp_path, **sections))

    return made


def setting(recipe: Recipe) -> Setting:
    return Setting(build.gather(without_watched(recipe)), silent, silent)


def failing(checks: Any) -> list[str]:
    return [check.name for check in checks if check.faults]


# The whole of it


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = cli.guarded(lambda: cli.app([str(word) for word in words], standalone_mode=True))
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    return code, *capsys.readouterr()


@pytest.fixture
def written(make: Make, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(make("classify").to_yaml())
    return path


def test_a_sound_recipe_passes_every_check(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "verify", written, "--json", "-")
    found = json.loads(out)
    assert (code, found["passed"]) == (0, True), out + err
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert {f"{name}: on against off" for name in Savings.model_fields} | {CUT, TOGETHER, RECOMPUTED} < set(states)
    assert {neighbors.NAME, keeping.RESUMED, keeping.RELOADED, keeping.MERGED} < set(states)
    assert states[CUT] == states["unpadded: on against off"] == states["trimmed: on against off"] == states[keeping.RELOADED] == "pass"
    assert states["frozen_prefix: on against off"].startswith("not used: no block")
    assert states[keeping.MERGED].startswith("does not apply: there is nothing to merge")
    assert not Path(load(written).run or "").exists(), "nothing is left behind"


def test_what_is_broken_is_named_and_gives_exit_code_1(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A neighbor that leaks a hundredth of what it says into the others, in evaluation and in training."""
    honest = Classifier.outputs

    def leaking(self: Classifier, model: Any, batch: Any) -> torch.Tensor:
        found = honest(self, model, batch)
        return found + 0.01 * found.mean(dim=0)

    monkeypatch.setattr(Classifier, "outputs", leaking)
    code, out, _ = run(capsys, "verify", written, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert code == 1 and not found["passed"]
    assert {CUT, neighbors.NAME} <= {check["name"] for check in found["checks"] if check["state"] == "FAIL"}
    assert f"FAIL: {neighbors.NAME}: outputs " in out and "rounding explains at most" in out


def test_a_faulty_recipe_is_refused_with_exit_code_2(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "verify", written, "train.sed=1")
    assert code == 2 and "did you mean `seed`" in err


@pytest.mark.parametrize("task", ["chat", "rewrite", "tag"])
def test_other_tasks_pass_too_with_dropout_on(make: Make, task: str) -> None:
    recipe = make(task, dropout={"all": 0.1})
    own = setting(recipe)
    alike = Comparable.of(recipe, own)
    assert [note[:40] for note in alike.notes] == ["where savings are compared nothing is dr"] and alike.saved.dropout.all == 0.1
    found = list(trials(alike, own, silent))
    assert failing(found) == [] and len([check for check in found if check.measured]) >= 6


def test_masks_that_torch_draws_are_left_out_with_a_word(make: Make) -> None:
    recipe = make(dropout={"all": 0.1}, engine={"dropout": "torch"})
    own = setting(recipe)
    alike = Comparable.of(recipe, own)
    assert alike.cut.dropout.all == 0.0 and "without dropout" in alike.notes[0]
    assert failing(cuts(alike.cut, own, silent)) == []
    assert failing(cuts(recipe, own, silent)) == [CUT], "with torch's masks the cut of a batch shows"


# Each check can fail


def test_a_loss_that_is_not_normalised_over_the_batch_fails(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Classifier.losses
    heavier = lambda self, model, batch: honest(self, model, batch) * (1.01 if len(batch.examples) == 1 else 1.0)  # noqa: E731
    monkeypatch.setattr(Classifier, "losses", heavier)
    recipe = make()
    (check,) = cuts(recipe, setting(recipe), silent)
    assert (
        check.state == "FAIL"
        and check.measured["loss"] == pytest.approx(0.01, rel=0.01)
        and set(check.faults) >= {"loss", "norm", "gradient"}
    )


@pytest.mark.parametrize("broken", ["trimmed", "prefetch"])
def test_a_saving_that_scales_the_loss_is_the_one_that_fails(make: Make, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    honest = Trial.of

    def of(recipe: Recipe, own: Setting) -> Trial:
        made, losses = honest(recipe, own), Classifier.losses
        if getattr(recipe.engine.savings, broken):
            vars(made.parts.learner)["losses"] = lambda model, batch: losses(made.parts.learner, model, batch) * 1.01
        return made

    monkeypatch.setattr(Trial, "of", of)
    recipe = make()
    assert failing(savings(recipe, setting(recipe), silent)) == [f"{broken}: on against off", TOGETHER]


def test_rows_that_move_although_they_do_not_occur_show_in_the_weights(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """No gradient tells of them."""
    recipe = make(optimizer={"lr": 0.003, "weight_decay": 0.1})
    only = recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"savings": Savings(unpadded=False, trimmed=False)})})
    assert failing(savings(only, setting(only), silent)) == []
    monkeypatch.setattr(Shrinkage, "updated", lambda self, step: vars(self.table).update(scale=self.table.scale * 0.999))
    found = {check.name: check for check in savings(only, setting(only), silent)}
    assert found["sparse_embedding: on against off"].faults == ["weights"]


def test_what_frozen_blocks_gave_is_given_again_or_not_used_for_a_reason(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    name, frozen = "frozen_prefix: on against off", {"name": "freeze", "blocks": 1}
    recipe = make(method=frozen, train={"batch_size": 4, "device": "cpu"})
    assert {check.name: check for check in savings(recipe, setting(recipe), silent)}[name].state == "pass"
    honest = Replay.replayed
    monkeypatch.setattr(Replay, "replayed", lambda self, below: honest(self, below) + 0.01 * torch.arange(below.shape[-1]))
    monkeypatch.setattr("burnish.models.fast.prefix.differing", lambda *asked: None)
    assert failing(savings(recipe, setting(recipe), silent)) == [name, TOGETHER]
    noisy = make(method=frozen, dropout={"all": 0.1, "frozen": True})
    state = {check.name: check for check in savings(noisy, setting(noisy), silent)}[name].state
    assert state == "not used: frozen blocks are computed at each step, for `dropout.frozen` lets the frozen blocks drop values"


def test_savings_that_are_switched_off_are_not_tried(make: Make) -> None:
    recipe = make(engine={"savings": {"unpadded": False, "prefetch": False}})
    states = {check.name: check.state for check in savings(recipe, setting(recipe), silent)}
    assert states["unpadded: on against off"] == "not used: the recipe says engine.savings.unpadded=false"
    assert states["prefetch: on against off"].startswith("not used") and states["sparse_embedding: on against off"] == "pass"


def test_blocks_that_are_not_the_same_when_computed_again_fail(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Recomputed.__call__
    monkeypatch.setattr(Recomputed, "__call__", lambda self, *args, **named: honest(self, *args, **named) * 1.001)
    recipe = make()
    (check,) = memory(recipe, setting(recipe), silent)
    assert check.name == RECOMPUTED and check.state == "FAIL"


def test_moving_weights_in_backward_is_checked_where_it_is_wanted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make(train={"in_backward": True, "max_grad_norm": None, "device": "cpu", "batch_size": 4})
    found = list(memory(recipe, setting(recipe), silent))
    assert [check.state for check in found] == ["pass", "pass"] and found[1].measured.keys() == {"loss", "norm", "weights"}


def test_a_model_that_does_not_look_at_its_tokens_proves_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = lambda self, model, batch: model(**{**batch.inputs, "input_ids": batch.inputs["input_ids"] * 0 + 2}).logits  # noqa: E731
    monkeypatch.setattr(Classifier, "outputs", blind)
    recipe = make()
    check = neighbors.isolated(Trial.of(recipe, setting(recipe)))
    assert check.faults == ["outputs"] and check.measured["outputs"] == float("inf")


def kept_of(recipe: Recipe) -> dict[str, Check]:
    return {check.name: check for check in kept(recipe, silent)}


def test_a_resumed_run_that_has_lost_its_moments_fails(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = checkpoint.load

    def forgetful(folder: Path, trained: checkpoint.Trained) -> Any:
        progress = honest(folder, trained)
        trained.optimizer.state.clear()
        return progress

    monkeypatch.setattr(checkpoint, "load", forgetful)
    found = kept_of(make("classify", dropout={"all": 0.1}))
    assert found[keeping.RESUMED].faults == ["weights"] and not found[keeping.RELOADED].faults


def test_an_adapter_that_is_not_merged_fails(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make("classify", method={"name": "lora", "r": 2})
    assert {check.state for check in kept_of(recipe).values()} == {"pass"}
    monkeypatch.setattr(Lora, "merged", lambda self, folder, load: self.open(folder, load).unload())
    found = kept_of(recipe)
    assert found[keeping.MERGED].faults == ["outputs"] and not found[keeping.RELOADED].faults


def test_a_model_that_is_saved_in_part_fails(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def partly(self: Full, model: Any, folder: Path, base: Any) -> None:
        state = model.state_dict()
        model.save_pretrained(folder, state_dict={**state, "classifier.bias": torch.zeros_like(state["classifier.bias"])})

    monkeypatch.setattr(Full, "save", partly)
    found = kept_of(make())
    assert found[keeping.RELOADED].faults == ["outputs"] and not found[keeping.RESUMED].faults


# How far two results are apart


def test_gradients_are_compared_relative_to_their_own_size_but_not_to_noise() -> None:
    whole = {"weight": torch.tensor([3.0, 4.0]), "bias": torch.tensor([1e-9])}
    error, name = gradient_error({"weight": torch.tensor([3.0, 4.4]), "bias": torch.tensor([-1e-9])}, whole)
    assert (error, name) == (pytest.approx(0.1), "weight")
    error, name = gradient_error({"weight": whole["weight"]}, {**whole, "bias": torch.tensor([0.1])})
    assert (error, name) == (pytest.approx(1.0), "bias"), "a gradient that is missing is zero"
    assert gradient_error({**whole, "weight": torch.zeros(3)}, whole) == (float("inf"), "weight")
    error, name = gradient_error({**whole, "bias": torch.tensor([float("nan")])}, whole)
    assert np.isnan(error) and name == "bias"


def test_outputs_of_other_shapes_are_infinitely_far_apart() -> None:
    assert output_error([np.zeros(2)], [np.zeros(3)]) == output_error([np.zeros(2)], []) == float("inf")
    assert output_error([np.array([1.0, -np.inf])], [np.array([2.0, -np.inf])]) == 0.5
    assert np.isnan(output_error([np.array([np.nan])], [np.array([2.0])]))


def test_limits_are_those_of_the_shortest_format(make: Make) -> None:
    assert agreement.number_format(make(train={"precision": "fp16", "device": "cpu"})) == "fp16"
    recipe = make()
    short = recipe.model_copy(update={"model": recipe.model.model_copy(update={"dtype": "bfloat16"})})
    assert (agreement.number_format(recipe), agreement.number_format(short)) == ("fp32", "bf16")


def test_what_is_not_a_number_fails_and_is_shown() -> None:
    limits = agreement.LIMITS["fp32"]
    checks = [
        Check("sound", {"loss": 0.0}, limits),
        Check("odd", {"loss": float("nan")}, limits),
        Check("none", reason="not used: no [MASK]"),
        Check("bits", {"weights": 0.0}, agreement.BITWISE),
    ]
    found = Verification("a/model", "fp32", limits, checks, 3.0)
    assert not found.passed and found.to_json()["checks"][1]["measured"] == {"loss": None}
    console = Console(width=120, record=True, file=io.StringIO())
    show_checks(console, found)
    text = console.export_text()
    assert (
        "FAIL: odd: loss nan apart" in text and "no [MASK]" in text and "2 of 3 checks passed, 1 left out" in text and "0 (bitwise)" in text
    )
    assert yaml.safe_load(json.dumps(found.to_json()))["passed"] is False
