"""The deck of a comparison: what was asked, how it was tried, what came out, and what the intervals allow to say of it."""

from __future__ import annotations

from burnish.core.errors import count
from burnish.report import wording
from burnish.report.collect import Record
from burnish.report.slides import telling
from burnish.report.slides.movement import systems_foretold, systems_weights
from burnish.report.slides.outcomes import fronts, results, watched
from burnish.report.slides.outline import DISCUSSION, INTRODUCTION, METHODOLOGY, Grid, Outline, Slide, Values
from burnish.report.versus import courses, tables, words
from burnish.report.versus.page import commands, warnings
from burnish.report.versus.reading import Estimate, Versus
from burnish.report.wording import NONE, decimal, duration, integer, memory, spoken

KEYS = (
    "title", "context", "problem", "data", "labels", "training", "systems", "measuring", "results", "runs", "differences", "cost_time",
    "cost_memory", "cost_parameters", "curves", "metrics", "classes", "examples", "written", "weights", "meaning", "failures", "limits",
    "spent", "foretold",
)  # fmt: skip


def outline(versus: Versus) -> Outline:
    """The slides of a comparison, as far as there is something to show on them."""
    made = [*introduction(), *methodology(versus), *results(versus), *systems_weights(versus), *discussion(versus)]
    notes = noted()
    told = [Slide(s.key, s.section, s.title, s.text, s.exhibit, [*s.notes, *notes.get(s.key, [])]) for s in made]
    return Outline(versus.name, told, values(versus), KEYS)


def first_record(versus: Versus) -> Record | None:
    """The first run that can be read."""
    return next((cell.record for system in versus.systems for cell in system.cells if cell.record), None)


def values(versus: Versus) -> Values:
    """What the {names} stand for."""
    record, parts = first_record(versus), tables.data_parts(versus)
    environment = record.environment if record else {}
    best = versus.measured[0] if versus.measured else None
    estimate = best.metrics.get(versus.metric, Estimate()) if best else Estimate()
    models = tables.shared([cell.record.plan.get("model") for system in versus.systems for cell in system.cells if cell.record])
    return {
        "name": versus.name,
        "task": versus.task or NONE,
        "goal": telling.goal(versus.task),
        "model": models or "the model",
        "metric": spoken(versus.metric),
        "baseline": versus.baseline or NONE,
        "systems": words.listed([system.name for system in versus.systems], 14) if versus.systems else NONE,
        "ways": count(len(versus.systems), "way"),
        "question": question(versus),
        "seeds": count(len(versus.seeds), "seed"),
        "rows": telling.rows_told(parts),
        "measured_rows": wording.rows_of(versus.part, versus.rows),
        "level": words.level(versus),
        "progress": words.progress(versus),
        "best": best.name if best else NONE,
        "best_value": decimal(estimate.mean),
        "best_interval": words.bracketed(versus, estimate).strip(" ()") or NONE,
        "headline": words.headline(versus),
        "summary": words.summary(versus),
        "reading": words.reading(versus),
        "smallest": tables.smallest_shown(versus) or NONE,
        "showable": showable(versus),
        "balance": telling.balance(record),
        "cheapest": cheapest(versus),
        "spent": spent(versus),
        "warnings": warnings(versus) or ["No warning was given and no run failed."],
        "limits": limits(versus, models),
        "recipes": ", ".join(dict.fromkeys(system.recipe for system in versus.systems if system.recipe)) or NONE,
        "curves": courses.title_of(watched(versus)) if watched(versus) else NONE,
        **fronts(versus),
        "machine": telling.machine_told(environment),
        "versions": telling.versions_told(environment) or NONE,
        "commands": commands(versus) or [NONE],
        "date": record.started.strftime("%Y-%m-%d") if record else [],
    }


def showable(versus: Versus) -> list[str]:
    """From which difference on this comparison could have shown one; nothing where no interval is known."""
    smallest = tables.smallest_shown(versus)
    told = f"No difference shown does not mean that there is none: what this comparison could show begins at about ± {smallest}."
    return [told] if smallest else []


def question(versus: Versus) -> str:
    """What the comparison asks."""
    if len(versus.systems) == 1:
        return f"How good is the {spoken(versus.metric)} that it gives, and how sure is that?"
    return f"Which of {len(versus.systems)} ways gives the best {spoken(versus.metric)}, and is what it gives worth what it costs?"


def introduction() -> list[Slide]:
    """Title, context, problem."""
    return [
        Slide("title", INTRODUCTION, "{name}", ["{ways} to train {model}, measured on {measured_rows} with {seeds}", "{date}"]),
        Slide(
            "context",
            INTRODUCTION,
            "Context",
            [
                "A model learns a task from little data: to {goal}.",
                "There is more than one way to do that. They differ in what they cost, and may differ in what they give.",
                "A single run says little: another seed, or other test rows, would have given another number.",
            ],
        ),
        Slide(
            "problem",
            INTRODUCTION,
            "Problem",
            [
                "{question}",
                "Compared: {systems}.",
                "Each is set against {baseline}, on the same seeds and the same rows.",
            ],
        ),
    ]


