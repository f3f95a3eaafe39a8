"""What a recipe will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.app import Overrides, RecipeArgument, app, console, display
from burnish.core.packages import elsewhere


@app.command()
def plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    machine: Annotated[
        str | None, typer.Option(help="A machine by name: 1x24GB, 8xH100, 2xA100-40GB, M2-16GB; by default this one.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Write the recipe that fits with the least change.")] = None,
    output: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON too.")] = None,
) -> None:
    """Say what a recipe will cost: parameters, memory by part, and which of its alternatives fit; exit code 1 where it does not."""
    from burnish.plan.machines import named
    from burnish.recipe import load
    from burnish.terminal.plans import show_plan

    changes = overrides or []
    with elsewhere(machine is not None):
        load(recipe, changes)
    if machine is not None:
        named(machine)
    with display() as listener:
        from burnish.run import prospect

        found = prospect.plan(recipe, changes, machine, [listener])
    show_plan(console(), found)
    if output is not None:
        prospect.write_json(found, output)
    if write is not None:
        chosen = prospect.write_recipe(found, write)
        print(f"\n{write} is written: {chosen.way.name}. Train it: burnish train {write}")
    if not found.fits:
        raise typer.Exit(1)
