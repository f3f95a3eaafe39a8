"""A recipe's rows, encoded as training would have them, without a model: what all its alternatives share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from burnish import build
from burnish.core.errors import DataError, ModelError
from burnish.core.protocols import Anatomy, Learner
from burnish.data import mixture, sources
from burnish.data.spec import held_out
from burnish.models import load
from burnish.models.blocks import anatomy
from burnish.models.skeleton import outlined, skeleton
from burnish.models.spec import Model
from burnish.plan.work import Part
from burnish.recipe import Recipe

Made = TypeVar("Made")


@dataclass
class Survey:
    """Rows, tokenizer, task and examples of a recipe. `new_tokens` are those that the task added; `max_length` is what a row may have.
    `made` keeps models without numbers, and what was traced on them, by what they depend on: most alternatives share theirs."""

    recipe: Recipe
    gathered: build.Gathered
    tokenizer: Any
    learner: Learner
    new_tokens: range
    max_length: int
    examples: dict[str, Any]
    made: dict[str, Any] = field(default_factory=dict)

    def once(self, make: Callable[[], Made], *depends: object) -> Made:
        """What `make` gives, made but once for the same `depends`."""
        name = repr(depends)
        if name not in self.made:
            self.made[name] = make()
        found: Made = self.made[name]
        return found

    @property
    def taught(self) -> build.Taught:
        return self.taught_as(self.recipe)

    def taught_as(self, recipe: Recipe) -> build.Taught:
        """The task that has met its rows, under a recipe that differs in nothing that rows depend on."""
        bound = recipe.model_copy(update={"task": self.learner.task})
        return build.Taught(bound, self.learner, self.gathered, self.examples)


def survey(recipe: Recipe, tell: build.Tell = lambda what, done, total: None) -> Survey:
    """Reads and encodes the rows of training and validation. Raises BurnishError where training would."""
    tokenizer = load.load_tokenizer(recipe.model)
    known = len(tokenizer)
    gathered = build.gather(recipe)
    learner = build.bind(recipe, gathered, tokenizer)
    bones = skeleton(recipe.model, learner.auto_class, tokenizer, learner.config)
    tokenizer.model_max_length = limit = build.allowed_length(recipe, tokenizer, bones)
    examples = {}
    for part, rows in gathered.rows.items():
        examples[part], gathered.rows[part] = build.encoded(recipe, learner, rows, ignore, tell)
    return Survey(recipe, gathered, tokenizer, learner, range(known, len(tokenizer)), limit, examples)


def ignore(message: str) -> None:
    """What training would note of the rows is said by other commands."""


def bones_of(model: Model, survey: Survey) -> tuple[Any, Anatomy]:
    """The recipe's model without numbers, and where it keeps what. Where only a configuration is there and no weights, the head is
    taken for fresh, unless it gives a vocabulary's scores."""
    arguments = (model, survey.learner.auto_class, survey.tokenizer)
    if model.fresh or has_weights(model):
        found, fresh = outlined(*arguments, len(survey.new_tokens), survey.learner.config)
    else:
        found = skeleton(*arguments, survey.learner.config)
        whole: Any = found
        fresh = list(anatomy(found).head) if whole.get_output_embeddings() is None else []
    return found, replace(anatomy(found), fresh=fresh, new_tokens=survey.new_tokens)


def has_weights(model: Model) -> bool:
    """Whether weights lie where the model is named, or are to be had from a hub."""
    fault, folder = model.folder()
    if fault:
        raise ModelError(f"`model`: {fault}.")
    return folder is None or any(folder.glob("*.safetensors"))


def part_of(survey: Survey, name: str) -> Part:
    """The examples of a part by their lengths."""
    examples = survey.examples[name]
    sides = [ragged.lengths for side, ragged in examples.inputs.items() if side.endswith("input_ids")]
    two = "decoder_input_ids" in examples.inputs
    return Part(len(survey.gathered.rows[name]), np.asarray(examples.lengths), np.asarray(sides[0]) if two else None)


def parts_of(survey: Survey) -> dict[str, Part]:
    """Every part of the data. A test file stays closed: it is taken to hold as many rows as its size says, and as long ones as are known."""
    found = {name: part_of(survey, name) for name in survey.examples}
    data = survey.recipe.data
    if "test" in found or data.test is None or held_out(data.test, 0) is not None:
        return found
    like = found.get("validation", found["train"])
    known = data.validation if "validation" in found and held_out(data.validation, 0) is None else mixture.each(data.train)[0]
    try:
        sizes = [sources.locate(str(source)).stat().st_size for source in (data.test, known)]
    except (DataError, OSError):
        return found
    times = sizes[0] / max(1, sizes[1])
    chosen = np.linspace(0, len(like.lengths) - 1, max(1, round(len(like.lengths) * times))).round().astype(int)
    sides = None if like.sources is None else like.sources[chosen]
    return {**found, "test": Part(max(1, round(like.rows * times)), like.lengths[chosen], sides)}


def rows_of(survey: Survey, number: int) -> Sequence[dict[str, Any]]:
    """The first rows of training, as a data file would hold them."""
    return [row.values for row in survey.gathered.rows["train"][:number]]
