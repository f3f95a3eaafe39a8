"""Specs: the typed tree behind a recipe. Unknown keys are refused by name, and every fault is told at once."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema

from burnish.core import registry
from burnish.core.errors import nearest


class Spec(BaseModel):
    """A piece of a recipe. A field's docstring is its help, and the comment in generated YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def bare_name(cls, value: Any) -> Any:
        """A bare name stands for `{name: ...}`."""
        return {"name": value} if isinstance(value, str) and "name" in cls.model_fields else value

    @model_validator(mode="before")
    @classmethod
    def given_in_part(cls, value: Any) -> Any:
        """A section of which only some fields are given keeps what the default of this place sets in the others."""
        if not isinstance(value, Mapping):
            return value
        defaults = {key: field.default for key, field in cls.model_fields.items() if isinstance(field.default, Spec)}
        usual = {key: default.model_dump(exclude_unset=True) for key, default in defaults.items()}
        given = {key: section for key, section in value.items() if key in usual and isinstance(section, Mapping)}
        same = {key: section for key, section in given.items() if section.get("name") == usual[key].get("name")}
        return {**value, **{key: {**usual[key], **section} for key, section in same.items()}}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Tells editors of the bare name where it is free text; a name out of a list is told by `Choice`."""
        name = cls.model_fields.get("name")
        whole = handler(schema)
        return {"anyOf": [{"type": "string"}, whole]} if name is not None and name.is_required() else whole


class Choice:
    """Field annotation: one of the registered specs of `kind`, written as a bare name or as `{name: ..., ...}`.

    Where there is a `usual` one, its name may be left out: `optimizer: {lr: 1.0e-4}`.
    """

    def __init__(self, kind: str, usual: str | None = None) -> None:
        self.kind, self.usual = kind, usual

    def named(self, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and "name" not in value:
            if self.usual is None:
                raise ValueError(f"needs a `name`: one of {', '.join(registry.specs(self.kind))}")
            return {"name": self.usual, **value}
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(cls) for name, cls in registry.specs(self.kind).items()}
        union = core_schema.tagged_union_schema(choices=choices, discriminator="name")
        return core_schema.no_info_before_validator_function(self.named, union)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names = {"type": "string", "enum": list(registry.specs(self.kind))}
        choices = handler(schema)
        return {"anyOf": [names, *choices.get("oneOf", [choices])]}  # not oneOf: without a name several may fit


def member(cls: type[BaseModel], key: str) -> dict[str, type[BaseModel]]:
    """The specs that may stand under `key` of `cls`, by name; a single spec stands under the empty name."""
    field = cls.model_fields.get(key)
    if field is None:
        return {}
    inner = typing.get_args(field.annotation)
    for mark in (*field.metadata, *(mark for part in inner for mark in getattr(part, "__metadata__", ()))):
        if isinstance(mark, Choice):
            return registry.specs(mark.kind)
    for part in (field.annotation, *inner):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return {"": part}
    return {}


def faults(root: type[BaseModel], error: ValidationError) -> list[str]:
    """Each fault of a validation as one sentence with the dotted key, what was expected, and the nearest known name."""
    return [sentence(root, item) for item in error.errors(include_url=False)]


def sentence(root: type[BaseModel], item: Mapping[str, Any]) -> str:
    """One of pydantic's faults in words, with the way out where it is known."""
    owner, path = locate(root, item["loc"])
    key = ".".join(path) or "the recipe"
    kind, given, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind == "extra_forbidden":
        hint = nearest(path[-1], owner.model_fields) or elsewhere(root, path[-1])
        return f"`{key}` is unknown{hint or '; known here: ' + ', '.join(owner.model_fields)}"
    if kind == "union_tag_invalid":
        expected = [name.strip("' ") for name in context["expected_tags"].split(",")]
        return f"`{key}`: there is no `{context['tag']}`{nearest(str(context['tag']), expected)} (known: {', '.join(expected)})"
    if kind == "missing":
        return f"`{key}` is missing: {owner.model_fields[path[-1]].description or 'it has no default'}"
    if kind == "value_error":
        return f"`{key}`: {context['error']}"
    shown = f"; got {given!r}" if not isinstance(given, (dict, list)) else ""
    return f"`{key}`: {item['msg'][0].lower() + item['msg'][1:]}{shown}"


def locate(root: type[BaseModel], loc: Iterable[str | int]) -> tuple[type[BaseModel], list[str]]:
    """The spec that owns the last part of `loc`, and the dotted path as the user wrote it (without union tags)."""
    owner, path = root, list[str]()
    waiting: dict[str, type[BaseModel]] = {}
    for part in loc:
        if isinstance(part, int):  # a place in a list, whose entries are what may stand under its key
            path.append(str(part))
            continue
        if isinstance(part, str) and part in waiting and "" not in waiting:
            owner, waiting = waiting[part], {}
            continue
        owner = waiting.get("", owner)
        path.append(str(part))
        waiting = member(owner, str(part))
    return owner, path


def elsewhere(root: type[BaseModel], key: str) -> str:
    """Where a key that is unknown here belongs, as a hint: to the usual spec of a section, else to each that has it."""
    for section, field in root.model_fields.items():
        found = [name for name, cls in member(root, section).items() if key in cls.model_fields and key != "name"]
        if found:
            usual = [mark.usual for mark in field.metadata if isinstance(mark, Choice) and mark.usual in found]
            names = ", ".join(name for name in usual or found if name)
            return f" here; it belongs to `{section}{f' ({names})' if names else ''}`"
    return ""
