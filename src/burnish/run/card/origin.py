"""What a model was made of, as its card names it: the pretrained model, its license, the data; never a folder of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from burnish.data import mixture, sources
from burnish.models.spec import Model
from burnish.models.starters import PREFIX, STARTERS, locate
from burnish.recipe import Recipe


def base_model(spec: Model) -> str | None:
    """The hub id of the pretrained weights; of a local folder its name; None where there were none."""
    if spec.fresh:
        return None
    if spec.name.startswith(PREFIX):
        return STARTERS[spec.name.removeprefix(PREFIX)].hub
    return Path(spec.name).name if spec.local else spec.name


def hub_base(spec: Model) -> str | None:
    """The hub id of the pretrained weights; None where they came from a folder: the hub refuses what is no id of its own."""
    return base_model(spec) if spec.on_hub or spec.name.startswith(PREFIX) else None


def base_card(spec: Model) -> dict[str, Any]:
    """What the pretrained model says of itself at the head of its own card, as far as that is on this machine."""
    path = readme(spec)
    if spec.fresh or path is None or not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        content = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") else None
    except (OSError, ValueError, yaml.YAMLError):  # somebody else's file: it is only asked for a license
        return {}
    return dict(content) if isinstance(content, Mapping) else {}


def readme(spec: Model) -> Path | None:
    if spec.name.startswith(PREFIX):
        return locate(spec.name) / "README.md"
    if not spec.on_hub:
        return Path(spec.name).expanduser() / "README.md"
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.name, "README.md", revision=spec.revision)
    return Path(found) if isinstance(found, str) else None


def hub_datasets(recipe: Recipe) -> list[str]:
    """Ids of the data sets of the hub among the data."""
    named = [*mixture.each(recipe.data.train), recipe.data.validation, recipe.data.test]
    found = [
        source.removeprefix(sources.HUB).partition(":")[0] for source in named if isinstance(source, str) and source.startswith(sources.HUB)
    ]
    return list(dict.fromkeys(found))


def data_name(recipe: Recipe) -> str:
    """What the training rows are called: `messages-train`, `reviews + news`."""
    return " + ".join(map(called, mixture.each(recipe.data.train)))


def measured_data(recipe: Recipe, part: str) -> tuple[str, str]:
    """(id on the hub, or name; name) of the rows of a part, which may be a share of the training rows."""
    source = getattr(recipe.data, part, None)
    if not isinstance(source, str) or source.strip().endswith("%"):
        named = hub_datasets(recipe)
        return named[0] if named else data_name(recipe), data_name(recipe)
    name = called(source)
    return (source.removeprefix(sources.HUB).partition(":")[0] if source.startswith(sources.HUB) else name), name


def called(source: str) -> str:
    """A source by its name, without folder, ending, and split."""
    plain = source.removeprefix(sources.HUB).partition(":")[0] if source.startswith(sources.HUB) else source.removeprefix(sources.BUNDLED)
    return Path(plain).name.partition(".")[0]
