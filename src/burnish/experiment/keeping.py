"""What is written and read again: a run that is resumed in the middle, a model that is saved, an adapter that is merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from signal import SIGTERM
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from burnish.core.errors import ModelError
from burnish.core.protocols import Learner, Row
from burnish.core.rundir import RunFolder
from burnish.core.verification import Check
from burnish.engine import checkpoint
from burnish.engine.events import Event, Listener, Stepped
from burnish.engine.inference import Engine
from burnish.engine.runtime import Runtime
from burnish.engine.signals import Interruption, StopRequested
from burnish.experiment.agreement import BITWISE, LIMITS, largest, number_format, output_error, worst
from burnish.models.load import quiet
from burnish.recipe import Recipe
from burnish.recipe import load as load_recipe
from burnish.run.finished import Run
from burnish.run.training import Session

STEPS, MIDDLE = 4, 2
ROWS = 16
"""Rows for which the outputs of two models are compared."""

SHAKE, AT_LEAST = 0.1, 0.02
"""How far learned weights are moved before they are saved, in shares of their size, and where they are zero (what LoRA adds at first): so
that what is not saved or not merged shows, however little four steps have changed."""

RESUMED = "resumed in the middle against an unbroken run"
RELOADED = "saved and reloaded model against the one in memory"
MERGED = "adapter merged against unmerged"


def short(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe of a run of a few steps, saved in the middle. Rows to watch stay only where something is decided by them, and next to
    nothing is written of texts."""
    settings: dict[str, Any] = {"duration": f"{STEPS}st", "save_every": f"{MIDDLE}st", "evaluate_every": f"{STEPS}st", "save_limit": 2}
    train = type(recipe.train).model_validate({**recipe.train.model_dump(), **settings})
    watched = train.keep_best is not None or train.patience is not None or recipe.control is not None or recipe.schedule.name == "plateau"
    data = recipe.data.model_copy(update={"test": None, **({} if watched else {"validation": None})})
    generation = getattr(recipe.task, "generation", None)
    wrote = {} if generation is None else {"generation": generation.model_copy(update={"samples": 1, "max_new_tokens": 2})}
    task = recipe.task.model_copy(update=wrote)
    return recipe.model_copy(update={"train": train, "data": data, "task": task, "run": str(folder)})


def trained(folder: RunFolder, recipe: Recipe, emit: Listener) -> Session:
    """Runs what is left of a run, as `burnish train` and `burnish resume` do, up to its last step."""
    with folder.lock():
        session = Session.open(folder, recipe, emit, Interruption())
        session.train()
    return session


def unbroken(recipe: Recipe, place: Path) -> Session:
    made = short(recipe, place / "unbroken")
    return trained(RunFolder.create(place / "unbroken", made.to_yaml()), made, lambda event: None)


def resumed(recipe: Recipe, place: Path, whole: Session) -> Check:
    """Another run of the same recipe is stopped in the middle, as by SIGTERM, and resumed from what it has saved: weights, optimizer
    and techniques have to end with the bits of the `whole` one."""
    made = short(recipe, place / "broken")
    folder = RunFolder.create(place / "broken", made.to_yaml())

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == MIDDLE:
            raise StopRequested(SIGTERM)

    try:
        trained(folder, made, stop)
    except StopRequested:
        trained(folder, load_recipe(folder.recipe), lambda event: None)
    ends = [checkpoint.folder_of(run, STEPS) for run in (folder, whole.folder)]
    names = [name for name in checkpoint.FILES if name.endswith(".safetensors")]
    apart = worst([file_error(*(end / name for end in ends)) for name in names])
    return Check(RESUMED, {"weights": apart}, BITWISE, note=f"{STEPS} steps, stopped after {MIDDLE}; with the optimizer's state")


def file_error(a: Path, b: Path) -> float:
    """0 where two files of tensors hold the same bits, else the largest difference, relative to its tensor's largest entry."""
    if a.read_bytes() == b.read_bytes():
        return 0.0
    one, other = load_file(a), load_file(b)
    if one.keys() != other.keys():
        return float("inf")
    errors = [largest(one[name].double() - tensor.double()) / max(largest(tensor.double()), 1e-30) for name, tensor in other.items()]
    return max(worst(errors), 1e-30)


def saved(session: Session) -> list[Check]:
    """The run's model is shaken, saved and opened again, and its outputs compared with those in memory; then with those of its adapter
    merged into the weights."""
    shake(session.step.parameters)
    parts, folder = session.parts, session.folder
    rows = parts.gathered.rows["train"][:ROWS]
    engine = Engine(parts.model, parts.learner, Runtime(parts.recipe.train.device), passing=session.step.passing)
    with session.measured():
        here = outputs(engine, parts.learner, rows)
    folder.replace_folder(folder.model, session.export)
    run, limits = Run(folder), {"outputs": LIMITS[number_format(parts.recipe)]["outputs"]}
    there = outputs(run.engine(), run.learner, rows)
    reloaded = Check(RELOADED, {"outputs": output_error(there, here)}, limits)
    return [merged(run, rows, there, limits), reloaded]


def merged(run: Run, rows: Sequence[Row], unmerged: Sequence[np.ndarray], limits: dict[str, float]) -> Check:
    """The run's adapter as plain weights, against the run as it is."""
    held = run.recipe.model.quantize
    if held is not None:
        return Check(MERGED, reason=f"does not apply: weights in {held.name} take no update")
    try:
        with quiet():
            plain = run.opened_by(run.recipe.method.merged)
    except ModelError as error:
        return Check(
            MERGED, reason="does not apply: " + str(error).replace(str(run.folder.model), f"what method={run.recipe.method.name} leaves")
        )
    engine = Engine(plain.to(run.runtime.device).eval(), run.learner, run.runtime)
    return Check(MERGED, {"outputs": output_error(outputs(engine, run.learner, rows), unmerged)}, limits)


def outputs(engine: Engine, learner: Learner, rows: Sequence[Row]) -> list[np.ndarray]:
    return engine.outputs(learner.encode(rows))


@torch.no_grad()
def shake(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Moves each learned tensor by noise of a tenth of its own root mean square."""
    draw = torch.Generator().manual_seed(0)
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=draw)
        size = parameter.float().square().mean().sqrt().item()
        parameter.add_((SHAKE * size or AT_LEAST) * noise.to(parameter.device, parameter.dtype))