def methodology(versus: Versus) -> list[Slide]:
    """Data, model, techniques, and how it was measured."""
    parts, labels = tables.data_parts(versus), telling.labels_exhibit(first_record(versus))
    made = [Slide("data", METHODOLOGY, "Data", ["{rows}."], telling.data_grid(parts))] if parts else []
    if labels:
        made.append(Slide("labels", METHODOLOGY, "Labels", ["{balance}"], labels))
    configured = tables.configured(versus)
    if configured:
        made.append(Slide("training", METHODOLOGY, "Model and training, as configured", [], telling.pairs_grid(configured)))
    if versus.systems:
        made.append(Slide("systems", METHODOLOGY, "What is compared", [], systems_grid(versus)))
    made.append(
        Slide(
            "measuring",
            METHODOLOGY,
            "How it was measured",
            ["Measured: {metric} on {measured_rows}, {seeds}, intervals at {level}.", "{reading}"],
        )
    )
    return made


def systems_grid(versus: Versus) -> Grid:
    """Each system: what sets it apart, and how much of the model learns."""
    found = tables.results(versus)
    told = any(line.about for line in found)
    lines = [
        [line.name + (" (baseline)" if line.baseline else ""), *([line.about or NONE] if told else []), line.trainable, line.share or NONE]
        for line in found
    ]
    strong = frozenset(place for place, system in enumerate(versus.systems) if system.name == versus.baseline)
    columns = ["system", *(["what sets it apart"] if told else []), "trainable", "share"]
    return Grid(columns, lines, numbers=frozenset({len(columns) - 2, len(columns) - 1}), strong=strong)


def discussion(versus: Versus) -> list[Slide]:
    """What can be said, what failed, what was not tried, what it cost."""
    return [
        Slide("meaning", DISCUSSION, "What the intervals allow to say", ["{headline}", "{showable}"]),
        Slide("failures", DISCUSSION, "Failures and warnings", ["{warnings}"]),
        Slide("limits", DISCUSSION, "Limits", ["{limits}"]),
        Slide("spent", DISCUSSION, "Cost", ["{spent}"], spent_grid(versus) if versus.counted else None),
        *systems_foretold(versus),
    ]


def limits(versus: Versus, models: str) -> list[str]:
    """What this comparison does not say."""
    told = [f"One task and one source of data: what holds for these rows need not hold for others. Trained: {models or 'one model'}."]
    if len(versus.seeds) < 2:
        told.append("One seed: how much chance in training matters is unknown, and every interval is too narrow.")
    elif len(versus.seeds) < 5:
        told.append(f"{len(versus.seeds)} seeds are few: intervals are wide because of it.")
    if versus.part != "test":
        told.append(f"Measured on {versus.part} rows, on which checkpoints may have been chosen.")
    told.append("Each system ran with the settings of its recipe: another learning rate or duration could change the order.")
    if not words.complete(versus):
        told.append(f"Not complete: {words.progress(versus)}.")
    return told


def spent(versus: Versus) -> list[str]:
    """What all runs came to."""
    seconds = [cell.seconds for system in versus.systems for cell in system.cells if cell.seconds is not None]
    joules = [cell.energy for system in versus.systems for cell in system.cells if cell.energy is not None]
    told = [f"{count(len(seconds), 'run')} took {duration(sum(seconds))} of training."] if seconds else []
    return told + ([f"Energy: {tables.energy(sum(joules))}."] if joules else [])


def cheapest(versus: Versus) -> str:
    """The system with the least training time."""
    known = [(system.seconds.mean, system.name) for system in versus.systems if system.seconds.mean is not None]
    return min(known)[1] if known else NONE


def spent_grid(versus: Versus) -> Grid:
    """Time, memory, energy of each system."""
    joules = any(system.energy.mean is not None for system in versus.systems)
    columns = ["system", "trainable", "time a run", "peak memory", *(["energy a run"] if joules else []), "runs"]
    lines = [
        [system.name, integer(system.trainable), duration(system.seconds.mean), memory(system.peak_memory.mean),
         *([tables.energy(system.energy.mean)] if joules else []), str(len(system.done))]
        for system in versus.systems
    ]  # fmt: skip
    return Grid(columns, lines, numbers=frozenset(range(1, len(columns))))


def noted() -> dict[str, list[str]]:
    """What the speaker finds below the slides."""
    return {
        "title": ["Made with:", "{commands}"],
        "training": ["Recipes: {recipes}", "{versions}", "{machine}"],
        "results": ["Measured: {metric} on {measured_rows}, {seeds}.", "{progress}.", "{commands}"],
        "measuring": ["The formulas stand in docs/statistics.md."],
        "spent": ["{machine}", "{versions}"],
    }
