"""What a run is foretold to take, made before its first step: counted work at rates that were measured on the recipe itself."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from burnish import build
from burnish.core import shelf
from burnish.core.errors import BurnishError
from burnish.data import sources
from burnish.engine import checkpoint
from burnish.engine.batches import Order
from burnish.engine.progress import Plan, Progress
from burnish.engine.step import Step
from burnish.models.quantized import footprint
from burnish.plan.memory import Memory, memory, weights_bytes
from burnish.plan.time import Counted, Forecast, Rates, Texts, compared, forecast
from burnish.recipe import Recipe
from burnish.run.blueprint import blueprint, two_sided
from burnish.run.environment import processor, version
from burnish.run.floor import remembered as remembered_floor
from burnish.run.floor import resident, seconds_beside
from burnish.run.planning import work_of
from burnish.run.rehearsal import Stage, mean_operations, probe, rehearse, room_for
from burnish.run.savings import read_share
from burnish.run.surveying import Survey

KIND = "speed"
MOST_BYTES = 10**7
FRESH = 86_400.0
"""Seconds for which rates are believed."""

ALIKE = 1.25
"""How much faster or slower the machine may have become since, by a product of two matrices, for rates still to be believed."""

ROUNDS = 16
"""In multiples of what an evaluation reads at once: texts in the model while it writes (`engine.inference`)."""


def foretold(
    parts: build.Parts, step: Step, order: Order, plan: Plan, folder: Path, spent: Mapping[str, float], note: build.Note
) -> dict[str, Any] | None:
    """The forecast of a run as plan.json keeps it, None where it could not be made: that is noted, and no reason not to train."""
    try:
        began, resident_before = time.monotonic(), resident()
        stage = Stage(parts, step, order, network_of(parts), read_share(parts, order), folder)
        rates, age = rates_of(stage, plan)
        known = {**spent, "forecast": time.monotonic() - began}
        found = foretell(stage, plan, rates, known, age, loaded=age == 0.0)
        taken = memory_of(parts, resident_before, rehearsed=age == 0.0)
        return replace(found, peak_memory=taken.peak, memory=taken.moments).to_json()
    except Exception as error:  # whatever a model or a task does not bear: the run itself will tell what matters of it
        reason = str(error).partition("\n")[0][:160]
        note(f"time and memory are not foretold: a trial of some steps failed ({type(error).__name__}: {reason})")
        return None


def outcome(forecast_: Mapping[str, Any] | None, spent: Mapping[str, float], peak_memory: int) -> dict[str, Any] | None:
    """What was foretold beside what was measured; None where nothing was foretold."""
    return None if forecast_ is None else compared(forecast_, spent, peak_memory)


def memory_of(parts: build.Parts, resident_before: int, rehearsed: bool) -> Memory:
    """The memory of a run that is built. What the program itself takes was measured by `burnish plan`; else it is what was there before
    the first step but the weights, or what a rehearsal then took but what the formulas tell of one, and what the report will bring."""
    recipe, device = parts.recipe, "cpu" if parts.runtime.device.type == "cpu" else "cuda"
    found = Survey(recipe, parts.gathered, parts.tokenizer, parts.learner, range(0), parts.max_length, parts.examples)
    found.new_tokens = range(len(parts.tokenizer) - len(parts.anatomy.new_tokens), len(parts.tokenizer))
    work = work_of(recipe, found, device)
    if device != "cpu":
        return memory(work)
    known, own = remembered_floor(recipe), memory(work)
    if known is not None:
        return memory(work, known)
    found_there = parts.runtime.peak_memory() - (own.training - own.optimizer) if rehearsed else 0
    return memory(work, max(found_there, resident_before - weights_bytes(work), 0) + drawing_bytes())


def drawing_bytes() -> int:
    """Bytes of the libraries that draw the report, which a run loads at its end: loaded now, for then they are known."""
    before = resident()
    importlib.import_module("matplotlib.backends.backend_svg")
    importlib.import_module("matplotlib.figure")
    return resident() - before


def rates_of(stage: Stage, plan: Plan) -> tuple[Rates, float]:
    """The rates of a run that is built and has not begun, and how many seconds ago they were measured.

    Nothing that is measured stays in the run (`run/rehearsal.py`). Rates of the same recipe on this machine that were measured within a
    day, while it was as fast as now, are not measured again.
    """
    key = name_of(stage.parts)
    rates, age = remembered(key)
    if rates is None:
        rates = rehearse(stage, stage.parts.gathered.rows.get("validation", []), plan.total_steps)
        keep(key, rates)
    return rates, age


def foretell(stage: Stage, plan: Plan, rates: Rates, known: Mapping[str, float], age: float = 0.0, loaded: bool = False) -> Forecast:
    """The time of a run. `known` are the seconds of parts that have passed, or will; `loaded` says that what scoring rows needs has been loaded."""
    counted = counted_work(stage, plan, rates)
    first = {} if loaded else {"first": rates.first}
    passed = {part: seconds for part, seconds in known.items() if seconds}
    beside = {part: seconds for part, seconds in seconds_beside(stage.parts.recipe).items() if part not in passed}
    return forecast(counted, rates, {**habits(), **passed, **first}, told(rates, age), beside)


def told(rates: Rates, age: float) -> str:
    """Where the rates come from, in a sentence."""
    when = f"{age / 60:.0f} minutes ago" if age >= 60 else "just now"
    return f"measured {when} on steps of this recipe, in {rates.spent:.1f} s"


def network_of(parts: build.Parts) -> Any:
    """The model as operations see it."""
    fast, settings = parts.fast, parts.recipe.train
    dropped = any(switch.place == "attention" and switch.probability > 0 for switch in parts.dropouts.switches)
    return blueprint(
        parts.model,
        parts.anatomy,
        {
            "head_rows": fast.reading not in ("first", "last"),
            "trimmed": fast.trimmed,
            "dropped": dropped,
            "packed": fast.unpadded,
            "again": settings.checkpoint_blocks,
            "ahead": parts.ahead,
        },
    )


def counted_work(stage: Stage, plan: Plan, rates: Rates) -> Counted:
    """What a run has to do."""
    parts = stage.parts
    learning = checkpoint.learned(parts.model, stage.step.optimizer).values()
    watched = parts.examples.get("validation")
    evaluations, saves = occasions(plan, parts.recipe, rates, stage)
    generation = getattr(parts.recipe.task, "generation", None) if rates.round or rates.token else None
    return Counted(
        operations=mean_operations(stage),
        steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
        reading=stage.reading(watched) if watched is not None else 0.0,
        rows=len(parts.gathered.rows.get("validation", [])),
        evaluations=evaluations,
        texts=texts(parts, generation, trained=True),
        before=texts(parts, generation, trained=False) if parts.learner.foretold and watched is not None else None,
        learning=sum(tensor.numel() * tensor.element_size() for tensor in learning),
        model=saved_bytes(parts),
        saves=saves,
        test=test_share(parts),
        limit=plan.duration.seconds if plan.duration.timed else None,
    )


def occasions(plan: Plan, recipe: Recipe, rates: Rates, stage: Stage) -> tuple[int, int]:
    """How often the validation rows are scored, and a checkpoint is written. With train.keep_best every evaluation is taken for the best so far."""
    second = mean_operations(stage) * rates.operation + rates.update
    total = plan.total_steps or max(1, int(plan.duration.seconds / max(second, 1e-9)))
    evaluations = saves = 0
    at = Progress()
    for step in range(1, total + 1):
        at.step, at.seconds = step, step * second
        if plan.evaluation_due(at):
            evaluations, at.evaluated, at.evaluated_seconds = evaluations + 1, step, at.seconds
            at.best_step = step if recipe.train.keep_best else -1
        if plan.save_due(at):
            saves, at.saved, at.saved_seconds = saves + 1, step, at.seconds
    return evaluations, saves


def texts(parts: build.Parts, generation: Any, trained: bool) -> Texts:
    """What an evaluation writes. A trained model is taken to write as long as the rows' own texts are, an untrained one until it is cut off."""
    watched = parts.examples.get("validation")
    if generation is None or watched is None:
        return Texts()
    rows = len(parts.gathered.rows["validation"])
    number, most = rows if generation.samples is None else min(rows, generation.samples), generation.max_new_tokens
    own = np.bincount(watched.rows, weights=watched.weights, minlength=rows)[:number]
    ends = trained and parts.recipe.task.name != "continue"
    prompt = 0 if two_sided(parts.model) else int(np.mean(watched.lengths) - np.mean(watched.weights))
    room = room_for(number, parts.runtime.budget.size * ROUNDS / generation.beams, most + max(prompt, 0))
    return Texts([int(min(most, max(1, length))) if ends else most for length in own], room)


