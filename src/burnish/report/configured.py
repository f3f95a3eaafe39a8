"""What a run was configured to do, from its own recipe: method, optimizer, schedule, loss, and the techniques that are switched on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from burnish.report.collect import mapping
from burnish.report.wording import spoken

SECTIONS = (("Method", "method"), ("Optimizer", "optimizer"), ("Schedule", "schedule"), ("Loss", "loss"))

TECHNIQUES: Mapping[str, tuple[Any, ...]] = {
    "model.from_scratch": (),
    "model.quantize": (),
    "model.layers": (),
    "data.balance": (),
    "data.order": ({"name": "random"},),
    "data.augment": (),
    "data.epoch_rows": (),
    "distill": (),
    "selective": (1.0,),
    "dropout": (),
    "control": (),
    "train.max_grad_norm": (),
    "train.ema": (),
    "train.keep_best": (),
    "train.patience": (),
    "train.checkpoint_blocks": (),
    "train.offload": (),
    "train.in_backward": (),
}
"""Key of the recipe -> values that change nothing, beside null, false, 0 and what is empty."""


def settings(recipe: str) -> list[tuple[str, str]]:
    """(name, value) of each section, the techniques that are on, and the seed; empty where the recipe cannot be read.

    >>> settings("optimizer: {name: sgd, lr: 0.1}\\ntrain: {ema: 0.99, patience: null, seed: 3}")
    [('Optimizer', 'sgd, lr 0.1'), ('Techniques', 'ema 0.99'), ('Seed', '3')]
    """
    try:
        content = mapping(yaml.safe_load(recipe))
    except yaml.YAMLError:
        return []
    found = [(name, told(content[key])) for name, key in SECTIONS if content.get(key)]
    on = [text for key, idle in TECHNIQUES.items() for text in switched(key.rpartition(".")[2], at(content, key), idle)]
    seed = at(content, "train.seed")
    return [*found, *([("Techniques", "; ".join(on))] if on else []), *([("Seed", str(seed))] if seed is not None else [])]


def named(recipe: str, section: str) -> str:
    """The name in a section of a recipe, which may be written as the section itself; empty where there is none.

    >>> named("model: starter:minilm\\ntask: {name: tag, text: words}", "task")
    'tag'
    """
    try:
        value = mapping(yaml.safe_load(recipe)).get(section)
    except yaml.YAMLError:
        return ""
    return str(mapping(value).get("name") or "") if not isinstance(value, str) else value


def at(content: Mapping[str, Any], key: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    for step in key.split("."):
        content = mapping(content).get(step)  # type: ignore[assignment]
    return content


def switched(name: str, value: Any, idle: tuple[Any, ...]) -> Iterator[str]:
    """A technique in words, where it is on; of a section without a name each of its keys by itself."""
    if not value or value in idle:
        return
    if isinstance(value, Mapping) and "name" not in value:
        for key, inner in value.items():
            prefix = "" if name == "selective" else f"{name} "
            yield from switched(f"{prefix}{key}", inner, idle)
    elif value is True:
        yield spoken(name)
    else:
        yield f"{spoken(name)} {told(value)}"


def told(value: Any) -> str:
    """A value of a recipe in words: `{name: adamw, lr: 0.1, eps: null}` -> `adamw, lr 0.1`."""
    if isinstance(value, Mapping):
        parts = [str(value["name"])] if "name" in value else []
        known = {key: inner for key, inner in value.items() if key != "name" and inner not in (None, False, [], {}) and inner != ""}
        return ", ".join([*parts, *(spoken(key) if inner is True else f"{spoken(key)} {told(inner)}" for key, inner in known.items())])
    if isinstance(value, list):
        return " ".join(map(told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
