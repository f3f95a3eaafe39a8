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
from burnish.data import audit, mixture, sources
from burnish.data.spec import Data
from burnish.engine import control
from burnish.engine.savings import Engine
from burnish.engine.settings import Train
from burnish.losses.distill import Distill
from burnish.losses.spec import CrossEntropy, loss_fault
from burnish.models.dropout import Dropout
from burnish.models.spec import Model

for package in ("burnish.tasks", "burnish.methods", "burnish.optim"):
    registry.discover(package)

from burnish.methods.select import Full  # noqa: E402  (after discovery, as every registered spec)
from burnish.optim.optimizers import AdamW  # noqa: E402
from burnish.optim.plateau import Plateau  # noqa: E402
from burnish.optim.schedules import Linear  # noqa: E402
from burnish.optim.selective import Selective  # noqa: E402


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
    problems += twice_faults(sections.get("data"), base)
    sections = {key: placed(section, base) for key, section in sections.items()}
    problems += [
        *model_faults(sections.get("model")),
        *distill_faults(sections.get("distill")),
        *data_faults(sections.get("data"), sections.get("task")),
        *combination_faults(sections),
        *control_faults(sections),
        *balance_faults(sections),
        *own_folder_faults(sections),
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
        found: dict[str, Any] = {key: absolute(part, base) for key, part in parts.items() if is_file(part)}
        if not isinstance(section.train, str):
            found["train"] = dict(zip(placed_sources(section, base), section.train.values(), strict=True))
        if section.augment is not None:
            found["augment"] = section.augment.placed(lambda name: folder(name, base))
        return section.model_copy(update=found)
    if isinstance(section, Model):
        names = {"name": section.name, "tokenizer": section.tokenizer}
        return section.model_copy(update={key: folder(name, base) for key, name in names.items() if name is not None})
    if isinstance(section, Distill):
        return section.model_copy(update={"teacher": folder(section.teacher, base)})
    if isinstance(section, control.Replay):
        return section.model_copy(update={"run": absolute(section.run, base)})
    return section


def placed_sources(data: Data, base: Path) -> list[str]:
    """What training rows come from, paths absolute."""
    return [absolute(source, base) if is_file(source) else source for source in mixture.each(data.train)]


def twice_faults(data: Data | None, base: Path) -> list[str]:
    """Sources of a mixture that are one and the same file."""
    found = placed_sources(data, base) if data else []
    return [f"`data.train`: {source} is named twice: give it one weight" for source in dict.fromkeys(found) if found.count(source) > 1]


def distill_faults(distill: Distill | None) -> list[str]:
    """What is plainly wrong with a teacher: no finished run and no model, or settings that do not go together."""
    if distill is None:
        return []
    found, path = [distill.fault()], Path(distill.teacher)
    if not (path / "recipe.yaml").is_file():
        fault = Model(name=distill.teacher).name_fault()
        found.append(fault and f"`teacher`: {fault}")
    elif not (path / "model").is_dir():
        found.append(f"`teacher`: the run {path} has no model yet. Finish it: `burnish resume {path}`")
    return [f"`distill`: {fault}" for fault in found if fault]


def folder(name: str, base: Path) -> str:
    """The name of a model or tokenizer, made absolute where it is a folder of this machine."""
    found = absolute(name, base)
    return found if Model(name=name).local or Path(found).is_dir() else name


def is_file(part: Any) -> bool:
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
    parts: list[tuple[str, Any]] = [("validation", data.validation), ("test", data.test)]
    for key, part in [*(("train", source) for source in mixture.each(data.train)), *parts]:
        if not (is_file(part) or (isinstance(part, str) and part.startswith(sources.BUNDLED))):
            continue
        try:
            path = sources.locate(part)
            if key != "test":
                wanted = [*(task.columns(True) if task is not None else ()), *(data.order.columns if key == "train" else ())]
                found = audit.missing_columns(sources.columns(part), wanted, path.name)
                problems += [f"`data.{key}`: {sentence}" for sentence in found]
        except DataError as error:
            problems.append(f"`data.{key}`: {error}")
    return problems


def combination_faults(sections: Mapping[str, Any]) -> list[str]:
    """Settings that are right in themselves but not together."""
    problems = []
    problems += quantize_faults(sections.get("model"), sections.get("method"))
    missing = getattr(sections.get("optimizer"), "fault", lambda: None)()
    problems += [f"`optimizer`: {missing}"] if missing else []
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
    problems += training_faults(sections)
    if data and data.augment and task and (reason := data.augment.fault(task.word_for_word)):
        problems.append(f"`data.augment`: {reason}")
    if train and train.precision == "fp16" and (dtype := getattr(sections.get("model"), "dtype", "float32")) != "float32":
        problems.append(f"`train.precision`: fp16 needs weights in float32 to add small steps to; model.dtype is {dtype}")
    model, selective = sections.get("model"), sections.get("selective")
    if model and model.fresh and selective and selective.l2_sp and selective.l2_sp.alpha:
        problems.append(
            "`selective.l2_sp` holds pretrained weights to what they were, and this model starts at random: use l2 or weight_decay"
        )
    for key, length in schedule or ():
        if train and train.duration.timed and isinstance(length, Duration) and length.unit == "st" and length.value:
            name = key.replace("warmup", "warm-up")
            problems.append(f"`schedule.{key}`: a run limited by time has no fixed number of steps; give the {name} in percent")
    return problems


def training_faults(sections: Mapping[str, Any]) -> list[str]:
    """Ways to train that do not go together, or not with the method or with penalties."""
    train, selective, method = (sections.get(key) for key in ("train", "selective", "method"))
    if train is None:
        return []
    problems: list[str] = [*train.faults(), *(method.faults(train) if method else [])]
    penalties = [f"selective.{name}" for name in ("l1", "l2", "l2_sp") if getattr(selective, name, None)]
    if train.in_backward and penalties:
        problems.append(
            f"`train.in_backward` moves each weight before the other gradients are known: {' and '.join(penalties)} needs them all"
        )
    return problems


def control_faults(sections: Mapping[str, Any]) -> list[str]:
    """Why what is turned on the way does not go together with the rest."""
    chosen, schedule, task, data, loss = (sections.get(key) for key in ("control", "schedule", "task", "data", "loss"))
    metrics, watched = (list(task.metrics) if task else None), (data.validation is not None if data else None)
    problems = chosen.faults(metrics, watched) if chosen else []
    if isinstance(schedule, Plateau):
        problems += control.watching_faults("schedule", schedule.metric, metrics, watched)
        if chosen:
            problems.append("`control` and schedule=plateau both turn the learning rate: leave one of them out (another schedule will do)")
    reshaped = (loss and loss != CrossEntropy()) or sections.get("distill")
    if isinstance(chosen, control.Dynamic) and chosen.gap is not None and reshaped:
        problems.append(
            "`control.gap` compares the training loss with the validation loss, which is plain: leave `loss` and `distill` as they are by default, or gap out"
        )
    return problems


def quantize_faults(model: Model | None, method: Any) -> list[str]:
    """Why quantised weights and a method do not go together: rounded to 16 or 256 values, weights cannot follow small steps, and are no
    matrices to compute with."""
    if model is None or model.quantize is None or method is None or model.quantize.name in method.takes_quantized:
        return []
    fitting = [name for name, cls in registry.specs("method").items() if model.quantize.name in getattr(cls, "takes_quantized", ())]
    return [
        f"`model.quantize`: method={method.name} changes the pretrained weights or computes with them, which weights in {model.quantize.name} "
        f"do not bear: leave quantize out, or take a method that only asks for their products ({', '.join(fitting)})"
    ]


def balance_faults(sections: Mapping[str, Any]) -> list[str]:
    """Ways to draw and to weigh rows that do not go together, or not with the task."""
    task, data, loss = (sections.get(key) for key in ("task", "data", "loss"))
    problems: list[str] = data.faults() if data else []
    if task and data and (fault := data.balance_fault(task.chooses)):
        problems.append(f"`data.balance`: {fault}")
    if task and loss and (fault := loss_fault(loss, task.chooses)):
        problems.append(f"`loss`: {fault}")
    return problems


def own_folder_faults(sections: Mapping[str, Any]) -> list[str]:
    """What a run is to be made of and lies in its own folder: overwriting an earlier run there would take it away first."""
    model, data, run = (sections.get(key) for key in ("model", "data", "run"))
    read = {"model": getattr(model, "name", None), "model.tokenizer": getattr(model, "tokenizer", None)}
    read |= {
        "distill.teacher": getattr(sections.get("distill"), "teacher", None),
        "control.run": getattr(sections.get("control"), "run", None),
    }
    read |= {f"data.{part}": getattr(data, part, None) for part in ("validation", "test")}
    named = [*read.items(), *(("data.train", source) for source in (mixture.each(data.train) if data else ()))]
    own = Path(run).expanduser().absolute() if run else None
    return [
        f"`{key}`: {name} lies in {own}, the folder of the run that is to be made of it: name another folder in `run`"
        for key, name in named
        if own and isinstance(name, str) and Path(name).is_relative_to(own)
    ]


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
