"""Checkpoints: all that a run needs to go on exactly, whole or not at all, in safetensors and JSON.

    step-00000200/
      model.safetensors      parameters that learn (of a sparse embedding the rows that occur), and persistent buffers
      optimizer.safetensors  the optimizer's state, keyed `parameter name|entry`
      techniques.safetensors what techniques keep (such as averaged weights), keyed `number|name`
      state.json             progress, and what of the optimizer's and the techniques' state is no tensor
      manifest.json          size and sha256 of the others

Random generators need no place here: every step seeds them from (seed, step).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from burnish.core.errors import RunError, count
from burnish.core.protocols import Technique
from burnish.core.rundir import RunFolder
from burnish.engine.progress import Progress

MANIFEST = "manifest.json"
FILES = ("model.safetensors", "optimizer.safetensors", "techniques.safetensors", "state.json")


def folder_of(run: RunFolder, step: int) -> Path:
    return run.checkpoints / f"step-{step:08d}"


@dataclass
class Trained:
    """What of a run changes as it goes: its weights, and what moves them."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    techniques: Sequence[Technique] = ()


def save(run: RunFolder, trained: Trained, progress: Progress, limit: int) -> int:
    """Writes the checkpoint of `progress.step`, then drops those over `limit` but never the best. Returns its bytes."""
    weights = learned(trained.model, trained.optimizer)
    moments, scalars = optimizer_state(trained.optimizer)
    kept, values = technique_state(trained.techniques)
    size = sum(tensor.numel() * tensor.element_size() for tensor in [*weights.values(), *moments.values(), *kept.values()])
    for leftover in run.checkpoints.glob(".step-*.part"):  # of a save that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    require_space(run, size)

    def fill(folder: Path) -> None:
        write_tensors(weights, folder / "model.safetensors")
        write_tensors(moments, folder / "optimizer.safetensors")
        write_tensors(kept, folder / "techniques.safetensors")
        state = {"progress": progress.to_json(), "optimizer": scalars, "techniques": values}
        (folder / "state.json").write_text(json.dumps(state))
        manifest = {path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in sorted(folder.iterdir())}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))

    run.replace_folder(folder_of(run, progress.step), fill)
    # Later steps are torn checkpoints that were skipped: they count for nothing.
    newest = {*[step for step in steps(run) if step <= progress.step][-limit:], progress.best_step}
    for step in steps(run):
        if step not in newest:
            shutil.rmtree(folder_of(run, step), ignore_errors=True)
    return size


def require_space(run: RunFolder, size: int) -> None:
    free = shutil.disk_usage(run.path).free
    if free < size * 1.01 + (1 << 20):
        raise RunError(
            f"The disk is full: a checkpoint of {size / 1e6:,.0f} MB does not fit into the {free / 1e6:,.0f} MB left at {run.path}. "
            f"Earlier checkpoints are intact; free some space, then `burnish resume {run.path}`."
        )


