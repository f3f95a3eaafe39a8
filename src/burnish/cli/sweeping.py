"""Searching the ranges of a recipe."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli.app import Overrides, RecipeArgument, app, console

SETTINGS = {
    "trials": Annotated[int | None, typer.Option(help="Runs in all, whoever makes them; by default 20, or every point of a grid.")],
    "sampler": Annotated[str | None, typer.Option(help="tpe (where good ones were), random or grid; by default tpe.")],
    "pruner": Annotated[str | None, typer.Option(help="median, hyperband or none; by default median.")],
    "metric": Annotated[str | None, typer.Option(help="The validation metric; by default train.keep_best, else the task's first.")],
    "seeds": Annotated[int | None, typer.Option(help="Fresh seeds to train the best with, by default 3; 0 only takes part.")],
    "storage": Annotated[str | None, typer.Option(metavar="URL", help="A database of optuna's, shared with other machines.")],
    "seed": Annotated[int | None, typer.Option(help="Seed of the search.")],
}
"""The recipe's `sweep` section as options."""


def sweep(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The sweep's folder; by default runs/NAME-sweep.")] = None,
    **settings: Any,
) -> None:
    """Search the ranges of a recipe, such as lr: {log: [1e-5, 1e-3]}; the same command goes on, in as many processes as you like."""
    from burnish.recipe.search import searched
    from burnish.terminal.several import Several
    from burnish.terminal.sweeps import show_sweep

    changes = overrides or []
    searched(recipe, changes, settings)  # a faulty search is refused before anything heavy is imported
    screen = console()
    with Several(screen) as listener:
        from burnish.experiment.sweep import sweep as search

        found = search(recipe, changes, settings, output, [listener])
    folder = output or Path("runs") / f"{recipe.stem}-sweep"
    show_sweep(screen, found)
    print(f"\nbest recipe: {folder / 'best.yaml'}\npage: {folder / 'index.html'}")


def with_settings(command: Any) -> Any:
    """The command with an option for each of `SETTINGS`, which typer reads off its signature."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in SETTINGS.items()]
    command.__signature__ = signature.replace(parameters=[*own, *more])
    return command


app.command()(with_settings(sweep))
