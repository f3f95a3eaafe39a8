"""Looking at rows, rates, schedules and parameters before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.app import Overrides, RecipeArgument, app, console, display, outlooks, rows_of_data
from burnish.core.errors import BurnishError


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
