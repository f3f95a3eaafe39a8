"""What shows that a recipe does what it should, before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.app import Overrides, RecipeArgument, app, console, display
from burnish.core.errors import disk_errors


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
