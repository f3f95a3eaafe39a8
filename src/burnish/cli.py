"""The command line: a thin shell over the library. Heavy modules are imported inside the commands, so that help is instant."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.core.errors import BurnishError, disk_errors

app = typer.Typer(
    name="burnish",
    help="Fine-tunes pretrained transformers on small data and modest hardware, and shows whether it worked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

tokenizers = typer.Typer(help="Tokenizers for models that start from scratch.", no_args_is_help=True)
app.add_typer(tokenizers, name="tokenizer")

rows_of_data = typer.Typer(help="Rows as the model gets them.", no_args_is_help=True)
app.add_typer(rows_of_data, name="data")

outlooks = typer.Typer(help="What a recipe comes to, before anything is trained.", no_args_is_help=True)
app.add_typer(outlooks, name="show")

RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to it, such as schedule=cosine.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Hold the weights in 8 bits (LLM.int8): a quarter of their memory, close results.")]


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


@app.command(name="find-lr")
def find_lr(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to it, such as method=lora.")] = None,
    lowest: Annotated[float, typer.Option("--min", help="The learning rate to begin with.")] = 1e-7,
    highest: Annotated[float, typer.Option("--max", help="The learning rate to end with.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Updates, at rates that rise by the same factor.")] = 100,
    html: Annotated[Path | None, typer.Option(help="A page to write as well, with the curve as a picture.")] = None,
) -> None:
    """Find a learning rate: train a little at rising rates and see where the loss falls. The weights are thrown away."""
    from burnish.recipe import load
    from burnish.report.rates import write_page
    from burnish.terminal import show_rates

    changes = overrides or []
    load(recipe, changes)
    with display() as listener:
        from burnish.run import find_lr as find

        found = find(recipe, changes, lowest, highest, steps, [listener])
    show_rates(console(), found)
    if html is not None:
        write_page(found, recipe.stem, html)
        print(f"\npage: {html}")


@app.command()
def verify(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    output: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write what was found as JSON too; - prints it alone.")
    ] = None,
) -> None:
    """Show on a recipe's own rows that savings, micro-batches, resuming and saving change nothing but rounding; exit code 1 where they do."""
    from burnish.recipe import load
    from burnish.terminal import show_checks

    changes, alone = overrides or [], output == "-"
    load(recipe, changes)
    with display(error=alone) as listener:
        from burnish.experiment import verify as check

        found = check(recipe, changes, [listener])
    text = json.dumps(found.to_json(), indent=2)
    if alone:
        print(text)
    else:
        show_checks(console(), found)
    if output is not None and not alone:
        with disk_errors(f"Writing {output}"):
            Path(output).write_text(text + "\n", encoding="utf-8")
    if not found.passed:
        raise typer.Exit(1)


@app.command()
def report(run: RunArgument) -> None:
    """Write the HTML report of a run again."""
    from burnish.core.rundir import RunFolder

    folder = RunFolder.open(run)
    write_report(folder.path)
    print(f"report: {folder.report}")


@app.command()
def init(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data file, or bundled:NAME.")],
    task: Annotated[str, typer.Option(help="What to learn; `burnish list` names the tasks.")] = "classify",
    model: Annotated[
        str | None, typer.Option(help="A hub id, a local folder, or starter:minilm; by default a small one for the task.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; by default NAME.yaml here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing recipe.")] = False,
) -> None:
    """Write a commented recipe for a data file; its columns are guessed from its rows."""
    from burnish.scaffold import recipe_for

    text, name = recipe_for(data, task, model)
    path = output or Path(f"{name}.yaml")
    if path.exists() and not overwrite:
        raise BurnishError(f"{path} exists: name another with --output, or say --overwrite.")
    with disk_errors(f"Writing {path}"):
        path.write_text(text, encoding="utf-8")
    print(f"{path} is written: look at it, then: burnish train {path}")


@rows_of_data.command()
def show(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to it, such as data.max_length=64.")] = None,
    part: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    rows: Annotated[int, typer.Option(min=1, help="How many rows to show.")] = 5,
    row: Annotated[int | None, typer.Option(min=1, help="The one row to show, by its number in its file.")] = None,
    html: Annotated[Path | None, typer.Option(help="A page to write as well.")] = None,
    augmented: Annotated[bool, typer.Option("--augmented", help="Show beside them what data.augment makes of them.")] = False,
) -> None:
    """Show rows token by token: what is supervised, what is cut, and what that comes to in the whole part."""
    from burnish.recipe import load
    from burnish.report.tokens import write_page
    from burnish.terminal import show_tokens

    changes = overrides or []
    load(recipe, changes)
    with display() as listener:
        from burnish.run.showing import show as look

        shown = look(recipe, changes, part, rows, row, [listener], augmented)
    show_tokens(console(), shown)
    if html is not None:
        write_page(shown, html)
        print(f"\npage: {html}")
    if shown.fault:
        raise BurnishError(shown.fault)


