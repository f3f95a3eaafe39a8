"""What `burnish verify` found, as a table: what differs by how much, and what is left out for which reason."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from burnish.core.verification import QUANTITIES, Check, Verification
from burnish.terminal.tables import escaped

COLORS = {"pass": "green", "FAIL": "bold red"}


def show_checks(console: Console, found: Verification) -> None:
    """A row for each check and the largest relative differences that rounding explains below them, then what it comes to in words."""
    table = Table(title=f"{escaped(found.title)}, {found.precision}: relative differences", title_justify="left")
    table.add_column("check")
    for name in QUANTITIES:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("result")
    for check in found.checks:
        color = COLORS.get(check.state, "dim")
        table.add_row(escaped(check.name), *cells(check), Text(check.state, color))
    table.add_section()
    table.add_row("rounding explains at most", *(f"{found.limits[name]:.0e}" for name in QUANTITIES), "")
    console.print(table)
    for line in found.sentences():
        console.print(Text(line), highlight=False, soft_wrap=True)


def cells(check: Check) -> list[str]:
    """The differences of a check; a zero that has to be one says so."""
    return [cell(check.measured[name], check.limits[name]) if name in check.measured else "" for name in QUANTITIES]


def cell(value: float, limit: float) -> str:
    bits = " (bitwise)" if limit == 0 else ""
    return f"0{bits}" if value == 0 else f"{value:.1e}{bits}"
