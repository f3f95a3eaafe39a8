"""The deck of one run: what was to be learned, how, what came out, before and after, and what a single run allows to say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from burnish.core.errors import count
from burnish.report import configured, contents, foretold, uncertainty, wording
from burnish.report.collect import Record, finite, mapping, sequence
from burnish.report.comparison import comparison, sections
from burnish.report.curves import loss_panel, metric_panels
from burnish.report.figures import Panel
from burnish.report.samples import samples_of
from burnish.report.sections import MatrixView, TableView, view
from burnish.report.series import thinned
from burnish.report.slides import telling
from burnish.report.slides.movement import foretold_slide, ranks, weights_slide
from burnish.report.slides.outline import DISCUSSION, INTRODUCTION, METHODOLOGY, RESULTS, Curves, Grid, Outline, Slide, Values
from burnish.report.slides.palette import SERIES
from burnish.report.wording import NONE, decimal, duration, integer, percent, plain, spoken

MOST_POINTS = 250
MOST_SAMPLES = 2
MOST_MISTAKES = 6
MOST_MATRIX = 10
MOST_ROWS = 24
MOST_PAIRS = 10
"""Confusions that are told of a matrix that has too many labels to be shown."""
FEW_LABELS, SHORT_LABEL, LONG_LABEL = 3, 9, 32
"""A matrix of more labels than this, of which one has more characters than this, names them at its rows alone, cut to so many."""
LONGEST_TEXT, LONGEST_ANSWER = 150, 60
"""Characters of a text and of what is said of it, among the mistakes."""
SPENT = ("Ended", "Steps", "Epochs", "Weights kept", "Time", "Samples per second", "Computation", "Peak memory")
KEYS = (
    "title", "context", "problem", "data", "labels", "model", "training", "results", "loss", "metric", "before", "example_1", "example_2", "examples", "classes",
    "confusion", "mistakes", "weights", "meaning", "failures", "limits", "spent", "foretold",
)  # fmt: skip


def outline(record: Record) -> Outline:
    """The slides of a run, as far as there is something to show on them."""
    return Outline(record.name, [*introduction(), *methodology(record), *results(record), *discussion(record)], values(record), KEYS)


def main_result(record: Record) -> dict[str, Any]:
    """The evaluation that counts: test, else validation; empty where there is none."""
    return next(iter(record.results), {})


def values(record: Record) -> Values:
    """What the {names} stand for."""
    summary = record.summary or {}
    told, counted, compared = contents.headline(record), contents.all_parameters(record.plan), comparison(record)
    metrics = [f"{name} {value}" for name, value in told.metrics] if told else []
    return {
        "name": record.name,
        "task": known(record, "task") or NONE,
        "goal": telling.goal(known(record, "task")),
        "model": known(record, "model") or "the model",
        "method": known(record, "method") or NONE,
        "how": how(record),
        "start": start(record),
        "rows": telling.rows_told(mapping(record.data.get("parts"))),
        "balance": telling.balance(record),
        "story": contents.sentence(record),
        "result": ", ".join(metrics) or "nothing has been measured yet",
        "measured": f"On {told.origin}: {', '.join(metrics)}." if told else "Nothing has been measured yet.",
        "origin": told.origin if told else NONE,
        "compared": compared.origin if compared else NONE,
        "uncertainty": uncertainty.told(record),
        "ranks": ranks(record),
        "foretold": foretold.told(record),
        "share": percent(counted["share"]),
        "trainable": integer(counted["trainable"]),
        "total": integer(counted["total"]),
        "time": duration(summary.get("seconds")),
        "memory": wording.memory(summary.get("peak_memory")),
        "warnings": [plain(warning) for warning in [*sequence(record.data.get("warnings")), *record.problems]] or ["No warning was given."],
        "limits": limits(record),
        "machine": telling.machine_told(record.environment),
        "versions": telling.versions_told(record.environment) or NONE,
        "command": wording.command_line(record.environment.get("command")) or NONE,
        "date": record.started.strftime("%Y-%m-%d"),
    }


def introduction() -> list[Slide]:
    """Title, context, problem."""
    return [
        Slide("title", INTRODUCTION, "{name}", ["{model}, trained to {goal}", "{date}"], None, ["Made with:", "{command}"]),
        Slide(
            "context",
            INTRODUCTION,
            "Context",
            [
                "{start} Here it learns a task of its own, with {rows}.",
                "{how}",
            ],
        ),
        Slide(
            "problem",
            INTRODUCTION,
            "Problem",
            ["To {goal}.", "Does the model do that after training, on rows that it has not seen, and how well?"],
        ),
    ]


def methodology(record: Record) -> list[Slide]:
    """Data, model, training as configured."""
    parts, labels, roles = mapping(record.data.get("parts")), telling.labels_exhibit(record), contents.roles(record.plan)
    made = [Slide("data", METHODOLOGY, "Data", ["{rows}."], telling.data_grid(parts))] if parts else []
    if labels:
        made.append(Slide("labels", METHODOLOGY, "Labels", ["{balance}"], labels))
    if roles:
        lines = [[name, integer(total), integer(learned), percent(share)] for name, total, learned, share in gathered(roles)]
        grid = Grid(["part of the model", "parameters", "trainable", "share"], lines, numbers=frozenset({1, 2, 3}))
        made.append(
            Slide("model", METHODOLOGY, "Model: what learns", ["{model}, {method}: {trainable} of {total} parameters learn."], grid)
        )
    plan = record.plan
    keys = (
        ("Method", "method"), ("Duration", "duration"), ("Steps", "steps"), ("Batch size", "batch_size"), ("Longest text, tokens", "max_length"),
        ("Precision", "precision"), ("Device", "device"),
    )  # fmt: skip
    said = {name: plain(plan[key]) for name, key in keys if plan.get(key) is not None} | dict(configured.settings(record.recipe))
    if said:
        notes = ["{versions}", "{machine}", "{command}"]
        made.append(Slide("training", METHODOLOGY, "Training, as configured", [], telling.pairs_grid(list(said.items())), notes))
    return made


def gathered(roles: Sequence[tuple[str, float, float, float]]) -> list[tuple[str, float, float, float]]:
    """Parts of the model in at most ten lines: blocks of many are one line."""
    blocks = [role for role in roles if role[0].startswith("block")]
    if len(roles) <= 10 or not blocks:
        return list(roles)
    total, learned = sum(role[1] for role in blocks), sum(role[2] for role in blocks)
    whole = (f"{len(blocks)} blocks", total, learned, learned / total if total else 0.0)
    first = roles.index(blocks[0])
    return [*roles[:first], whole, *(role for role in roles[first:] if role not in blocks)]


def results(record: Record) -> list[Slide]:
    """Metrics, curves, before and after, classes, confusions, mistakes."""
    made = [Slide("results", RESULTS, "What came out", ["{story}", "{uncertainty}"], metrics_grid(record))]
    loss = loss_panel(record)
    if loss:
        made.append(Slide("loss", RESULTS, "Loss while training", [], curves(loss)))
    first = next((panel for panel in metric_panels(record) if panel), None)
    if first and any(len(line.points) > 1 for line in first.lines):
        made.append(Slide("metric", RESULTS, f"{first.title} while training", [], curves(first)))
    return made + before_and_after(record) + shown_sections(record) + weights_slide(record)


def metrics_grid(record: Record) -> Grid | None:
    """Every metric on each part that was measured."""
    found = record.results
    names = dict.fromkeys(name for result in found for name, value in mapping(result.get("metrics")).items() if finite(value) is not None)
    if not names:
        return None
    columns = ["", *(f"{wording.part_name(result.get('part'))} ({integer(result.get('rows'))} rows)" for result in found[:4])]
    rows = [[spoken(name), *(decimal(result["metrics"].get(name)) for result in found[:4])] for name in names]
    return Grid(columns, rows, numbers=frozenset(range(1, len(columns))))


def curves(panel: Panel) -> Curves:
    """A panel of the page as a native chart: faint lines are gray."""
    tones = iter(SERIES)
    lines = [
        (line.name, thinned(line.points, MOST_POINTS), "gray" if line.faint else next(tones, "gray"))
        for line in panel.lines
        if len(line.points) > 1
    ]
    return Curves(lines, panel.x_label, panel.y_label)


def before_and_after(record: Record) -> list[Slide]:
    """Metrics and texts before the first step and after the last, where the run was tried before."""
    compared = comparison(record)
    if compared is None:
        return []
    made = []
    if compared.metrics:
        grid = Grid(["", "before", "after", "change"], compared.metrics, numbers=frozenset({1, 2, 3}))
        made.append(Slide("before", RESULTS, "Before and after training", ["{compared}."], grid))
    cards = [card for shown in compared.samples for card in shown.cards][:MOST_SAMPLES]
    for number, card in enumerate(cards, start=1):
        lines = [["prompt", telling.both_ends(card.prompt.start + card.prompt.end)]]
        lines += [[answer.title, telling.facing(answer.passage.start, 260) or "(nothing)"] for answer in card.answers]
        lines += [["reference", telling.facing(card.reference.start, 200)]] if card.reference.start else []
        grid = Grid(["", "text"], lines, widths=(1, 6), strong=frozenset({0}), whole=False)
        made.append(Slide(f"example_{number}", RESULTS, "An example, before and after", [], grid))
    return made


def shown_sections(record: Record) -> list[Slide]:
    """The first tables and the matrix of the main evaluation, and written texts where there is no before."""
    result = main_result(record)
    made: dict[str, Slide] = {}
    for section in sequence(result.get("sections")):
        shown = view(section, MOST_MATRIX)
        if isinstance(shown, MatrixView):
            made.setdefault("confusion", matrix_slide(shown))
        elif not isinstance(shown, TableView) or not shown.rows:
            continue
        elif mapping(section).get("kind") == "matrix":
            grid = table_grid(replace(shown, rows=shown.rows[:MOST_PAIRS]))
            made.setdefault("confusion", Slide("confusion", RESULTS, named(shown.title), [], grid))
        elif any(column.name == "row" for column in shown.columns):
            made.setdefault("mistakes", Slide("mistakes", RESULTS, named(shown.title), [], mistakes_grid(shown)))
        elif len(shown.columns) <= 8:
            made.setdefault("classes", Slide("classes", RESULTS, named(shown.title), [], table_grid(shown)))
    samples = [sample for content in sections(result) for sample in samples_of(content)][:3]
    if samples and not record.before:
        lines = [[telling.both_ends(plain(sample.get(key) or ""), 200) for key in ("prompt", "answer", "reference")] for sample in samples]
        made["examples"] = Slide(
            "examples", RESULTS, "What it writes", [], Grid(["prompt", "answer", "reference"], lines, widths=(1, 1, 1), whole=False)
        )
    return [made[key] for key in ("examples", "classes", "confusion", "mistakes") if key in made]


def named(title: str) -> str:
    """A title of data, in which braces are braces."""
    return title.replace("{", "{{").replace("}", "}}")


def table_grid(shown: TableView) -> Grid:
    """The first rows of a table."""
    numbers = frozenset(place for place, column in enumerate(shown.columns) if column.form == "number")
    return Grid([column.name for column in shown.columns], shown.rows[:MOST_ROWS], numbers=numbers)


def matrix_slide(shown: MatrixView) -> Slide:
    """A matrix with filled cells. Where its labels are long the columns bear the numbers of the rows."""
    by_number = len(shown.labels) > FEW_LABELS and max(map(len, shown.labels)) > SHORT_LABEL
    names = [f"{number} · {telling.facing(label, LONG_LABEL)}" for number, label in enumerate(shown.labels, start=1)]
    rows = [
        [names[place] if by_number else label, *(cell.text for cell in cells), total]
        for place, (label, cells, total) in enumerate(shown.rows)
    ]
    shades = {
        (line, 1 + place): cell.opacity for line, (_, cells, _) in enumerate(shown.rows) for place, cell in enumerate(cells) if cell.text
    }
    columns = ["", *(map(str, range(1, len(names) + 1)) if by_number else shown.labels), "rows"]
    grid = Grid(columns, rows, numbers=frozenset(range(1, len(columns))), shades=shades)
    said = f"Rows: {shown.row_name}; columns: {shown.column_name}{', by their numbers' if by_number else ''}."
    return Slide("confusion", RESULTS, named(shown.title), [said], grid)


def mistakes_grid(shown: TableView) -> Grid:
    """The first mistakes: their texts, and what was said."""
    kept = [place for place, column in enumerate(shown.columns) if column.name != "row"][:5]
    rows = [
        [telling.facing(row[place], LONGEST_TEXT if at == 0 else LONGEST_ANSWER) for at, place in enumerate(kept)]
        for row in shown.rows[:MOST_MISTAKES]
    ]
    numbers = frozenset(at for at, place in enumerate(kept) if shown.columns[place].form == "number")
    return Grid([shown.columns[place].name for place in kept], rows, numbers=numbers, whole=False)


def known(record: Record, section: str) -> str:
    """What the run says of its model, task or method, else its recipe, for a run may have stopped before it knew."""
    return str(record.plan.get(section) or configured.named(record.recipe, section))


def how(record: Record) -> list[str]:
    """The method, and how much of the model learns; nothing where neither is known."""
    counted, method = contents.all_parameters(record.plan), known(record, "method")
    learn = f"{integer(counted['trainable'])} of its {integer(counted['total'])} parameters learn ({percent(counted['share'])})"
    told = [part for part in (method, learn if counted["share"] is not None else "") if part]
    return [f"How: {'; '.join(told)}."] if told else []


def start(record: Record) -> str:
    """What the weights were before the first step."""
    model = known(record, "model") or "The model"
    fresh = model.startswith("new:") or re.search(r"^\s*from_scratch:\s*true\b", record.recipe, re.MULTILINE)
    return f"{model} starts from random weights." if fresh else f"{model} has learned from large general text."


def limits(record: Record) -> list[str]:
    """What one run does not say."""
    told = ["One run, one seed: another seed would have given another number. `burnish compare` says by how much."]
    parts = mapping(record.data.get("parts"))
    if parts and "test" not in parts:
        told.append("There are no test rows: what was measured on validation flatters a checkpoint that was chosen on it.")
    rows = finite(main_result(record).get("rows"))
    if rows is not None and rows < 200:
        told.append(f"Measured on {count(int(rows), 'row')}: small differences cannot be seen.")
    if main_result(record):
        told.append("Measured on rows of the same source as those of training; other texts may fare worse.")
    return told + ([] if record.summary is not None else ["The run is not finished."])


def discussion(record: Record) -> list[Slide]:
    """What can be said, what failed, limits, cost."""
    facts = [fact for fact in contents.facts(record) if fact[0] in SPENT]
    return [
        Slide("meaning", DISCUSSION, "What can be said", ["{measured}", "{uncertainty}", "{limits}"]),
        Slide("failures", DISCUSSION, "Failures and warnings", ["{warnings}"]),
        Slide("spent", DISCUSSION, "Cost", [], telling.pairs_grid(facts) if facts else None, ["{machine}", "{versions}", "{command}"]),
        *foretold_slide(record),
    ]
