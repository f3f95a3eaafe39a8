"""Is a recipe going to train what its author thinks?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.app import Overrides, RecipeArgument, app, console, display
from burnish.core.errors import disk_errors


@app.command()
def check(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    output: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write what was found as JSON too; - prints it alone.")
    ] = None,
    hoped: Annotated[
        float, typer.Option("--hoped", min=0.01, max=100, help="The difference in scores, in points, that validation is to show.")
    ] = 1.0,
) -> None:
    """Look at a recipe, its rows, their tokens and a step of training: is it going to train what you think? Exit code 1 where it is not."""
    from burnish.terminal import show_inspection

    alone = output == "-"
    with display(error=alone) as listener:
        from burnish.experiment.check import check as inspect

        found = inspect(recipe, overrides or [], hoped, [listener])
    text = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
    if alone:
        print(text)
    else:
        show_inspection(console(), found)
    if output is not None and not alone:
        with disk_errors(f"Writing {output}"):
            Path(output).write_text(text + "\n", encoding="utf-8")
    if not found.passed:
        raise typer.Exit(1)
