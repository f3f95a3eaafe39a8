"""What is wrong with a recipe whose sections are right in themselves: files, columns, and settings that do not go together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.core import registry
from burnish.core.duration import Duration
from burnish.core.errors import DataError, nearest
from burnish.data import audit, mixture, sources
from burnish.data.spec import Data
from burnish.engine import control
from burnish.losses.distill import Distill
from burnish.losses.spec import CrossEntropy, loss_fault
from burnish.models.spec import Model
from burnish.optim.plateau import Plateau
from burnish.recipe.places import is_file, placed_sources


def disagreements(sections: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong between sections, or between a section and the files that it names."""
    return [
        *model_faults(sections.get("model")),
        *distill_faults(sections.get("distill")),
        *data_faults(sections.get("data"), sections.get("task")),
        *combination_faults(sections),
        *control_faults(sections),
        *balance_faults(sections),
        *own_folder_faults(sections),
    ]


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
