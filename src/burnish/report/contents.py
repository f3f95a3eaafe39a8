"""What the page says about a run, as texts and numbers: its main result, its story in a sentence, its facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from burnish.core.errors import count
from burnish.report import wording
from burnish.report.collect import Record, finite, mapping, sequence

MAIN_METRICS = 3


@dataclass(frozen=True)
class Headline:
    """The main result: up to four metrics as (name, value), and what they were measured on."""

    metrics: list[tuple[str, str]]
    origin: str


def headline(record: Record) -> Headline | None:
    """Test metrics if there are any, else validation, else the last evaluation during training; the loss stands last.

    What was measured before training is no result.
    """
    during = [line for line in reversed(record.evaluations) if line["step"] > 0]
    source: dict[str, Any] = next(iter([*record.results, *during]), {})
    metrics = {name: value for name, value in mapping(source.get("metrics")).items() if finite(value) is not None}
    names = [name for name in metrics if name != "loss"][:MAIN_METRICS] + ["loss"] * ("loss" in metrics)
    if not names:
        return None
    return Headline([(wording.spoken(name), wording.decimal(metrics[name])) for name in names], origin(source, bool(record.results)))


def origin(source: dict[str, Any], final: bool) -> str:
    """What an evaluation was measured on: `160 test rows, with the weights of step 125`."""
    measured, step = wording.rows_of(source.get("part"), source.get("rows")), finite(source.get("step"))
    if step is None:
        return measured
    return f"{measured}, {'with the weights of' if final else 'so far at'} step {wording.integer(step)}"


def sentence(record: Record) -> str:
    """The run in plain words: what learned what from how much, how long it took, and how much of it learned."""
    model, task = record.plan.get("model") or "The model", record.plan.get("task")
    rows = finite(mapping(mapping(record.data.get("parts")).get("train")).get("rows"))
    learned = (f" to {task}" if task else "") + (f" from {count(int(rows), 'row')}" if rows is not None else "")
    if record.summary is None:
        planned = finite(record.plan.get("steps"))
        done = f"{record.last_step:,} of {count(int(planned), 'step')}" if planned else count(record.last_step, "step")
        seen = "" if record.results or record.evaluations else " Nothing has been evaluated yet."
        return f"This run is not finished: {model} has done {done} of learning{learned}.{seen}"
    steps, epochs, seconds = (finite(record.summary.get(key)) for key in ("steps", "epochs", "seconds"))
    spent = [f"in {count(int(steps), 'step')}"] if steps is not None else []
    spent += [f"{wording.short(epochs)} epoch{'' if epochs == 1 else 's'}"] if epochs is not None else []
    spent += [wording.duration(seconds).replace(" ", "\N{NO-BREAK SPACE}")] if seconds is not None else []
    return f"{model} learned{learned}{' ' if spent else ''}{', '.join(spent)}{learned_share(record.plan)}."


def learned_share(plan: dict[str, Any]) -> str:
    """Which share of the parameters learned, as the end of a sentence; nothing where it is unknown."""
    counted = all_parameters(plan)
    if counted["share"] is None:
        return ""
    scope = "all" if counted["trainable"] == counted["total"] else wording.percent(counted["share"])
    return f"; {scope} of its {wording.parameters(counted['total'])} parameters were trained"


def all_parameters(plan: dict[str, Any]) -> dict[str, float | None]:
    """`total` and `trainable` parameters of the model, and the `share` that is trainable; None where unknown."""
    total, trainable = (finite(mapping(plan.get("parameters")).get(key)) for key in ("total", "trainable"))
    return {"total": total, "trainable": trainable, "share": trainable / total if total and trainable is not None else None}


def facts(record: Record) -> list[tuple[str, str]]:
    """How the training went: (name, value), those that are known. An unfinished run tells what its steps have recorded."""
    summary = record.summary or {}
    rates = [(unit, finite(summary.get(f"{unit}_per_second"))) for unit in ("samples", "steps", "tokens")]
    best, kept = mapping(summary.get("best")), finite(summary.get("kept_step"))
    why = f" (best {wording.spoken(best['metric'])}: {wording.decimal(best.get('value'))})" if best.get("metric") else ""
    last = record.steps[-1] if record.steps else {}
    done, epochs, seconds = (finite(summary.get(key)) for key in ("steps", "epochs", "seconds"))
    made = [
        ("Ended", "not finished" if record.summary is None else wording.plain(summary.get("ended"))),
        ("Steps", wording.integer(record.last_step if done is None else done)),
        ("Epochs", wording.short(last.get("epoch") if epochs is None else epochs)),
        ("Weights kept", wording.NONE if kept is None else f"step {wording.integer(kept)}{why}"),
        ("Time", wording.duration(last.get("seconds") if seconds is None else seconds)),
        *((f"{unit.capitalize()} per second", wording.short(rate)) for unit, rate in rates),
        ("Batch size", wording.integer(record.plan.get("batch_size"))),
        ("Computation", wording.flops(summary.get("flos"))),
        ("Mean training loss", wording.decimal(summary.get("mean_loss"))),
        ("Share of padding", wording.percent(summary.get("padding_share"))),
        ("Peak memory", wording.memory(summary.get("peak_memory"))),
        ("Pretrained weights", held(record.plan)),
    ]
    return [(name, value) for name, value in made if value != wording.NONE]


def held(plan: dict[str, Any]) -> str:
    """What quantised weights take and would take: `26 MB in nf4, 88 MB in float32`; nothing where they are in full precision."""
    weights, format_ = mapping(plan.get("weights")), plan.get("quantize")
    if not format_:
        return wording.NONE
    return f"{wording.memory(weights.get('bytes'))} in {format_}, {wording.memory(weights.get('float32_bytes'))} in float32"


def roles(plan: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """(role, total, trainable, share trainable) of each group of parameters; those without numbers are left out."""
    made = []
    for entry in sequence(mapping(plan.get("parameters")).get("roles")):
        name, total, trainable, *_ = [*sequence(entry), None, None, None]
        known, learned = finite(total), finite(trainable)
        if known is not None and learned is not None:
            made.append((wording.plain(name), known, learned, min(1.0, learned / known) if known else 0.0))
    return made


def label_counts(data: dict[str, Any]) -> tuple[list[str], list[tuple[str, list[tuple[float | None, float]]]]]:
    """Names of the parts, and for each label its (count, share of the part's largest count) in each part."""
    parts = {part: mapping(counts) for part, counts in mapping(data.get("labels")).items() if mapping(counts)}
    largest = {part: max((finite(value) or 0 for value in counts.values()), default=0) for part, counts in parts.items()}
    lines = []
    for label in dict.fromkeys(label for counts in parts.values() for label in counts):
        numbers = [(finite(counts.get(label)), largest[part]) for part, counts in parts.items()]
        lines.append((label, [(number, number / most if number and most else 0.0) for number, most in numbers]))
    return list(parts), lines


def machine(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """What the run ran on: (name, value), without the command, which stands on its own."""
    names = {"memory_bytes": "memory", "cpu": "CPU", "gpu": "GPU"}
    return [
        (names.get(key, wording.spoken(key)), wording.memory(value) if key == "memory_bytes" else wording.plain(value))
        for key, value in environment.items()
        if key != "command" and value is not None
    ]
