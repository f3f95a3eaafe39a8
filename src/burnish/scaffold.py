"""Writes a first recipe, with each field's docstring as its comment, and lists what a recipe can name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from pydantic import BaseModel

from burnish.core import registry
from burnish.core.duration import Duration
from burnish.core.errors import BurnishError, nearest
from burnish.data import sources
from burnish.data.spec import Data
from burnish.models.spec import Model
from burnish.models.starters import STARTERS
from burnish.recipe import Recipe

LOOKED_AT = 1000
USUAL_MODELS = {"rewrite": "google-t5/t5-small", "continue": "HuggingFaceTB/SmolLM2-135M", "chat": "HuggingFaceTB/SmolLM2-135M"}
"""What a first recipe starts from where no model is named; every other task reads with the starter."""


def recipe_for(data: str, task: str, model: str | None) -> tuple[str, str]:
    """A commented recipe as YAML, and the name of its file without ending. Raises BurnishError for an unknown task."""
    tasks: dict[str, Any] = dict(registry.specs("task"))
    if task not in tasks:
        raise BurnishError(f"there is no task `{task}`{nearest(task, tasks)} (known: {', '.join(tasks)})")
    rows = sources.read(data)[:LOOKED_AT]
    start = Model(name=model or USUAL_MODELS.get(task, "starter:minilm"))
    recipe = Recipe(model=start, task=tasks[task].guess(rows), data=Data(train=data, validation="10%"))
    name = (
        data.removeprefix(sources.BUNDLED)
        .removeprefix(sources.HUB)
        .replace("\\", "/")
        .rpartition("/")[2]
        .partition(".")[0]
        .replace(":", "-")
    )
    head = [
        f"# burnish train {name}.yaml",
        f"# The columns ({', '.join(rows[0].values)}) were guessed from the first rows: look at them.",
        "",
    ]
    return "\n".join([*head, *commented(recipe)]) + "\n", name


def commented(spec: BaseModel, indent: str = "") -> Iterator[str]:
    """Lines of YAML for a spec: a comment above each field, defaults written out."""
    fields = type(spec).model_fields
    for key in sorted(fields, key=lambda key: key != "name"):
        value = getattr(spec, key)
        if fields[key].description:
            yield f"{indent}# {fields[key].description}"
        if isinstance(value, BaseModel):
            yield f"{indent}{key}:"
            yield from commented(value, indent + "  ")
            yield ""
        else:
            yield f"{indent}{key}: {scalar(spec, key)}"


def scalar(spec: BaseModel, key: str) -> str:
    """A value as YAML on one line (JSON is YAML)."""
    value = spec.model_dump(mode="json")[key]
    if isinstance(getattr(spec, key), Duration):
        return str(value)
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else repr(value)
    return json.dumps(value, ensure_ascii=False)


def catalogue() -> dict[str, list[tuple[str, str]]]:
    """Everything that a recipe can name, by kind, with the first sentence of its help."""
    listed = {}
    for kind in ("task", "order", "method", "loss", "optimizer", "schedule", "control", "augmentation", "tracker"):
        found = registry.specs(kind)
        listed["losses" if kind == "loss" else f"{kind}s"] = [
            (name, " ".join((cls.__doc__ or "").split()).partition(". ")[0].rstrip(".")) for name, cls in found.items()
        ]
    listed["starters"] = [(f"starter:{name}", starter.about) for name, starter in STARTERS.items()]
    shop = resources.files("burnish").joinpath("shop")
    files = sorted(entry.name for entry in shop.iterdir() if entry.name.endswith(".jsonl"))
    listed["bundled data"] = [
        (f"bundled:{name.removesuffix('.jsonl')}", f"{len(shop.joinpath(name).read_text(encoding='utf-8').splitlines())} rows")
        for name in files
    ]
    return listed
