"""The recipe: YAML, overrides and defaults become one checked tree, before anything heavy is imported or loaded."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from burnish.core import registry
from burnish.core.errors import RecipeError
from burnish.core.secrets import secret_faults
from burnish.core.spec import Choice, Spec, faults, locate
from burnish.data.spec import Data
from burnish.engine.savings import Engine
from burnish.engine.settings import Train
from burnish.losses.distill import Distill
from burnish.losses.spec import CrossEntropy
from burnish.models.dropout import Dropout
from burnish.models.spec import Model
from burnish.recipe.places import placed
from burnish.recipe.reading import overridden, read_yaml
from burnish.recipe.space import unsearched
from burnish.recipe.sweep import Sweep

__all__ = ["Recipe", "load", "overridden", "read_yaml"]

for package in ("burnish.tasks", "burnish.methods", "burnish.optim", "burnish.tracking"):
    registry.discover(package)

from burnish.methods.select import Full  # noqa: E402  (after discovery, as every registered spec)
from burnish.optim.optimizers import AdamW  # noqa: E402
from burnish.optim.schedules import Linear  # noqa: E402
from burnish.optim.selective import Selective  # noqa: E402
from burnish.recipe.conflicts import disagreements, twice_faults  # noqa: E402


def listed(value: Any) -> Any:
    """A single one stands for a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]


class Recipe(Spec):
    """Everything that decides a run."""

    model: Model
    """The pretrained model: a hub id, a local folder, or starter:minilm."""

    task: Annotated[Any, Choice("task")]
    """What is learned."""

    data: Data
    """Where the rows come from."""

    method: Annotated[Any, Choice("method", "full")] = Full()
    """Which parameters learn, and in which form."""

    loss: Annotated[Any, Choice("loss", "cross_entropy")] = CrossEntropy()
    """What training makes smaller; evaluation always gives the plain likelihood."""

    distill: Distill | None = None
    """A teacher to learn from beside the labels, and how."""

    optimizer: Annotated[Any, Choice("optimizer", "adamw")] = AdamW()
    """How the parameters move."""

    schedule: Annotated[Any, Choice("schedule", "linear")] = Linear()
    """How the learning rate changes over the run."""

    selective: Selective = Selective()
    """Learning rates, decay and penalties that differ between parameters."""

    train: Train = Train()
    """How long, how large, how often."""

    engine: Engine = Engine()
    """How the machine does its work, without a change to the result."""

    dropout: Dropout = Dropout()
    """How much is dropped in training, by place; by default as the model has it."""

    control: Annotated[Any, Choice("control", "dynamic")] | None = None
    """What is turned on the way by what the validation rows say: dynamic, or replay of another run's moves."""

    sweep: Sweep | None = None
    """How `burnish sweep` searches a recipe that has ranges in the place of values."""

    track: Annotated[list[Annotated[Any, Choice("tracker")]], BeforeValidator(listed)] = []
    """Where the run is followed beside its own folder: tensorboard, wandb, mlflow, or several; their keys come from the environment."""

    run: str | None = None
    """The run's folder; by default runs/NAME-N where the command is given, NAME being the recipe's."""

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def load(source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Recipe:
    """A checked recipe from a file, a mapping or a Recipe, with `key.sub=value` overrides.

    Raises RecipeError with all faults at once. Relative paths are looked up beside the recipe, then in the current folder.
    """
    raw, origin, base = read(source, overrides)
    if problems := unsearched(raw):
        raise RecipeError(origin, problems)
    return checked(raw, origin, base)


def read(source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str]) -> tuple[dict[str, Any], str, Path]:
    """A recipe as it is written, overrides applied; what it is called in messages; and where its relative paths begin."""
    if isinstance(source, Recipe):
        raw, origin, base = source.model_dump(mode="json"), "the recipe", Path.cwd()
    elif isinstance(source, Mapping):
        raw, origin, base = dict(source), "the recipe", Path.cwd()
    else:
        raw, origin, base = read_yaml(Path(source)), str(source), Path(source).absolute().parent
    for override in overrides:
        raw = overridden(raw, override)
    return raw, origin, base


def checked(raw: Mapping[str, Any], origin: str, base: Path) -> Recipe:
    """The recipe, its paths made absolute. What is sound is checked further even where something is not."""
    try:
        recipe: Recipe | None = Recipe.model_validate(raw)
        problems: list[str] = []
        sections = {key: getattr(recipe, key) for key in Recipe.model_fields}
    except ValidationError as error:
        recipe, problems = None, faults(Recipe, error)
        sections = sound_sections(raw, error)
    problems += twice_faults(sections.get("data"), base)
    sections = {key: placed(section, base) for key, section in sections.items()}
    problems += disagreements(sections) + secret_faults(raw)
    if problems or recipe is None:
        raise RecipeError(origin, problems)
    return recipe.model_copy(update=sections)


def sound_sections(raw: Mapping[str, Any], error: ValidationError) -> dict[str, Any]:
    """What of a faulty recipe is right in itself: its sections, each without its faulty keys."""
    rest = copy.deepcopy(dict(raw))
    for item in error.errors(include_url=False):
        *parents, key = locate(Recipe, item["loc"])[1] or [""]
        place: Any = rest
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(key, None)
    sound = {}
    for key, field in Recipe.model_fields.items():
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[Any, *field.metadata] if field.metadata else field.annotation or Any)
        try:
            sound[key] = adapter.validate_python(rest[key]) if key in rest else field.get_default()
        except ValidationError:
            continue
    return {key: section for key, section in sound.items() if section is not PydanticUndefined}
