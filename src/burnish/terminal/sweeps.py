"""A sweep that is over: its best trials, how much each parameter mattered, what the best is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from burnish.core.errors import count
from burnish.report.sweeps import best_lines, ranked
from burnish.report.wording import short
from burnish.terminal.tables import escaped

MOST_ROWS = 12
BAR = 24
TONES = {"pruned": "dim", "failed": "red", "running": "dim"}


def show_sweep(console: Console, facts: Mapping[str, Any]) -> None:
    """The best trials, how much each parameter mattered, and what the best is worth."""
    console.print(trials_table(facts))
    hidden = len(facts["trials"]) - MOST_ROWS
    if hidden > 0:
        console.print(f"and {count(hidden, 'more trial')} on the page", highlight=False)
    for key, share in facts["importances"].items():
        console.print(f"{escaped(key):<28} {share:4.0%} {'█' * round(BAR * share)}", highlight=False)
    if facts["importances"]:
        console.print("share of what the metric varied by that each explains (fANOVA, finished trials)", style="dim", highlight=False)
    for sentence in best_lines(facts):
        console.print(escaped(sentence), highlight=False, soft_wrap=True)


def trials_table(facts: Mapping[str, Any]) -> Table:
    """Trials from the best on, those that were stopped and those that failed at the end."""
    keys = [parameter["name"] for parameter in facts["parameters"]]
    table = Table(title=f"{facts['name']}: trials by {facts['metric']}", title_justify="left")
    for column in ("trial", facts["metric"], "state", *keys, "seconds"):
        table.add_column(escaped(column), justify="left" if column == "state" else "right")
    for trial in ranked(facts)[:MOST_ROWS]:
        values = [trial["parameters"].get(key, "") for key in keys]
        table.add_row(
            str(trial["number"]),
            "" if trial["value"] is None else f"{trial['value']:.4f}",
            trial["state"] + (f" at {trial['reached']}%" if trial["state"] == "pruned" else ""),
            *(short(value) if isinstance(value, float) else escaped(str(value)) for value in values),
            "" if trial["seconds"] is None else f"{trial['seconds']:.1f}",
            style=TONES.get(trial["state"]),
        )
    return table
