"""Burnish fine-tunes pretrained transformers on small data and modest hardware, and shows whether it worked.

>>> import burnish
>>> run = burnish.train("recipe.yaml")              # doctest: +SKIP
>>> burnish.load(run.path).predict(["Well done!"])  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.core.errors import BurnishError
    from burnish.recipe import Recipe
    from burnish.run import Run, load, resume, train
    from burnish.terminal import Display

__version__ = "0.1.0"
__all__ = ["BurnishError", "Display", "Recipe", "Run", "load", "resume", "train"]

HOMES = {
    "BurnishError": "burnish.core.errors",
    "Display": "burnish.terminal",
    "Recipe": "burnish.recipe",
    "Run": "burnish.run",
    "load": "burnish.run",
    "resume": "burnish.run",
    "train": "burnish.run",
}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used, so that `import burnish` costs nothing."""
    if name in HOMES:
        return getattr(importlib.import_module(HOMES[name]), name)
    raise AttributeError(f"module 'burnish' has no attribute {name!r}")
