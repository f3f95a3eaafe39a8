"""A recipe as it is written: YAML in which no key stands twice, and changes to it from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from burnish.core.errors import BurnishError, RecipeError, nearest


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key written twice is an error and not a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key `{twice}` is written twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises RecipeError with line and column where it is none."""
    if not path.is_file():
        beside = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise BurnishError(f"the recipe {path} does not exist{nearest(path.name, beside)}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(str(path), [f"not valid YAML: {where}{getattr(error, 'problem', None) or error}"]) from error
    except OSError as error:
        raise BurnishError(f"the recipe {path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict):
        raise RecipeError(
            str(path), ["it is empty" if content is None else f"keys and values are expected, found {type(content).__name__}"]
        )
    return content


def overridden(raw: Mapping[str, Any], override: str) -> dict[str, Any]:
    """A copy of `raw` with one `key.sub=value` set. A bare name on the way becomes `{name: ...}`."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise BurnishError(f"{override!r}: overrides are written key.sub=value, such as train.seed=1")
    try:
        value = yaml.load(text, Loader=UniqueKeys)
    except yaml.YAMLError as error:
        raise BurnishError(f"{override!r}: the value is not valid YAML ({getattr(error, 'problem', error)})") from error
    result = dict(raw)
    place, parts = result, key.split(".")
    for part in parts[:-1]:
        inner = place.get(part)
        place[part] = {"name": inner} if isinstance(inner, str) else dict(inner) if isinstance(inner, Mapping) else {}
        place = place[part]
    place[parts[-1]] = value
    return result
