"""Paraphrases by a function of the user's own: a dictionary of their field, a service, a language model."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from burnish.core.errors import DataError
from burnish.core.passage import Passage, written
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.data.augment.material import Drawn, Material
from burnish.data.augment.whole import refitted

if TYPE_CHECKING:
    import numpy as np


@register("augmentation")
class Paraphrase(Spec):
    """Has a Python function of your own write the text anew: it runs with all rights that you have.

    It gets the text and a numpy.random.Generator, and returns a text. What it draws from the generator is the same whenever the run is
    resumed; what it draws elsewhere is not. A text in which an entity or an answer no longer stands exactly once is not used.
    """

    name: Literal["paraphrase"] = "paraphrase"
    word_for_word: ClassVar[bool] = False
    pure: ClassVar[bool] = False

    callable: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
    """The function as module:function, found where Python finds modules (set PYTHONPATH for a file of your own)."""

    def build(self, material: Material) -> Drawn:
        function = self.function()

        def change(passage: Passage, draw: np.random.Generator) -> Passage:
            text = written(passage)
            try:
                found = function(text, draw)
            except Exception as error:
                raise DataError(f"the paraphrase function {self.callable} failed on {text[:80]!r}: {error!r}") from error
            if not isinstance(found, str):
                raise DataError(f"the paraphrase function {self.callable} gave {type(found).__name__} where a text is expected.")
            return refitted(passage, found) or passage

        return change

    def function(self) -> Callable[..., Any]:
        """The function itself. Raises DataError where there is none of that name."""
        module, _, name = self.callable.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise DataError(
                f"the paraphrase function {self.callable} cannot be imported: {error}. A module is found where Python looks for it: "
                "in the environment that burnish is installed in, or in a folder of PYTHONPATH."
            ) from error
        if not callable(found):
            raise DataError(f"{self.callable} is {type(found).__name__} and no function.")
        return found
