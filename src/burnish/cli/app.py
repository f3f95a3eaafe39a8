"""The application, its groups of commands, the arguments that several share, and the screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.core.errors import disk_errors

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

Findings = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write what was found as JSON too; - prints it alone.")]


def console(error: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=error, width=None if sys.stdout.isatty() else 160)


def display(error: bool = False) -> Any:
    from burnish.terminal import Display

    return Display(console(error))


def conclude(found: Any, output: str | None, show: Callable[[Any, Any], None]) -> None:
    """Shows what was found, or writes it as JSON where that was asked for; exit code 1 where something did not pass."""
    text = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
    if output == "-":
        print(text)
    else:
        show(console(), found)
        if output is not None:
            with disk_errors(f"Writing {output}"):
                Path(output).write_text(text + "\n", encoding="utf-8")
    if not found.passed:
        raise typer.Exit(1)
