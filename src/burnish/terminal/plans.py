"""A plan on the screen: parameters, memory by part, and the ways to run a recipe beside each other."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from burnish.terminal.tables import megabytes
from burnish.terminal.times import show_times

COLUMNS = ("weights", "gradients", "optimizer", "activations", "logits", "teacher", "passing")
MOMENTS = ("training", "evaluation", "writing", "saving")


def show_plan(console: Console, prospect: Any) -> None:
    """One screen: what the model has, what the recipe takes while training and at its other moments, what else could be done."""
    console.print(parameter_lines(prospect))
    work, written = prospect.work, prospect.choices[0].memory
    heaviest = work.computed(work.heaviest)
    packed = "without padding" if work.packed else "padding included"
    console.print(
        f"A step: {work.batch_size} examples in {work.micro_batches:.1f} micro-batches, the largest of {heaviest:,} positions ({packed}); "
        f"{work.steps_per_epoch:,} steps an epoch. {described(prospect.machine)}.",
        highlight=False,
    )
    console.print(ways_table(prospect))
    moments = ", ".join(f"{name} {megabytes(size)}" for name, size in written.moments.items() if name != "writing" or work.writing)
    below = f"; {megabytes(written.process)} of each is the program itself" if written.process else ""
    console.print(f"As written, on each device: {moments}{below}.", highlight=False)
    if prospect.machine.devices > 1:
        console.print(
            f"Divided over {prospect.machine.devices} devices (weights, gradients, optimizer and examples, as ZeRO-3 and FSDP do). "
            "Burnish itself computes on one device today.",
            highlight=False,
        )
    if prospect.forecast is None:
        console.print("Time: not known for a machine of which only the memory is named; name a card, such as 8xH100.", highlight=False)
    else:
        show_times(console, prospect.forecast)
    for warning in prospect.warnings:
        console.print(f"warning: {warning}", highlight=False)
    console.print(prospect.advice, style="bold" if prospect.fits else "bold yellow", highlight=False)


def parameter_lines(prospect: Any) -> Table:
    """Parameters by place, by formula and counted."""
    table = Table(title=f"{prospect.recipe.model.title}, method={prospect.recipe.method.name}", title_justify="left")
    for name in ("parameters", "by formula", "counted", "learn", "formula of a block or part"):
        table.add_column(name, justify="left" if name in ("parameters", "formula of a block or part") else "right")
    places: dict[str, list[Any]] = {}
    for part in prospect.parts:
        places.setdefault(f"{part.place}: added" if part.role == "added by the method" else part.place, []).append(part)
    for place, parts in places.items():
        counted, learning = (sum(getattr(part, what) for part in parts) for what in ("total", "learning"))
        known = all(part.formula for part in parts)
        formula = (
            " + ".join(part.told.partition(" (")[2].removesuffix(")") if part.times > 1 else part.told for part in parts) if known else ""
        )
        table.add_row(place, f"{counted:,}" if known else "-", f"{counted:,}", f"{learning:,}", formula)
    total, added = (sum(part.total for part in prospect.parts if not only or part.formula is None) for only in (False, True))
    own = total - (added if prospect.by_formula is not None else 0)
    sign = "-" if prospect.by_formula is None else f"{prospect.by_formula:,} {'=' if prospect.by_formula == own else '!='}"
    table.add_row("the model itself" if own != total else "all", sign, f"{own:,}", "" if own != total else learned(prospect), "")
    if own != total:
        table.add_row("with what the method adds", "", f"{total:,}", learned(prospect), "")
    return table


def learned(prospect: Any) -> str:
    """How many parameters learn."""
    return f"{sum(part.learning for part in prospect.parts):,}"


def described(machine: Any) -> str:
    each = f"{machine.devices} devices of " if machine.devices > 1 else ""
    return f"On {machine.name}: {each}{machine.usable / 2**30:.1f} GiB"


def ways_table(prospect: Any) -> Table:
    """Memory of each way, by part, and whether it fits."""
    shown = [choice for choice in prospect.choices if choice.memory is not None]
    columns = [name for name in COLUMNS if any(getattr(choice.memory, name) for choice in shown)]
    table = Table(title="memory on each device while training", title_justify="left")
    table.add_column("way")
    for name in (*columns, "peak"):
        table.add_column(name, justify="right")
    table.add_column("operations", justify="right")
    table.add_column("fits")
    table.add_column("changes")
    for choice in shown:
        cells = [megabytes(getattr(choice.memory, name)) for name in columns]
        fits = "yes" if choice.fits else "no"
        operations = f"{choice.work.operations / max(prospect.work.operations, 1):.2f}"
        table.add_row(choice.way.name, *cells, megabytes(choice.memory.peak), operations, fits, choice.way.changes)
    return table
