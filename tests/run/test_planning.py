"""What is planned without weights is what a run then holds: bytes of weights, gradients, optimizer and activations; the command."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import burnish
from burnish import build
from burnish.cli import app, guarded
from burnish.core.errors import RecipeError
from burnish.core.protocols import Course
from burnish.models.quantized import footprint
from burnish.plan.memory import memory
from burnish.plan.work import Work
from burnish.recipe import load
from burnish.run.planning import work_of
from burnish.run.stepping import make_step
from burnish.run.surveying import survey

MakeRecipe = Callable[..., dict[str, Any]]
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"method": {"name": "lora", "r": 4}},
    "freeze": {"method": {"name": "freeze", "blocks": 1}},
    "head": {"method": "head"},
    "adapters": {"method": "adapters"},
    "sgd": {"optimizer": {"name": "sgd", "lr": 0.1}},
    "adafactor": {"optimizer": {"name": "adafactor", "lr": 0.01}},
    "whole embeddings": {"engine": {"savings": {"sparse_embedding": False}}},
    "bfloat16": {"model": {"dtype": "bfloat16"}},
}


def planned(made: dict[str, Any]) -> Work:
    recipe = load(made)
    return work_of(recipe, survey(recipe), "cpu")


def built(made: dict[str, Any]) -> tuple[build.Parts, Any]:
    recipe = load(made)
    parts = build.assemble(recipe, build.gather(recipe), lambda message: None)
    return parts, make_step(parts, Course(5, 10))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_gradients_and_moments_are_those_of_a_step(recipe: MakeRecipe, kind: str) -> None:
    made = recipe(**KINDS[kind])
    work, (parts, step) = planned(made), built(made)
    seen: dict[str, int] = {}
    step.mover.clip = lambda limit: seen.update(gradients=sum(p.grad.nbytes for p in step.parameters if p.grad is not None)) or 1.0
    step(build.order(parts).batch(0), 0, 1.0)
    state = [value for entry in step.optimizer.state.values() for value in entry.values()]
    moments = sum(value.nbytes for value in state if isinstance(value, torch.Tensor) and value.dim() > 0)
    table = work.weights.table - sum(p.nbytes for p in parts.model.parameters() if hasattr(p, "whole_shape")) if work.weights.table else 0
    assert work.weights.gradients == seen["gradients"]
    assert work.weights.moments == moments
    assert work.weights.held == sum(p.nbytes for p in parts.model.parameters()) + table
    assert work.weights.trainable == sum(role[2] for role in roles(parts))


def roles(parts: build.Parts) -> list[tuple[str, int, int]]:
    from burnish.plan.parameters import by_role

    return by_role(parts.model.named_parameters(), parts.anatomy)


@pytest.mark.parametrize("dropping", [False, True], ids=["plain", "dropping"])
@pytest.mark.parametrize("sections", [{}, {"method": "head"}, {"engine": {"savings": {"unpadded": False}}}], ids=["full", "head", "padded"])
def test_activations_are_those_that_autograd_keeps(
    recipe: MakeRecipe, dropout_bert: Path, sections: dict[str, Any], dropping: bool
) -> None:
    savings = {"trimmed": False, "frozen_prefix": False, **sections.get("engine", {}).get("savings", {})}
    made = recipe(**{**sections, "engine": {"savings": savings, "prepacked": False}})
    made["model"] = {"name": str(dropout_bert)} if dropping else made["model"]
    work, (parts, _) = planned(made), built(made)
    model, passage, found = parts.model, parts.fast.passage, []
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    for number in range(len(work.batches)):
        indices = build.order(parts).batch(number)
        batch = parts.learner.collate(parts.examples["train"], indices, (0, number))
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept |= {} if storage.data_ptr() in own else {storage.data_ptr(): storage.nbytes()}
            return tensor

        model.train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), passage.of(batch, range(len(indices)), (0, number)):
            losses = parts.learner.losses(model, batch)
        found.append(sum(kept.values()))
        del losses
    traced = work.kept.below + sum(work.kept.blocks) + work.kept.above
    assert traced == pytest.approx(max(found), rel=0.12 if "padded" in str(sections) or dropping else 0.08)


def test_four_bits_take_what_bitsandbytes_takes(recipe: MakeRecipe) -> None:
    pytest.importorskip("bitsandbytes")
    for quantize in ({"name": "nf4"}, {"name": "nf4", "double": False}):
        made = recipe(method="lora", model={"quantize": quantize})
        work, (parts, _) = planned(made), built(made)
        assert work.weights.held == pytest.approx(footprint(parts.model)["bytes"], rel=0.01)


def test_a_folder_without_weights_can_be_planned(recipe: MakeRecipe, tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    whole, bare = planned(recipe()), planned(recipe(model={"name": str(tmp_path / "bare")}))
    assert whole.weights == bare.weights and whole.kept == bare.kept
    lora = planned(recipe(model={"name": str(tmp_path / "bare")}, method="lora"))
    assert lora.weights == planned(recipe(method="lora")).weights


def test_a_teacher_is_planned_as_it_is_asked(recipe: MakeRecipe) -> None:
    teacher = burnish.train(recipe("teacher", train={"duration": "1ep"})).path
    weights = sum(p.numel() * 4 for p in burnish.load(teacher).model.parameters())
    plain, distill = planned(recipe()), {"teacher": str(teacher)}
    kept, anew = planned(recipe(distill=distill)), planned(recipe(distill={**distill, "hidden": 1.0}))
    assert kept.teacher and anew.teacher and kept.teacher.held == anew.teacher.held == weights
    assert not kept.teacher.anew and kept.operations == plain.operations and kept.teacher.operations > 0
    padded = planned(recipe(engine={"savings": {"unpadded": False}}))  # as a student is computed whose insides are compared
    assert anew.teacher.anew and anew.packed is anew.trimmed is False and plain.packed
    assert anew.operations == padded.operations + anew.teacher.operations
    once, always = memory(kept), memory(anew)
    assert "asking" in once.moments and once.asking > weights and once.training == memory(plain).training
    assert "asking" not in always.moments and always.teacher > weights
    assert always.saving == memory(plain).saving + weights


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit code of `burnish plan`, and what it printed."""
    try:
        code = guarded(lambda: app(["plan", *words], standalone_mode=True))
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command(recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path, fitting, found = tmp_path / "recipe.yaml", tmp_path / "fitting.yaml", tmp_path / "plan.json"
    path.write_text(yaml.safe_dump(recipe()))
    code, out, _ = told([str(path), "--machine", "1x24GB", "--write", str(fitting), "--json", str(found)], capsys)
    assert code == 0 and "The recipe fits 1x24GB as it is written." in out
    for word in ("blocks 1 to 2", "by formula", "4 D² + 4 D", "as written", "QLoRA nf4", "LoRA", "checkpointing", "bf16 weights"):
        assert word in out, word
    written = json.loads(found.read_text())
    assert written["parameters"]["total"] == written["parameters"]["by_formula"] == sum(p["total"] for p in written["parameters"]["parts"])
    assert load(fitting).model_dump() == load(path).model_dump()


def test_ways_are_planned_without_the_packages_that_they_need(
    recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else found(name, *more))
    path, few, written = tmp_path / "recipe.yaml", {"model": {"quantize": "nf4"}, "method": "lora"}, tmp_path / "written.yaml"
    path.write_text(yaml.safe_dump(recipe()))
    code, out, _ = told([str(path), "--machine", "1x24GB"], capsys)
    assert code == 0 and "QLoRA nf4" in out and "8-bit" in out
    with pytest.raises(RecipeError, match=r"burnish\[quantize\]"):
        load(recipe(**few))
    path.write_text(yaml.safe_dump(recipe(**few)))
    assert told([str(path)], capsys)[0] == 2, "on this machine it cannot be trained"
    code, out, err = told([str(path), "--machine", "1x24GB", "--write", str(written)], capsys)
    assert code == 0 and written.is_file(), err


def test_where_it_does_not_fit_the_exit_code_says_so(recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, fitting = tmp_path / "recipe.yaml", tmp_path / "fitting.yaml"
    path.write_text(yaml.safe_dump(recipe()))
    code, out, err = told([str(path), "--machine", "1x0.1GB", "--write", str(fitting)], capsys)
    assert code == 2 and "Nothing of this fits 1x0.1GB" in err and not fitting.exists()
    code, out, _ = told([str(path), "--machine", "1x0.1GB"], capsys)
    assert code == 1 and "Nothing of this fits" in out


def test_a_machine_that_nobody_knows_is_refused_at_once(recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe()))
    code, _, err = told([str(path), "--machine", "8xH1000"], capsys)
    assert code == 2 and "there is no machine `8xH1000` - did you mean `H100`?" in err
