"""Training, and what is done with a finished run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.app import Int8, RunArgument, app, console, display
from burnish.core.errors import BurnishError


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file; `burnish init` writes one.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to it, such as train.seed=1.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the same folder.")] = False,
) -> None:
    """Train what a recipe says; leaves a run folder with the model, its scores and a report."""
    from burnish.recipe import load

    changes = overrides or []
    load(recipe, changes)  # a faulty recipe is refused before anything heavy is imported
    with display() as listener:
        from burnish.run import train as run_training

        run = run_training(recipe, changes, overwrite, [listener])
    conclude(run.path)


@app.command()
def resume(run: RunArgument) -> None:
    """Go on with a run that was stopped or killed, to the very same weights."""
    from burnish.core.rundir import RunFolder

    folder = RunFolder.open(run)
    if folder.finished:
        print(f"{run} is finished: there is nothing to resume.")
    else:
        with display() as listener:
            from burnish.run import resume as go_on

            go_on(run, [listener])
    conclude(folder.path)


@app.command()
def evaluate(
    run: RunArgument,
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="Labelled rows; by default a part of the recipe's data.")] = None,
    part: Annotated[str, typer.Option(help="validation or test, where no DATA is given.")] = "validation",
    int8: Int8 = False,
) -> None:
    """Measure a run's model; prints the scores and keeps them in RUN/evaluations."""
    from burnish.core.evaluation import Evaluation
    from burnish.run import load
    from burnish.terminal import evaluation_tables

    found: Evaluation = load(run, "int8" if int8 else None).evaluate(part, data)
    evaluation_tables(console(), found.to_json(part=data or part, rows=len(found.predictions)))
    write_report(run)


@app.command()
def predict(
    run: RunArgument,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Rows to predict, or - for standard input: a text or JSON object a line.")
    ] = "-",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .jsonl or .csv file; by default JSON lines are printed.")] = None,
    table: Annotated[bool, typer.Option("--table", help="Print a table to read, without all probabilities.")] = False,
    int8: Int8 = False,
) -> None:
    """Predict for rows of a file or of standard input: labels, spans, answers, texts, whatever the run has learned."""
    from burnish.data import sources
    from burnish.output import merged, write_rows
    from burnish.run import load
    from burnish.terminal import prediction_table

    loaded = load(run, "int8" if int8 else None)
    if output is not None and output.suffix not in (".jsonl", ".csv"):
        raise BurnishError(f"{output}: predictions are written as .jsonl or .csv")
    rows = sources.read_stream(sys.stdin, loaded.recipe.task.columns(False)) if data == "-" else sources.read(data)
    predictions = loaded.predict_rows(rows)
    if table and output is None:
        console().print(prediction_table([merged(row.values, found) for row, found in zip(rows, predictions, strict=True)]))
        return
    write_rows(rows, predictions, output)
    if output is not None:
        print(f"{len(rows):,} predictions in {output}")


@app.command()
def merge(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model.")] = False,
) -> None:
    """Take a run's adapter (lora and its kin, ia3, oft, ...) into the weights: a plain model that transformers opens without peft."""
    from burnish.run.merging import merge as merged

    print(f"{merged(run, output, overwrite)} is written: plain weights, with the tokenizer")


def conclude(path: Path) -> None:
    """Shows what a finished run came to, and where everything lies."""
    from burnish.core.rundir import RunFolder
    from burnish.terminal import evaluation_tables, summary_lines

    folder, screen = RunFolder(path), console()
    evaluations = [folder.read(f"evaluations/{part}.json") for part in ("validation", "test")]
    for evaluation in evaluations:
        if evaluation is not None:
            evaluation_tables(screen, evaluation)
    summary_lines(screen, folder.read("summary.json"))
    screen.print(f"model: {folder.model}\nreport: {folder.report}", highlight=False, soft_wrap=True)


def write_report(path: Path) -> None:
    from burnish.report.page import write

    write(path)
