"""Finds specs by kind and name. A spec registers beside its class; a package's modules are discovered, so a new file is enough."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

AnySpec = TypeVar("AnySpec", bound=BaseModel)

_specs: dict[str, dict[str, type[BaseModel]]] = {}


def register(kind: str) -> Callable[[type[AnySpec]], type[AnySpec]]:
    """Class decorator: makes a spec selectable in recipes under the default of its `name` field."""

    def enter(cls: type[AnySpec]) -> type[AnySpec]:
        name = cls.model_fields["name"].default
        known = _specs.setdefault(kind, {})
        if name in known and known[name].__qualname__ != cls.__qualname__:
            raise ValueError(f"{kind} `{name}` is registered twice: {known[name].__module__} and {cls.__module__}")
        known[name] = cls
        return cls

    return enter


def discover(package: str) -> None:
    """Imports every module of `package`, so that what it registers is known. Such modules import no torch."""
    module = importlib.import_module(package)
    for found in pkgutil.iter_modules(module.__path__, package + "."):
        importlib.import_module(found.name)


def kinds() -> list[str]:
    return sorted(_specs)


def specs(kind: str) -> dict[str, type[BaseModel]]:
    """Name -> spec class, in alphabetical order."""
    return dict(sorted(_specs.get(kind, {}).items()))
