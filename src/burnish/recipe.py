"""The recipe: YAML, overrides and defaults become one checked tree, before anything heavy is imported or loaded."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from burnish.core import registry
from burnish.core.duration import Duration
from burnish.core.errors import BurnishError, DataError, RecipeError, nearest
from burnish.core.spec import Choice, Spec, faults, locate
from burnish.data import audit, sources
from burnish.data.spec import Data
from burnish.engine.settings import Train
from burnish.losses.spec import CrossEntropy
from burnish.models.spec import Model

for package in ("burnish.tasks", "burnish.methods", "burnish.optim"):
    registry.discover(package)

from burnish.methods.select import Full  # noqa: E402  (after discovery, as every registered spec)
from burnish.optim.optimizers import AdamW  # noqa: E402
from burnish.optim.schedules import Linear  # noqa: E402


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

    optimizer: Annotated[Any, Choice("optimizer", "adamw")] = AdamW()
    """How the parameters move."""

    schedule: Annotated[Any, Choice("schedule", "linear")] = Linear()
    """How the learning rate changes over the run."""

    train: Train = Train()
    """How long, how large, how often."""

    run: str | None = None
    """The run's folder; by default runs/NAME-N where the command is given, NAME being the recipe's."""

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def load(source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Recipe:
    """A checked recipe from a file, a mapping or a Recipe, with `key.sub=value` overrides.

    Raises RecipeError with all faults at once. Relative paths are looked up beside the recipe, then in the current folder.
    """
    if isinstance(source, Recipe):
        raw, origin, base = source.model_dump(mode="json"), "the recipe", Path.cwd()
    elif isinstance(source, Mapping):
        raw, origin, base = dict(source), "the recipe", Path.cwd()
    else:
        raw, origin, base = read_yaml(Path(source)), str(source), Path(source).absolute().parent
    for override in overrides:
        raw = overridden(raw, override)
    return checked(raw, origin, base)


def checked(raw: Mapping[str, Any], origin: str, base: Path) -> Recipe:
    """The recipe, its paths made absolute. What is sound is checked further even where something is not."""
    try:
        recipe: Recipe | None = Recipe.model_validate(raw)
        problems: list[str] = []
        sections = {key: getattr(recipe, key) for key in Recipe.model_fields}
    except ValidationError as error:
        recipe, problems = None, faults(Recipe, error)
        sections = sound_sections(raw, error)
    sections = {key: placed(section, base) for key, section in sections.items()}
    problems += [
        *model_faults(sections.get("model")),
        *data_faults(sections.get("data"), sections.get("task")),
        *combination_faults(sections),
    ]
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


def placed(section: Any, base: Path) -> Any:
    """The section with every relative path made absolute: beside the recipe where that exists, else in the current folder."""
    if isinstance(section, Data):
        parts = {key: getattr(section, key) for key in ("train", "validation", "test")}
        return section.model_copy(update={key: absolute(part, base) for key, part in parts.items() if is_file(part)})
    if isinstance(section, Model):
        names = {"name": section.name, "tokenizer": section.tokenizer}
        return section.model_copy(update={key: folder(name, base) for key, name in names.items() if name is not None})
    return section


def folder(name: str, base: Path) -> str:
    """The name of a model or tokenizer, made absolute where it is a folder of this machine."""
    found = absolute(name, base)
    return found if Model(name=name).local or Path(found).is_dir() else name


def is_file(part: str | int | None) -> bool:
    """Whether a part of the data is the name of a file (and not a share, a number of rows, or a source with a scheme)."""
    return isinstance(part, str) and not part.endswith("%") and not part.startswith((sources.HUB, sources.BUNDLED))


def absolute(name: str, base: Path) -> str:
    path = Path(name).expanduser()
    beside = base / path
    return os.path.abspath(beside if beside.exists() else path)


def model_faults(model: Model | None) -> list[str]:
    fault = model.fault() if model else None
    return [f"`model`: {fault}"] if fault else []


def data_faults(data: Data | None, task: Any) -> list[str]:
    """Missing, empty or unknown files, and columns that the task reads and the files lack. The test file is not opened."""
    if data is None:
        return []
    problems = []
    for key in ("train", "validation", "test"):
        part = getattr(data, key)
        if not (is_file(part) or (isinstance(part, str) and part.startswith(sources.BUNDLED))):
            continue
        try:
            path = sources.locate(part)
            if key != "test" and task is not None:
                found = audit.missing_columns(sources.columns(part), task.columns(True), path.name)
                problems += [f"`data.{key}`: {sentence}" for sentence in found]
        except DataError as error:
            problems.append(f"`data.{key}`: {error}")
    return problems


def combination_faults(sections: Mapping[str, Any]) -> list[str]:
    """Settings that are right in themselves but not together."""
    problems = []
    train, task, data, schedule = (sections.get(key) for key in ("train", "task", "data", "schedule"))
    if train and train.keep_best and task and train.keep_best not in task.metrics:
        known = ", ".join(task.metrics)
        problems.append(
            f"`train.keep_best`: there is no metric `{train.keep_best}`{nearest(train.keep_best, task.metrics)} (known: {known})"
        )
    if train and train.keep_best and data and data.validation is None:
        problems.append("`train.keep_best` needs validation rows: give data.validation a file or a share such as 10%")
    if train and train.patience and not train.keep_best:
        problems.append("`train.patience` needs `train.keep_best`: the metric that has to get better")
    problems += train.faults() if train else []
    if train and train.precision == "fp16" and (dtype := getattr(sections.get("model"), "dtype", "float32")) != "float32":
        problems.append(f"`train.precision`: fp16 needs weights in float32 to add small steps to; model.dtype is {dtype}")
    for key, length in schedule or ():
        if train and train.duration.timed and isinstance(length, Duration) and length.unit == "st" and length.value:
            name = key.replace("warmup", "warm-up")
            problems.append(f"`schedule.{key}`: a run limited by time has no fixed number of steps; give the {name} in percent")
    return problems


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