def steps(run: RunFolder) -> list[int]:
    """Steps of the checkpoints on disk, oldest first."""
    found = (re.fullmatch(r"step-(\d{8,})", path.name) for path in run.checkpoints.glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def fault(folder: Path) -> str | None:
    """Why a checkpoint cannot be used, or None where it is whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name in FILES:
            path, facts = folder / name, manifest[name]
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != facts["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes, {facts['bytes']:,} were written"
            if digest(path) != facts["sha256"]:
                return f"{name} has changed since it was written"
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return None


def newest_whole(run: RunFolder, note: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; torn ones are skipped with a word. None where there are none at all.

    Raises RunError where there are checkpoints but not one is whole.
    """
    torn = []
    for step in reversed(steps(run)):
        folder = folder_of(run, step)
        reason = fault(folder)
        if reason is None:
            return folder
        torn.append(f"{folder.name}: {reason}")
        note(f"skipping a torn checkpoint, {torn[-1]}")
    if torn:
        raise RunError(
            f"{count(len(torn), 'checkpoint')} in {run.checkpoints}, and not one is whole ({'; '.join(torn)}). "
            f"Start anew: `burnish train {run.recipe} --overwrite`."
        )
    return None


def require_whole(run: RunFolder, step: int) -> Path:
    """The checkpoint of a step that cannot be done without. Raises RunError where it is torn."""
    folder = folder_of(run, step)
    reason = fault(folder)
    if reason is not None:
        raise RunError(f"the checkpoint that is needed, {folder}, is torn: {reason}. Start anew: `burnish train {run.recipe} --overwrite`.")
    return folder


def load(folder: Path, trained: Trained) -> Progress:
    """Brings model, optimizer and techniques to the state of a checkpoint, and returns where the run stood."""
    optimizer = trained.optimizer
    load_weights(folder, trained)
    state = json.loads((folder / "state.json").read_text())
    tensors = load_file(folder / "optimizer.safetensors")
    entries: dict[int, dict[str, Any]] = {}
    numbers = {name: index for index, name in enumerate(parameter_names(optimizer))}
    for key, value in [*tensors.items(), *state["optimizer"].items()]:
        name, _, entry = key.rpartition("|")
        entries.setdefault(numbers[name], {})[entry] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**state["progress"])


def load_techniques(folder: Path, techniques: Sequence[Technique]) -> None:
    """Gives each technique what it kept in a checkpoint."""
    tensors, values = load_file(folder / "techniques.safetensors"), json.loads((folder / "state.json").read_text())["techniques"]
    for number, (technique, own) in enumerate(zip(techniques, values, strict=True)):
        technique.restore({key.partition("|")[2]: tensor for key, tensor in tensors.items() if key.startswith(f"{number}|")}, own)


def load_weights(folder: Path, trained: Trained) -> None:
    """Copies a checkpoint's weights into the model, and brings its techniques to where they stood. Raises RunError where they are not those that this recipe trains."""
    stored, current = load_file(folder / "model.safetensors"), learned(trained.model, trained.optimizer)
    if stored.keys() != current.keys():
        different = sorted(stored.keys() ^ current.keys())
        raise RunError(
            f"{folder} does not belong to this recipe: it differs in {count(len(different), 'parameter')} ({different[0]}, ...)."
        )
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(stored[name])
    load_techniques(folder, trained.techniques)


def learned(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What training changes: the parameters that the optimizer moves, and buffers that a model saves (such as running statistics)."""
    chosen = {
        name: parameter.detach()
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    saved = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved}
    return {**chosen, **buffers}


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The optimizer's tensors and its other values, keyed by parameter name and entry.

    What an optimizer of bitsandbytes puts one level deeper comes up again, and its table of quantised values, which all parameters
    share, is written for each of them: safetensors knows no sharing.
    """
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {}
    names, seen = parameter_names(optimizer), set[int]()
    for number, entries in optimizer.state_dict()["state"].items():
        deeper = [item for value in entries.values() if isinstance(value, dict) for item in value.items()]
        for entry, value in [*((entry, value) for entry, value in entries.items() if not isinstance(value, dict)), *deeper]:
            if not isinstance(value, torch.Tensor):
                scalars[f"{names[number]}|{entry}"] = value
                continue
            tensors[f"{names[number]}|{entry}"] = value.clone() if value.data_ptr() in seen else value
            seen.add(value.data_ptr())
    return tensors, scalars


def technique_state(techniques: Sequence[Technique]) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """What the techniques keep: their tensors, keyed by number and name, and their other values."""
    states = [technique.state() for technique in techniques]
    tensors = {f"{number}|{name}": tensor for number, (own, _) in enumerate(states) for name, tensor in own.items()}
    return tensors, [values for _, values in states]


def parameter_names(optimizer: torch.optim.Optimizer) -> list[str]:
    return [name for group in optimizer.param_groups for name in group["names"]]


def write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Writes safetensors; a failing disk raises OSError, as for every other file."""
    with os_errors():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


@contextmanager
def os_errors() -> Iterator[None]:
    """safetensors tells of a failing disk in words; this gives them back as the OSError they were."""
    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), str(error)) from error


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
