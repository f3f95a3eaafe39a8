"""Is a recipe going to train what its author thinks?"""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.cli.app import Findings, Overrides, RecipeArgument, app, conclude, display


@app.command()
def check(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    output: Findings = None,
    hoped: Annotated[
        float, typer.Option("--hoped", min=0.01, max=100, help="The difference in scores, in points, that validation is to show.")
    ] = 3.0,
) -> None:
    """Look at a recipe, its rows, their tokens and a step of training: is it going to train what you think? Exit code 1 where it is not."""
    from burnish.terminal import show_inspection

    with display(error=output == "-") as listener:
        from burnish.experiment.check import check as inspect

        found = inspect(recipe, overrides or [], hoped, [listener])
    conclude(found, output, show_inspection)