@tokenizers.command(name="train")
def train_tokenizer(
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Data files, or bundled:NAME, whose texts it learns from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write, for model.tokenizer.")],
    column: Annotated[list[str] | None, typer.Option(help="A column of texts; again for more. By default every column of texts.")] = None,
    kind: Annotated[str, typer.Option(help="bpe (of bytes), unigram or wordpiece.")] = "bpe",
    size: Annotated[int, typer.Option(min=1, help="Tokens at most.")] = 8000,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Read capitals as small letters (wordpiece).")] = False,
    max_length: Annotated[int | None, typer.Option(help="Tokens at which it cuts; by default what a model can read.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing tokenizer.")] = False,
) -> None:
    """Train a tokenizer on the texts of data files, for models that start from scratch."""
    from burnish.data.texts import texts_of
    from burnish.models import vocabulary

    if (output / "tokenizer.json").exists() and not overwrite:
        raise BurnishError(f"{output} holds a tokenizer: name another folder with --output, or say --overwrite.")
    texts = texts_of(data, column)
    tokenizer = vocabulary.train(texts, kind, size, lowercase, max_length)  # type: ignore[arg-type]
    with disk_errors(f"Writing {output}"):
        output.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(output)
    facts = vocabulary.summary(tokenizer, texts)
    print(
        f"{facts['vocabulary']:,} tokens learned from {len(texts):,} texts: {facts['bytes_per_token']:.2f} bytes a token, {facts['unknown']:.2%} unknown"
    )
    print(f"{output} is written: name it in a recipe, model: {{name: new:llama, tokenizer: {output}}}")


@outlooks.command(name="schedule")
def show_schedule(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A picture to write as well, .svg.")] = None,
) -> None:
    """Draw the learning rate over the steps of a run."""
    from burnish.recipe import load
    from burnish.report.pictures import write_picture
    from burnish.terminal.plot import plot

    load(recipe, overrides or [])
    with display() as listener:
        from burnish.run.outlook import show_schedule as look

        panel = look(recipe, overrides or [], [listener])
    points = panel.lines[0].points
    print(f"{panel.title}: {panel.alt}\n\n" + "\n".join(plot(points, (f"{points[0][0]:g}", f"{panel.last_step:g} {panel.x_label}"))))
    if output is not None:
        write_picture(panel, output)
        print(f"\npicture: {output}")


@outlooks.command(name="groups")
def show_groups(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """List the optimizer's groups: learning rate, weight decay, and which parameters."""
    from burnish.recipe import load
    from burnish.terminal.tables import groups_table

    load(recipe, overrides or [])
    from burnish.run.outlook import show_groups as look

    console().print(groups_table(look(recipe, overrides or [])))


@outlooks.command(name="parameters")
def show_parameters(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """List a model's parameters by place and role, those that learn, and the formulas of their numbers."""
    from burnish.recipe import load
    from burnish.terminal.tables import parameters_table

    load(recipe, overrides or [])
    from burnish.run.outlook import show_parameters as look

    console().print(parameters_table(look(recipe, overrides or [])))


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from burnish.recipe import Recipe

    print(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}, indent=2))


@app.command(name="list")
def list_() -> None:
    """List tasks, methods, optimizers, schedules, starters and bundled data."""
    from burnish.scaffold import catalogue

    for title, rows in catalogue().items():
        print(f"\n{title}")
        for name, about in rows:
            print(f"  {name:<22} {about}")


def console(error: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=error, width=None if sys.stdout.isatty() else 160)


def display(error: bool = False) -> Any:
    from burnish.terminal import Display

    return Display(console(error))


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


def guarded(command: Callable[[], Any]) -> int:
    """Runs a command; what a user can mend is told on one screen, without a traceback, and gives its exit code."""
    try:
        with disk_errors("Reading or writing"):
            command()
    except BurnishError as error:
        print(f"burnish: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("burnish: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def main() -> None:
    """Entry point of the command `burnish`."""
    sys.exit(guarded(lambda: app(standalone_mode=True)))
