"""The text of a card: what stands at its head for the hub, and sections for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import yaml

from burnish.core.errors import count
from burnish.core.rundir import RunFolder
from burnish.core.secrets import redacted, without_folders
from burnish.recipe import Recipe
from burnish.report import contents, wording
from burnish.report.collect import Record, collect, finite, mapping, sequence
from burnish.run.card.origin import base_card, base_model, data_name, hub_base, hub_datasets, measured_data
from burnish.run.card.results import HUB_METRICS, Result, errors, results
from burnish.run.card.usage import Usage, usage

FEW = 100
"""Measured rows under which a card warns of chance."""
RARE = 20
"""Training rows of a label under which a card names it."""
MOST_LABELS = 30
PACKAGES = ("burnish", "torch", "transformers", "peft", "tokenizers", "python")


def write(folder: RunFolder, recipe: Recipe, auto: str, summary: Mapping[str, Any]) -> None:
    """Writes `model/README.md`, and `uncertainty.json` with the standard errors in it. `auto` is transformers' class for the model, `summary`
    what summary.json will say, which is written last."""
    record = replace(collect(folder.path), summary=dict(summary))
    task = recipe.task
    use = usage(folder.model, auto, task.columns(False), getattr(task, "prefix", ""), chats=task.name == "chat")
    found = results(folder)
    folder.write("uncertainty.json", errors(found))
    head = yaml.safe_dump(metadata(record, recipe, use, found), sort_keys=False, allow_unicode=True)
    body = "\n\n".join(part for part in sections(record, recipe, use, found) if part)
    folder.write_text("model/README.md", redacted(f"---\n{head}---\n\n{body}\n"))


def metadata(record: Record, recipe: Recipe, use: Usage, found: Sequence[Result]) -> dict[str, Any]:
    """The head of the card, in the hub's words; what is not known is left out."""
    base, known = hub_base(recipe.model), base_card(recipe.model)
    measured = [one for one in found if one.part == found[0].part] if found else []
    facts = {
        "license": known.get("license"),
        "license_name": known.get("license_name"),
        "base_model": base,
        "base_model_relation": base and ("adapter" if use.library == "peft" else "finetune"),
        "library_name": use.library,
        "pipeline_tag": use.tag,
        "datasets": hub_datasets(recipe),
        "metrics": list(dict.fromkeys(HUB_METRICS[one.metric] for one in measured if one.metric in HUB_METRICS)),
        "tags": ["burnish", recipe.task.name, recipe.method.name],
        "model-index": [{"name": record.name, "results": [index_entry(recipe, use, measured)]}] if measured and use.tag else None,
    }
    return {key: value for key, value in facts.items() if value}


def index_entry(recipe: Recipe, use: Usage, measured: Sequence[Result]) -> dict[str, Any]:
    """One entry of the hub's index of results: task, data, metrics."""
    data, name = measured_data(recipe, measured[0].part)
    return {
        "task": {"type": use.tag, "name": recipe.task.name},
        "dataset": {"type": data, "name": name, "split": measured[0].part},
        "metrics": [
            {"type": HUB_METRICS.get(one.metric, one.metric), "value": round(one.value, 6), "name": wording.spoken(one.metric)}
            for one in measured
        ],
    }


def sections(record: Record, recipe: Recipe, use: Usage, found: Sequence[Result]) -> Iterator[str]:
    """What people read, from what it is to the versions that it was made with."""
    yield f"# {record.name}\n\n{without_folders(contents.sentence(record))} {about(recipe)}"
    yield f"## Results\n\n{result_table(found)}"
    yield f"## How to use it\n\n{how_to_use(use)}"
    yield f"## Data\n\n{data_table(record)}\n\n{label_text(record)}".rstrip()
    yield f"## Training\n\n{training(record)}\n\n{whole_recipe(recipe)}"
    yield f"## Intended use\n\n{intended(recipe, use)}"
    yield "## Limits\n\n" + "\n".join(f"- {one}" for one in limits(record, recipe, found))
    versions = [f"{name} {record.environment[name]}" for name in PACKAGES if record.environment.get(name)]
    yield f"## Versions\n\n{', '.join(versions)}."


def about(recipe: Recipe) -> str:
    base, task = base_model(recipe.model), " ".join((type(recipe.task).__doc__ or "").split()).partition(". ")[0].rstrip(".")
    start = f"It starts from the weights of `{base}`" if base else "Every weight started at random"
    method = " ".join((type(recipe.method).__doc__ or "").split()).partition(". ")[0].rstrip(".")
    return f"{start}. Task `{recipe.task.name}`: {task}. Method `{recipe.method.name}`: {method}."


