"""Pages and slides of runs, of comparisons, of runs side by side, and pages of sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.app import app
from burnish.core.errors import BurnishError


@app.command()
def report(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, which are compared, or the folder of a comparison or a sweep.")
    ],
    slides: Annotated[bool, typer.Option("--slides", help="Write slides.pptx too, and slides.yaml with its texts, to be edited.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write; by default RUN/report, for several runs a new one in runs/.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(metavar="NAME", help="Of several runs: what the others are compared with.")] = None,
    metric: Annotated[str | None, typer.Option(help="Of several runs: what is compared.")] = None,
) -> None:
    """Write the page of a run, a comparison or a sweep again, or compare several runs; slides too, with --slides."""
    from burnish.report import page, sweeps, versus
    from burnish.report import slides as deck

    if len(paths) == 1 and (baseline or metric):
        raise BurnishError("--baseline and --metric are for several runs; `burnish compare` sets those of a comparison.")
    if len(paths) > 1:
        folder, output = gathered(paths, output, baseline, metric), None
    else:
        folder = paths[0]
    if (folder / "sweep.json").is_file():
        if slides or output:
            raise BurnishError(f"{folder} is a sweep, whose page stands in its folder: leave --slides and --output out.")
        print(f"report: {sweeps.write(folder)}")
        return
    if (folder / "trials").is_dir() and not (folder / "recipe.yaml").is_file():
        raise BurnishError(
            f"{folder} is a sweep that has not ended: the same `burnish sweep` command goes on, and writes its page at the end."
        )
    write = versus.write if versus.is_comparison(folder) else page.write
    print(f"report: {write(folder, output)}")
    if slides:
        written = deck.write(folder, output)
        print(f"slides: {written}\ntexts: {written.with_name('slides.yaml')} (edit them, then run the same command again)")


def gathered(paths: list[Path], output: Path | None, baseline: str | None, metric: str | None) -> Path:
    """The folder of a comparison of several runs."""
    from burnish.report import versus

    if whole := [path for path in paths if versus.is_comparison(path)]:
        raise BurnishError(f"{whole[0]} is a comparison, which is reported by itself: burnish report {whole[0]}")
    from burnish.experiment.compare.gathering import gather

    return gather(paths, output, baseline, metric)
