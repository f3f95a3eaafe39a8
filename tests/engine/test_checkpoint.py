"""Checkpoints: bitwise there and back, whole or not at all, torn ones skipped with a word, none of them pickled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import ToyModel

from burnish.core.errors import RunError
from burnish.core.rundir import RunFolder
from burnish.engine import checkpoint
from burnish.engine.progress import Progress
from burnish.engine.step import Step

MakeStep = Callable[..., Step]
FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json", "techniques.safetensors"]


def keep(folder: RunFolder, step: Step, number: int, limit: int = 99, best: int = -1) -> Path:
    checkpoint.save(folder, checkpoint.Trained(step.model, step.optimizer), Progress(step=number, best_step=best), limit)
    return checkpoint.folder_of(folder, number)


def trained(make_step: MakeStep, steps: int = 3) -> Step:
    step = make_step(ToyModel(dropout=0.3))
    for number in range(steps):
        step(range(8), number, 1.0)
    return step


def whole_state(step: Step) -> dict[str, torch.Tensor]:
    state = step.optimizer.state_dict()["state"]
    moments = {f"{number}|{name}": torch.as_tensor(value) for number, entries in state.items() for name, value in entries.items()}
    return {**step.model.state_dict(), **moments}


def assert_equal(one: Step, other: Step) -> None:
    first, second = whole_state(one), whole_state(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype and torch.equal(tensor, second[name]), name


# There and back


def test_model_optimizer_and_progress_come_back_bit_for_bit(make_step: MakeStep, folder: RunFolder) -> None:
    step = trained(make_step)
    progress = Progress(3, 24, 204, 720, 1.0 / 3, 0.1 + 0.2, 2, 0.7, 3, 1e-17, 2, 2.0 / 3, 1, "512tok")
    checkpoint.save(folder, checkpoint.Trained(step.model, step.optimizer), progress, 2)
    other = make_step(ToyModel(width=6, dropout=0.3))
    with torch.no_grad():
        other.model.head.weight.fill_(9)
    assert checkpoint.load(checkpoint.folder_of(folder, 3), checkpoint.Trained(other.model, other.optimizer)) == progress
    assert_equal(step, other)
    assert len(whole_state(step)) == 6 + 5 * 3, "five parameters and a buffer, two moments and a count for each parameter"
    for number in range(3, 6):
        assert step(range(8), number, 0.5).loss == other(range(8), number, 0.5).loss
    assert_equal(step, other)


def test_settings_of_the_optimizer_come_from_the_recipe_and_weights_from_the_checkpoint(make_step: MakeStep, folder: RunFolder) -> None:
    kept = keep(folder, trained(make_step), 3)
    other = make_step(lr=0.5)
    checkpoint.load(kept, checkpoint.Trained(other.model, other.optimizer))
    assert {group["initial_lr"] for group in other.optimizer.param_groups} == {0.5}
    assert [group["weight_decay"] for group in other.optimizer.param_groups] == [0.1, 0.0]


def test_only_what_learns_and_saved_buffers_are_kept(make_step: MakeStep, folder: RunFolder) -> None:
    from safetensors import safe_open

    model: Any = ToyModel()
    model.embedding.weight.requires_grad_(False)
    model.register_buffer("scratch", torch.zeros(2), persistent=False)
    kept = keep(folder, make_step(model), 1)
    with safe_open(kept / "model.safetensors", "pt") as opened:
        assert set(opened.keys()) == {"norm.weight", "norm.bias", "head.weight", "head.bias", "calls"}


def test_a_checkpoint_before_the_first_update_has_no_moments(make_step: MakeStep, folder: RunFolder) -> None:
    step = make_step()
    other = make_step()
    checkpoint.load(keep(folder, step, 1), checkpoint.Trained(other.model, other.optimizer))
    assert_equal(step, other)


def test_a_checkpoint_of_another_model_is_refused(make_step: MakeStep, folder: RunFolder) -> None:
    kept = keep(folder, trained(make_step), 3)
    model: Any = ToyModel()
    model.head.bias.requires_grad_(False)
    other = make_step(model)
    with pytest.raises(RunError, match=r"does not belong to this recipe: it differs in 1 parameter \(head.bias"):
        checkpoint.load(kept, checkpoint.Trained(other.model, other.optimizer))


def test_nothing_is_pickled(make_step: MakeStep, folder: RunFolder) -> None:
    kept = keep(folder, trained(make_step), 3)
    assert sorted(path.name for path in kept.iterdir()) == FILES
    for path in kept.iterdir():
        content = path.read_bytes()
        if path.suffix == ".json":
            json.loads(content)
        else:
            length = int.from_bytes(content[:8], "little")
            assert isinstance(json.loads(content[8 : 8 + length]), dict), "safetensors: a length, then a JSON header"


# Torn ones


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated model": (lambda at: cut(at / "model.safetensors"), r"model.safetensors has \d+ bytes, [\d,]+ were written"),
    "truncated optimizer": (lambda at: cut(at / "optimizer.safetensors"), "optimizer.safetensors has .* were written"),
    "truncated state": (lambda at: cut(at / "state.json"), "state.json has .* were written"),
    "flipped bit in the model": (lambda at: flip(at / "model.safetensors"), "model.safetensors has changed since it was written"),
    "flipped bit in the optimizer": (lambda at: flip(at / "optimizer.safetensors"), "optimizer.safetensors has changed"),
    "flipped bit in the state": (lambda at: flip(at / "state.json"), "state.json has changed"),
    "grown model": (lambda at: (at / "model.safetensors").open("ab").write(b"\0"), "model.safetensors has .* were written"),
    "empty model": (lambda at: (at / "model.safetensors").write_bytes(b""), "model.safetensors has 0 bytes"),
    "no model": (lambda at: (at / "model.safetensors").unlink(), "model.safetensors is missing"),
    "no optimizer": (lambda at: (at / "optimizer.safetensors").unlink(), "optimizer.safetensors is missing"),
    "no state": (lambda at: (at / "state.json").unlink(), "state.json is missing"),
    "no manifest": (lambda at: (at / "manifest.json").unlink(), "manifest.json is missing"),
    "truncated manifest": (lambda at: cut(at / "manifest.json"), "manifest.json cannot be read"),
    "empty manifest": (lambda at: (at / "manifest.json").write_bytes(b""), "manifest.json cannot be read"),
    "manifest of zeros": (lambda at: (at / "manifest.json").write_bytes(bytes(99)), "manifest.json cannot be read"),
    "binary manifest": (lambda at: (at / "manifest.json").write_bytes(b"\xff\xfe\x80"), "manifest.json cannot be read"),
    "manifest of nothing": (lambda at: (at / "manifest.json").write_text("{}"), "manifest.json"),
    "manifest that is a list": (lambda at: (at / "manifest.json").write_text("[1]"), "manifest.json cannot be read"),
    "manifest without sizes": (lambda at: (at / "manifest.json").write_text('{"state.json": {}}'), "manifest.json"),
    "empty folder": (lambda at: [path.unlink() for path in at.iterdir()], "manifest.json is missing"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_a_torn_checkpoint_is_skipped_with_a_word_and_the_older_one_used(
    make_step: MakeStep, folder: RunFolder, damage: Callable[[Path], Any], reason: str
) -> None:
    step = trained(make_step)
    older, newest = keep(folder, step, 3), keep(folder, step, 4)
    said: list[str] = []
    assert checkpoint.newest_whole(folder, said.append) == newest and said == []
    damage(newest)
    assert checkpoint.newest_whole(folder, said.append) == older
    assert len(said) == 1 and said[0].startswith("skipping a torn checkpoint, step-00000004: ")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(said[0])
    damage(older)
    with pytest.raises(RunError, match=r"2 checkpoints in .*, and not one is whole .*step-00000004.*step-00000003.*--overwrite") as caught:
        checkpoint.newest_whole(folder, said.append)
    assert caught.value.exit_code == 2


def test_without_checkpoints_a_run_begins_at_the_beginning(folder: RunFolder) -> None:
    assert checkpoint.newest_whole(folder, pytest.fail) is None
    folder.checkpoints.mkdir()
    (folder.checkpoints / "step-x").mkdir()
    (folder.checkpoints / ".step-00000009.part").mkdir()
    assert checkpoint.newest_whole(folder, pytest.fail) is None


# Which are kept


def test_the_newest_and_the_best_are_kept(make_step: MakeStep, folder: RunFolder) -> None:
    step = make_step()
    held = []
    for number, best in [(1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (6, 6), (7, 6), (8, 6)]:
        keep(folder, step, number, limit=2, best=best)
        held.append(checkpoint.steps(folder))
    assert held == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6], [6, 7], [6, 7, 8]]


def test_steps_are_ordered_by_number_beyond_eight_digits(make_step: MakeStep, folder: RunFolder) -> None:
    step = make_step()
    for number in (99_999_999, 100_000_000):
        keep(folder, step, number)
    assert checkpoint.steps(folder) == [99_999_999, 100_000_000]


def test_torn_checkpoints_of_later_steps_do_not_push_out_the_one_just_saved(make_step: MakeStep, folder: RunFolder) -> None:
    """A run that went back from a torn step 9 to step 5 and is stopped at step 7 must find its step 7 again."""
    step = make_step()
    keep(folder, step, 5), cut(keep(folder, step, 9) / "model.safetensors")
    keep(folder, step, 7, limit=1)
    newest = checkpoint.newest_whole(folder, lambda message: None)
    assert newest is not None and newest.name == "step-00000007"


def test_saving_a_step_again_replaces_it(make_step: MakeStep, folder: RunFolder) -> None:
    step = trained(make_step)
    cut(keep(folder, step, 3) / "model.safetensors")
    again = keep(folder, step, 3)
    assert checkpoint.fault(again) is None and checkpoint.steps(folder) == [3]


@pytest.mark.parametrize("number", [3, 4], ids=["same-step", "other-step"])
def test_leftovers_of_a_killed_save_are_ignored_and_cleaned_at_the_next(make_step: MakeStep, folder: RunFolder, number: int) -> None:
    step = trained(make_step)
    older = keep(folder, step, 2)
    leftover = folder.checkpoints / ".step-00000003.part"
    shutil.copytree(older, leftover)
    (leftover / "junk.bin").write_bytes(b"half")
    assert checkpoint.steps(folder) == [2] and checkpoint.newest_whole(folder, pytest.fail) == older
    kept = keep(folder, step, number)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [older.name, kept.name]
    assert sorted(path.name for path in kept.iterdir()) == FILES and checkpoint.fault(kept) is None


def test_killed_at_any_call_to_the_disk_a_save_leaves_a_whole_checkpoint(
    make_step: MakeStep, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run folder is copied before every call that makes durable, moves or drops something: each copy is what a kill would leave."""
    step = trained(make_step)
    keep(folder, step, 2)
    shots: list[Path] = []
    copying = False

    def spied(call: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*arguments: Any, **options: Any) -> Any:
            nonlocal copying
            if not copying:
                copying = True
                shots.append(tmp_path / f"shot-{len(shots)}")
                shutil.copytree(folder.path, shots[-1])
                copying = False
            return call(*arguments, **options)

        return spy

    for module, name in ((os, "fsync"), (os, "rename"), (os, "rmdir"), (os, "unlink"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, spied(getattr(module, name)))
    for number in (3, 4):
        step(range(8), number, 1.0)
        keep(folder, step, number, limit=1)
    monkeypatch.undo()
    found = []
    for shot in [*shots, folder.path]:
        newest = checkpoint.newest_whole(RunFolder(shot), lambda message: None)
        assert newest is not None
        other = make_step(ToyModel(dropout=0.3))
        found.append(checkpoint.load(newest, checkpoint.Trained(other.model, other.optimizer)).step)
    assert found == sorted(found) and set(found) == {2, 3, 4} and len(shots) >= 24


def test_a_torn_checkpoint_that_cannot_be_done_without_is_told(make_step: MakeStep, folder: RunFolder) -> None:
    kept = keep(folder, trained(make_step), 3)
    assert checkpoint.require_whole(folder, 3) == kept
    flip(kept / "model.safetensors")
    with pytest.raises(RunError, match=r"step-00000003, is torn: model.safetensors has changed.*--overwrite"):
        checkpoint.require_whole(folder, 3)
