"""How far weights moved, against whole copies of them; and the spectrum of updates, against the updates made whole."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.core.errors import Interrupted
from burnish.engine.events import Event, Stepped
from burnish.run import resume
from burnish.run.training import train

MakeRecipe = Callable[..., dict[str, Any]]


def found(path: Path) -> dict[str, Any]:
    return json.loads((path / "movement.json").read_text())


def cell(content: dict[str, Any], place: str, role: str) -> dict[str, Any]:
    return next(one for one in content["cells"] if (one["place"], one["role"]) == (place, role))


def pretrained(folder: Path) -> dict[str, torch.Tensor]:
    return {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}


def relative(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], pattern: str) -> float:
    names = [name for name in after if re.search(pattern, name)]
    assert names
    change = sum(float((after[name].detach().double() - before[name].detach().double()).square().sum()) for name in names)
    return math.sqrt(change / sum(float(before[name].detach().double().square().sum()) for name in names))


@pytest.mark.parametrize("sparse", [True, False])
def test_full_fine_tuning_is_measured_against_the_pretrained_files(recipe: MakeRecipe, tiny_bert: Path, sparse: bool) -> None:
    made = recipe(train={"duration": "3st"}, engine={"savings": {"sparse_embedding": sparse}})
    run = train(made)
    before, after = pretrained(tiny_bert), load_file(run.folder.model / "model.safetensors")
    content = found(run.path)
    for place, role, pattern in (
        ("block 1", "attention", r"layer\.0\.attention\.(self|output\.dense)"),
        ("block 2", "feed-forward", r"layer\.1\.(intermediate|output)\.dense"),
        ("block 2", "norms", r"layer\.1\..*LayerNorm"),
        ("embeddings", "tokens", r"word_embeddings"),
        ("head", "pooler", r"pooler"),
    ):
        assert cell(content, place, role)["relative"] == pytest.approx(relative(before, after, pattern), rel=1e-5), (place, role)
    head = cell(content, "head", "classifier")
    assert head["relative"] > 0 and head["before"] > 0 and head["learning"] == head["parameters"]
    assert content["written_aside"] == 2 and content["from_files"] > 30, "the classifier's weight and bias are in no file"
    assert not list(run.path.glob(".beginning*"))


def test_what_is_frozen_did_not_move_and_its_norms_are_not_asked_for(recipe: MakeRecipe) -> None:
    content = found(train(recipe(method="head", train={"duration": "2st"})).path)
    for one in content["cells"]:
        moved = one["place"] == "head"
        assert (one["relative"] > 0) == moved and (one["before"] is None) == (not moved), one


def test_from_scratch_the_first_values_come_from_the_seed(recipe: MakeRecipe) -> None:
    made = recipe(model={"from_scratch": True}, train={"duration": "2st", "ema": 0.9})
    run = train(made)
    from burnish import build
    from burnish.recipe import load

    before = dict(build.assemble(load(made), build.gather(load(made)), print).model.named_parameters())
    after = load_file(run.folder.model / "model.safetensors")
    attention = cell(found(run.path), "block 1", "attention")
    assert attention["relative"] == pytest.approx(relative(before, after, r"layer\.0\.attention\.(self|output\.dense)"), rel=1e-5)


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "pissa", "adalora"])
def test_an_update_is_that_of_the_merged_weights_and_its_spectrum_that_of_the_whole(
    recipe: MakeRecipe, tiny_bert: Path, tmp_path: Path, method: str
) -> None:
    run = train(recipe(method={"name": method, "r": 4} if method != "adalora" else method, train={"duration": "6st"}))
    merged = burnish.load(run.path).opened_by(run.recipe.method.merged).state_dict()
    before, content = pretrained(tiny_bert), found(run.path)
    pattern = r"layer\.0\.attention\.(self|output\.dense)"
    assert cell(content, "block 1", "attention")["relative"] == pytest.approx(
        relative(before, {name: merged[name] for name in before if name in merged}, pattern), rel=1e-3
    )
    assert len(content["updates"]) == 12
    update = next(one for one in content["updates"] if one["module"].endswith("layer.1.intermediate.dense"))
    name = update["module"] + ".weight"
    change = (merged[name] - before[name]).double()
    assert update["place"] == "block 2" and update["layer"] == "dense"
    assert update["relative"] == pytest.approx(float(change.norm() / before[name].double().norm()), rel=1e-3)
    assert 1 <= update["effective_rank"] <= update["rank"]
    if method != "dora":  # whose change is more than B A
        whole = torch.linalg.svdvals(change)[: update["rank"]]
        assert update["values"] == pytest.approx(whole.tolist(), rel=1e-2, abs=1e-3 * float(whole[0]))


def test_adapters_begin_at_nothing_so_that_there_is_no_share(recipe: MakeRecipe) -> None:
    content = found(train(recipe(method="adapters", train={"duration": "3st"})).path)
    added = cell(content, "block 1", "added by the method")
    assert added["change"] > 0 and added["before"] > 0 and added["relative"] > 0
    assert cell(content, "block 1", "attention")["relative"] == 0 and content["updates"] == []


def test_a_run_stopped_and_resumed_measures_from_where_it_began(recipe: MakeRecipe) -> None:
    whole = found(train(recipe("whole", train={"duration": "4st", "save_every": "1st"})).path)

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    made = recipe("stopped", train={"duration": "4st", "save_every": "1st"})
    with pytest.raises(Interrupted):
        train(made, listeners=[stop])
    assert not (Path(made["run"]) / "movement.json").exists()
    resumed = found(resume(made["run"]).path)
    assert [one["change"] for one in resumed["cells"]] == [one["change"] for one in whole["cells"]]
