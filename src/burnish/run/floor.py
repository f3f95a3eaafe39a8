"""What a process takes beside its model: the memory of libraries, kernels, tokenizer and what the C library scatters; the time until they are
there, and until they are gone.

It is measured, not guessed: a run of the same kind (task, method, optimizer, tokenizer, quantisation) of a model of next to nothing goes
through training, evaluation, saving and report in a process of its own, and what its model takes by the formulas is taken off its peak.
Ten seconds, once for each kind, machine and version; kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from burnish.core import shelf
from burnish.core.errors import BurnishError
from burnish.plan.work import Work
from burnish.recipe import Recipe
from burnish.run.surveying import Survey, rows_of

KIND = "processes"
MOST_BYTES = 10**7
PATIENCE = 180
"""Seconds after which a measurement is given up."""

ROWS, WATCHED, STEPS = 64, 16, 4
SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}
LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "numpy")
KEPT = ("name", "r", "reduction", "virtual_tokens")
"""What of a method's settings the small model bears."""


def process_bytes(recipe: Recipe, found: Survey, note: Callable[[str], None]) -> int:
    """Bytes beside the model in a run of this kind on this machine: from the cache, else measured; where that cannot be, what the present
    process takes."""
    known = remembered(recipe)
    if known is not None:
        return known
    note("measuring what the program itself takes: a run of a tiny model, once")
    taken = measured(recipe, found)
    if taken is None:
        return resident()
    try:
        with shelf.making(shelf.root(KIND) / key(recipe), MOST_BYTES) as folder:
            (folder / "floor.json").write_text(json.dumps(taken))
    except OSError:
        pass
    return int(taken["bytes"])


def remembered(recipe: Recipe) -> int | None:
    """The bytes that were measured before for a run of this kind; None where nothing was."""
    try:
        return int(content(recipe)["bytes"])
    except (OSError, ValueError, KeyError):
        return None


def seconds_beside(recipe: Recipe) -> dict[str, float]:
    """Seconds that a run of this kind takes in a part (`plan.time.PARTS`) beside what its model and its rows take there: libraries that are
    loaded, a tokenizer that is written, a process that ends. Empty where nothing was measured."""
    try:
        return {part: float(seconds) for part, seconds in content(recipe)["seconds"].items()}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def content(recipe: Recipe) -> dict[str, Any]:
    """What was measured of runs of this kind, as it is kept. Raises OSError or ValueError where that cannot be read."""
    found: dict[str, Any] = json.loads((shelf.root(KIND) / key(recipe) / "floor.json").read_text())
    return found


def process_beside(recipe: Recipe, work: Work, written: Work, process: int) -> int:
    """The same for an alternative: `process` bytes of the recipe as it is `written`, and what other libraries take that the alternative
    needs; what was measured of its own kind, where that has been."""
    known = remembered(recipe)
    if known is not None:
        return known
    if libraries(work) == libraries(written):
        return process
    sizes = library_bytes()
    return process + sizes.get(libraries(work), 0) - sizes.get(libraries(written), 0)


def libraries(work: Work) -> str:
    """The largest library that work of this kind needs beside the others; peft brings bitsandbytes with it."""
    if work.injected:
        return "peft"
    return "bitsandbytes" if work.quantized or work.optimizer.endswith("8bit") else ""


def library_bytes() -> dict[str, int]:
    """Bytes that each of these libraries takes in a process, measured once in one of its own; nothing of those that are not there."""
    versions = {name: metadata.version(name) for name in (*LIBRARIES, "burnish")}
    place = shelf.root(KIND) / hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()[:24]
    try:
        return {name: int(size) for name, size in json.loads((place / "libraries.json").read_text()).items()}
    except (OSError, ValueError, AttributeError):
        pass
    try:
        program = "from burnish.run.bare import tell_libraries; tell_libraries()"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
        found: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
        with shelf.making(place, MOST_BYTES) as folder:
            (folder / "libraries.json").write_text(json.dumps(found))
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return {}
    return found