def result_table(found: Sequence[Result]) -> str:
    """Metrics with rows and standard errors, and what the same rows gave before training."""
    if not found:
        return "Nothing was measured: there were neither validation nor test rows."
    earlier = any(one.before is not None for one in found)
    head = ["part", "metric", "value", "standard error", "rows", *(["before training"] if earlier else [])]
    lines = [
        [
            wording.part_name(one.part),
            wording.spoken(one.metric),
            wording.decimal(one.value),
            wording.decimal(one.error),
            wording.integer(one.rows),
            *([wording.decimal(one.before)] if earlier else []),
        ]
        for one in found
    ]
    note = "Standard errors are over rows (bootstrap): another set of so many rows would give a value about so far away. They say nothing of other seeds."
    return f"{markdown_table(head, lines)}\n\n{note}"


def how_to_use(use: Usage) -> str:
    if use.code is None:
        return (
            "transformers cannot put this method's weights together by itself. With Burnish, in the "
            'folder of the run:\n\n```python\nimport burnish\n\nprint(burnish.load(".").predict(["Where is my parcel?"]))\n```'
        )
    return f"In this folder:\n\n```python\n{use.code}\n```"


def data_table(record: Record) -> str:
    """The parts by name, rows and fingerprint."""
    lines = []
    for name, part in mapping(record.data.get("parts")).items():
        facts = mapping(part)
        digest = wording.plain(facts.get("sha256"))[:16]
        lines.append(
            [name, literal(without_folders(wording.plain(facts.get("source")))), wording.integer(facts.get("rows")), f"`{digest}`"]
        )
    return markdown_table(["part", "source", "rows", "SHA-256 begins with"], lines)


def label_text(record: Record) -> str:
    """How often each label stands in the training rows."""
    counts = mapping(mapping(record.data.get("labels")).get("train"))
    if not counts:
        return ""
    shown = [f"{literal(label)} {wording.integer(number)}" for label, number in list(counts.items())[:MOST_LABELS]]
    more = f", and {len(counts) - MOST_LABELS} more" if len(counts) > MOST_LABELS else ""
    return f"Labels of the training rows: {', '.join(shown)}{more}."


def training(record: Record) -> str:
    """How it went: figures, machine, and what was saved or changed on the way."""
    machine = [
        wording.plain(record.environment[name]) + (" cores" if name == "cores" else "")
        for name in ("gpu", "cpu", "cores")
        if record.environment.get(name)
    ]
    energy = finite((record.summary or {}).get("energy"))
    facts = [
        *contents.facts(record),
        ("Machine", ", ".join(machine)),
        *([("Energy", f"{energy / 3600:.3g} Wh")] if energy else []),
        ("Trained on", record.started.date().isoformat()),
    ]
    return "\n".join(f"- {name}: {value}" for name, value in facts)


def whole_recipe(recipe: Recipe) -> str:
    """Every hyperparameter, without the folders of the machine."""
    content = without_folders(recipe.model_dump(mode="json", exclude={"run", "track"}))
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"<details><summary>The recipe, with every default</summary>\n\n{fence}yaml\n{text}{fence}\n\n</details>"


def intended(recipe: Recipe, use: Usage) -> str:
    what = use.tag or recipe.task.name
    return (
        f"For {what} on texts like those that it learned from ({data_name(recipe)}). Before it is used for anything that matters to "
        "people, measure it on rows of that use, by group where groups differ, and keep a person in charge of what it decides."
    )


def limits(record: Record, recipe: Recipe, found: Sequence[Result]) -> Iterator[str]:
    """What was not tested, and what of the data and of the numbers asks for care."""
    tested = [one for one in found if one.part == "test"]
    if not tested:
        chosen = f", by which its weights were chosen too (best {recipe.train.keep_best})" if recipe.train.keep_best else ""
        yield f"No test rows were measured: the numbers above are of other rows{chosen}, and may flatter it."
    fewest = min((one.rows for one in found), default=0)
    if 0 < fewest < FEW:
        yield f"Some numbers come from {count(fewest, 'row')} only: small differences from them mean nothing."
    yield "One seed was trained: how far another seed would come out is not known from this run."
    labels = mapping(mapping(record.data.get("labels")).get("train"))
    rare = [label for label, number in labels.items() if (finite(number) or 0) < RARE]
    if rare:
        yield f"Few training rows (under {RARE}) have the {'label' if len(rare) == 1 else 'labels'} {', '.join(map(literal, rare[:MOST_LABELS]))}."
    language = base_card(recipe.model).get("language")
    spoken = (
        f"The pretrained model says of itself that it knows: {', '.join(map(str, sequence(language) or [language]))}. " if language else ""
    )
    yield f"{spoken}The language of the training rows was not checked, and no other language or kind of text was tested."
    yield "Not tested: robustness to typing errors and to hostile input, differences between groups of people, calibration under shift."
    yield from (escape(without_folders(wording.plain(warning)), quote=False) for warning in sequence(record.data.get("warnings")))


def literal(text: str) -> str:
    """A text of data as Markdown that shows just that: no tags, no emphasis, no links.

    >>> literal("<b>late_delivery</b> *again*")
    '&lt;b&gt;late_delivery&lt;/b&gt; \\\\*again\\\\*'
    """
    return re.sub(r"([\\`*\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", escape(text, quote=False))


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; a cell stays on its line and in its column."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in row) + " |" for row in rows)