def saved_bytes(parts: build.Parts) -> int:
    """Bytes of the model as it is kept: whole, or what the method added."""
    if parts.base_files is not None and parts.recipe.method.name not in ("full", "head", "freeze", "unfreeze", "bitfit", "norms", "tokens"):
        return sum(p.numel() * p.element_size() for p in parts.model.parameters() if p.requires_grad)
    return int(footprint(parts.model)["bytes"])


def test_share(parts: build.Parts) -> float:
    """Rows of the test in multiples of the validation's: counted where they are set aside, else by the size of their file, which stays closed."""
    test, watched, source = parts.recipe.data.test, parts.gathered.rows.get("validation"), parts.recipe.data.validation
    if test is None or not watched:
        return 0.0
    if "test" in parts.gathered.rows:
        return len(parts.gathered.rows["test"]) / len(watched)
    sizes = [size_of(str(test)), size_of(str(source))]
    return sizes[0] / sizes[1] if all(sizes) else 1.0


def size_of(source: str) -> int:
    """Bytes of a file of rows; 0 where it cannot be told without opening it."""
    try:
        return sources.locate(source).stat().st_size
    except (BurnishError, OSError, AttributeError):
        return 0


def name_of(parts: build.Parts) -> str:
    """A digest of all that rates depend on: the machine, the versions, the recipe but for its length and seed, and its rows."""
    import torch

    recipe = parts.recipe.model_dump(mode="json", exclude={"run", "schedule", "control"})
    for length in ("duration", "seed", "evaluate_every", "save_every", "save_limit", "keep_best", "patience"):
        recipe["train"].pop(length, None)
    machine = [processor(), os.cpu_count(), torch.get_num_threads(), str(parts.runtime.device)]
    versions = [version(name) for name in ("burnish", "torch", "transformers")]
    digests = [facts["sha256"] for facts in parts.gathered.facts.values()]
    content = json.dumps([machine, versions, recipe, digests], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def remembered(key: str) -> tuple[Rates | None, float]:
    """Rates that were measured before and still hold, and how many seconds ago; None where there are none."""
    path = shelf.root(KIND) / key / "rates.json"
    try:
        age, rates = time.time() - path.stat().st_mtime, Rates.of_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None, 0.0
    now = probe()
    alike = rates.probe / ALIKE < now < rates.probe * ALIKE
    return (rates, age) if age < FRESH and alike else (None, 0.0)


def keep(key: str, rates: Rates) -> None:
    """Keeps rates for the next run; a disk that refuses costs a few seconds of measuring then."""
    store(key, "rates.json", rates.to_json())


def store(key: str, name: str, content: Mapping[str, float]) -> None:
    try:
        with shelf.making(shelf.root(KIND) / key, MOST_BYTES) as aside:
            (aside / name).write_text(json.dumps(content), encoding="utf-8")
    except OSError:
        pass


def habits() -> dict[str, float]:
    """Seconds of what every run on this machine does alike, as the last one took them: its libraries (`start`), what ends them (`report`)."""
    try:
        content = json.loads((shelf.root(KIND) / "habits" / "seconds.json").read_text(encoding="utf-8"))
        return {part: float(content[part]) for part in ("start", "report") if part in content}
    except (OSError, ValueError, TypeError):
        return {}


def learn_habits(spent: Mapping[str, float]) -> None:
    """Keeps what a run took for what every run does."""
    found = {part: spent[part] for part in ("start", "report") if part in spent}
    if found:
        store("habits", "seconds.json", {**habits(), **found})
