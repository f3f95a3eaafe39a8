"""What an adapter learned, taken into the weights under it."""

from __future__ import annotations

import shutil
from pathlib import Path

from burnish.core.errors import RunError, disk_errors
from burnish.models.load import quiet
from burnish.run.finished import load


def merge(path: str | Path, output: str | Path, overwrite: bool = False) -> Path:
    """Writes a run's model as plain weights, which transformers opens without peft, and its tokenizer beside them.

    The function is the same: y = W x + update(x) becomes y = W' x. Raises ModelError where the method leaves no such update (virtual
    tokens, bottleneck adapters, plain weights), RunError where the weights are quantised or `output` is taken.
    """
    run, target = load(path), Path(output)
    held = run.recipe.model.quantize
    if held is not None:
        raise RunError(
            f"the weights of {path} are held in {held.name}: an update taken into them would be rounded away. Use the run as it is, "
            "or train with full weights."
        )
    if target.resolve().is_relative_to(run.path.resolve()):
        raise RunError(f"{target} is within the run itself, which stays as it is. Name another folder with --output.")
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        if not overwrite:
            raise RunError(f"{target} exists: name another folder with --output, or say --overwrite.")
        if not (target / "config.json").is_file():
            raise RunError(f"{target} exists and holds no model: it is left alone. Name another folder with --output.")
    with quiet():
        model = run.opened_by(run.recipe.method.merged)
        with disk_errors(f"Writing {target}"):
            if target.exists():
                shutil.rmtree(target)
            model.save_pretrained(target)
            run.tokenizer.save_pretrained(target)
    return target
