"""The application, its groups of commands, the arguments that several share, and the screen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

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


def console(error: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=error, width=None if sys.stdout.isatty() else 160)


def display(error: bool = False) -> Any:
    from burnish.terminal import Display

    return Display(console(error))
