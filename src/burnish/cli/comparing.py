"""Systems against each other, over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.app import app, console
from burnish.core.errors import BurnishError


@app.command()
def compare(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE... [KEY=VALUE...]", help="YAML files; then changes to all of them.")],
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B", help="A system for each value, such as method=full,lora; again for each combination."),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="N or A,B,C", help="How many seeds, or which.")] = "3",
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="The system that others are compared with; by default the first.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What is compared; by default keep_best, or the task's first metric.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder to write; by default runs/compare-NAME-N.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Runs at a time, which share the cores.")] = 1,
) -> None:
    """Train systems with several seeds and say what the differences are worth. The same command goes on where it was stopped."""
    sources = [text for text in recipes if "=" not in text or Path(text).is_file()]
    overrides = [text for text in recipes if text not in sources]
    if not sources:
        raise BurnishError("a comparison needs a recipe: burnish compare RECIPE --vary method=full,lora")
    if processes > 1:
        print(f"{processes} runs at a time: they slow each other down, and no energy can be told apart")
    from burnish.experiment.crew import server
    from burnish.terminal.comparison import show_comparison
    from burnish.terminal.several import Several

    server()  # on another core, while this process imports the same
    screen = console()
    with Several(screen) as listener:
        from burnish.experiment.compare import compare as run_comparison
        from burnish.experiment.compare import planned

        plan = planned(sources, vary or [], overrides, seeds, baseline, metric)
        for warning in plan.warnings:
            screen.print(f"[yellow]warning:[/] {warning}", highlight=False, soft_wrap=True)
        folder = run_comparison(plan, output, processes, listener)
    if not show_comparison(screen, folder):
        raise typer.Exit(1)
