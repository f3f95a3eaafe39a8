"""What shows that a recipe does what it should, before it runs."""

from __future__ import annotations

from burnish.cli.app import Findings, Overrides, RecipeArgument, app, conclude, display


@app.command()
def verify(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    output: Findings = None,
) -> None:
    """Show on a recipe's own rows that savings, micro-batches, resuming and saving change nothing but rounding; exit code 1 where they do."""
    from burnish.recipe import load
    from burnish.terminal import show_checks

    changes = overrides or []
    load(recipe, changes)
    with display(error=output == "-") as listener:
        from burnish.experiment.verify import verify as check

        found = check(recipe, changes, [listener])
    conclude(found, output, show_checks)
