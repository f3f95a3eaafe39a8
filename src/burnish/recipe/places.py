"""Where the files that a recipe names lie: beside it where they exist there, else in the current folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from burnish.data import mixture, sources
from burnish.data.spec import Data
from burnish.engine import control
from burnish.losses.distill import Distill
from burnish.models.spec import Model
from burnish.tracking.tensorboard import TensorBoard


def placed(section: Any, base: Path) -> Any:
    """The section with every relative path made absolute: beside the recipe where that exists, else in the current folder."""
    if isinstance(section, Data):
        parts = {key: getattr(section, key) for key in ("train", "validation", "test")}
        found: dict[str, Any] = {key: absolute(part, base) for key, part in parts.items() if is_file(part)}
        if not isinstance(section.train, str):
            found["train"] = dict(zip(placed_sources(section, base), section.train.values(), strict=True))
        if section.augment is not None:
            found["augment"] = section.augment.placed(lambda name: folder(name, base))
        return section.model_copy(update=found)
    if isinstance(section, Model):
        names = {"name": section.name, "tokenizer": section.tokenizer}
        return section.model_copy(update={key: folder(name, base) for key, name in names.items() if name is not None})
    if isinstance(section, Distill):
        return section.model_copy(update={"teacher": folder(section.teacher, base)})
    if isinstance(section, control.Replay):
        return section.model_copy(update={"run": absolute(section.run, base)})
    if isinstance(section, list):  # of trackers
        return [placed(entry, base) for entry in section]
    if isinstance(section, TensorBoard) and section.folder is not None:
        return section.model_copy(update={"folder": os.path.abspath(Path(section.folder).expanduser())})
    return section


def placed_sources(data: Data, base: Path) -> list[str]:
    """What training rows come from, paths absolute."""
    return [absolute(source, base) if is_file(source) else source for source in mixture.each(data.train)]


def folder(name: str, base: Path) -> str:
    """The name of a model or tokenizer, made absolute where it is a folder of this machine."""
    found = absolute(name, base)
    return found if Model(name=name).local or Path(found).is_dir() else name


def is_file(part: Any) -> bool:
    """Whether a part of the data is the name of a file (and not a share, a number of rows, or a source with a scheme)."""
    return isinstance(part, str) and not part.endswith("%") and not part.startswith((sources.HUB, sources.BUNDLED))


def absolute(name: str, base: Path) -> str:
    path = Path(name).expanduser()
    beside = base / path
    return os.path.abspath(beside if beside.exists() else path)
