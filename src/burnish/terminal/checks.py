"""What `burnish verify` found, as a table: what differs by how much, and what is left out for which reason."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from burnish.core.verification import QUANTITIES, Check, Verification
from burnish.terminal.tables import escaped

COLORS = {"pass": "green", "warn": "yellow", "FAIL": "bold red"}


def show_checks(console: Console, found: Verification) -> None:
    """A row for each check and the largest relative differences that rounding explains below them, then what it comes to in words."""
    table = Table(title=f"{escaped(found.title)}, {found.precision}: relative differences", title_justify="left")
    table.add_column("check")
    for name in QUANTITIES:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("result")
    for check in found.checks:
        color = COLORS.get(check.state, "dim")
        table.add_row(escaped(check.name), *cells(check, found), Text(check.state, color))
    table.add_section()
    table.add_row("rounding explains at most", *(f"{found.limits[name]:.0e}" for name in QUANTITIES), "")
    console.print(table)
    for line in found.sentences():
        console.print(Text(line), highlight=False, soft_wrap=True)


def cells(check: Check, found: Verification) -> list[str]:
    """The differences of a check, with the limit where it has one of its own."""
    names = {name: "" if check.limits.get(name) == found.limits[name] else own(check.limits.get(name, 0.0)) for name in QUANTITIES}
    return [f"{short(check.measured[name])}{limit}" if name in check.measured else "" for name, limit in names.items()]


def own(limit: float) -> str:
    return f" (at most {limit:.0e})" if limit else " (bitwise)"


def short(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"