def key(recipe: Recipe) -> str:
    """What decides how much a process takes, in a name."""
    versions = {name: metadata.version(name) for name in (*LIBRARIES, "burnish")}
    quantize = recipe.model.quantize.name if recipe.model.quantize else None
    kind = {
        "task": recipe.task.name,
        "method": recipe.method.name,
        "optimizer": recipe.optimizer.name,
        "quantize": quantize,
        "model": recipe.model.name,
        "tokenizer": recipe.model.tokenizer,
        "engine": recipe.engine.model_dump(mode="json"),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "machine": [platform.machine(), platform.python_version(), os.cpu_count()],
    }
    return hashlib.sha256(json.dumps([versions, kind], sort_keys=True).encode()).hexdigest()[:24]


def measured(recipe: Recipe, found: Survey) -> dict[str, Any] | None:
    """Trains the small model in a process of its own: `bytes`, and `seconds` by part; None where it cannot be made or trained."""
    with tempfile.TemporaryDirectory() as name:
        try:
            prepare(recipe, found, Path(name))
            program = "import sys; from burnish.run.bare import tell; tell(sys.argv[1])"
            command = [sys.executable, "-c", program, name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True, cwd=name)
            told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
            ending = time.time() - told["ended"]  # of the process: libraries take their time to go
            return {"bytes": int(told["bytes"]), "seconds": {**told["seconds"], "report": ending}}
        except (BurnishError, OSError, ValueError, IndexError, TypeError, KeyError, RuntimeError, subprocess.SubprocessError):
            return None


def prepare(recipe: Recipe, found: Survey, folder: Path) -> None:
    """Writes the small model, some rows, and the recipe that trains on them."""
    small_model(found, folder / "model")
    rows = rows_of(found, ROWS)
    for part, chosen in (("train", rows), ("watched", rows[:WATCHED])):
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    (folder / "recipe.json").write_text(json.dumps(small_recipe(recipe, folder)), encoding="utf-8")


def small_model(found: Survey, folder: Path) -> None:
    """Writes a model of the recipe's architecture and vocabulary, of two narrow blocks, as a folder of weights."""
    import transformers

    from burnish.models import fresh, load

    spec, learner = found.recipe.model, found.learner
    with load.quiet():
        if spec.architecture is not None:
            settings = fresh.new_config(spec.architecture, SMALL, found.tokenizer, learner.config)
        else:
            known = transformers.AutoConfig.from_pretrained(spec.source(), **spec.access(), **learner.config)
            settings = fresh.altered_config(known, SMALL, None, learner.config)
        model = getattr(transformers, learner.auto_class).from_config(settings, trust_remote_code=spec.trust_remote_code)
        model.save_pretrained(folder)
        load.load_tokenizer(spec).save_pretrained(folder)


def small_recipe(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """The recipe of the same kind for the small model."""
    whole = recipe.model_dump(mode="json")
    method = {name: value for name, value in whole["method"].items() if name in KEPT}
    task = dict(found_task(whole["task"]))
    return {
        "model": {"name": str(folder / "model"), "quantize": whole["model"]["quantize"]},
        "task": task,
        "data": {
            "train": str(folder / "train.jsonl"),
            "validation": str(folder / "watched.jsonl"),
            "test": str(folder / "watched.jsonl"),
            "max_length": min(recipe.data.max_length or 64, 64),
            "bad_rows": "drop",
        },
        "method": {**method, **({"blocks": 1} if recipe.method.name == "freeze" else {})},
        "optimizer": {"name": recipe.optimizer.name},
        "train": {
            "duration": f"{STEPS}st",
            "evaluate_every": f"{STEPS // 2}st",
            "save_every": f"{STEPS // 2}st",
            "batch_size": 16,
            "device": "cpu",
        },
        "engine": whole["engine"],
        "run": str(folder / "run"),
    }


def found_task(task: dict[str, Any]) -> dict[str, Any]:
    """The task, writing next to nothing."""
    generation = task.get("generation")
    return task if not generation else {**task, "generation": {**generation, "samples": 2, "max_new_tokens": 4}}


def resident() -> int:
    """Bytes of the present process that are in memory."""
    from burnish.engine.runtime import Runtime

    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return Runtime("cpu").peak_memory()
