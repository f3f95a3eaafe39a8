"""Tables and lines after a run: metrics, predictions, figures, and numbers as a terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from burnish.core.errors import count


def evaluation_tables(console: Console, evaluation: Mapping[str, Any]) -> None:
    """Metrics of a part, and those of its tables that fit on a screen."""
    scores = Table(title=f"{evaluation['part']}, {count(evaluation['rows'], 'row')}", title_justify="left")
    for name in evaluation["metrics"]:
        scores.add_column(name.replace("_", " "), justify="right")
    scores.add_row(*(number(value) for value in evaluation["metrics"].values()))
    console.print(scores)
    for section in evaluation["sections"]:
        if section["kind"] == "table" and fits(section["rows"]):
            console.print(plain_table(section))


def fits(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether a table is short, and none of its cells is prose."""
    return 0 < len(rows) <= 30 and all(len(str(cell)) <= 40 for row in rows for cell in row)


def plain_table(section: Mapping[str, Any]) -> Table:
    table = Table()
    for index, column in enumerate(section["columns"]):
        table.add_column(str(column), justify="left" if index == 0 else "right")
    for row in section["rows"]:
        table.add_row(*(number(cell) for cell in row))
    return table


def groups_table(groups: Sequence[Mapping[str, Any]]) -> Table:
    """The optimizer's groups, with what they come to."""
    rows = [[f"{g['lr']:.3g}", f"{g['weight_decay']:.3g}", g["parameters"], g["tensors"], g["first"]] for g in groups]
    rows.append(["all", "", sum(g["parameters"] for g in groups), sum(g["tensors"] for g in groups), ""])
    return plain_table({"columns": ["learning rate", "weight decay", "parameters", "tensors", "first of them"], "rows": rows})


def parameters_table(parts: Sequence[Any]) -> Table:
    """Parameters by place and role, with sums: below the head, and of all."""
    rows = [[f"{part.place}: {part.role}", part.total, part.learning, part.told] for part in parts]
    for name, chosen in (("all but the head", [part for part in parts if part.place != "head"]), ("all", parts)):
        rows.append([name, sum(part.total for part in chosen), sum(part.learning for part in chosen), ""])
    return plain_table({"columns": ["part", "parameters", "learning", "formula"], "rows": rows})


def prediction_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Predictions to read: a column for each value, without the probabilities of every label."""
    names = [name for name, value in (records[0].items() if records else ()) if not isinstance(value, Mapping)]
    table = Table()
    for name in names:
        table.add_column(name, justify="right" if isinstance(records[0][name], float) else "left")
    for record in records:
        table.add_row(*(number(record[name]) for name in names))
    return table


def summary_lines(console: Console, summary: Mapping[str, Any]) -> None:
    """Time, speed, FLOPs, mean loss, memory: as people know them from Trainer."""
    padding = f"{summary['padding_share']:.1%} padding"
    console.print(
        f"{summary['ended']}: {summary['steps']:,} steps, {summary['epochs']:.2f} epochs in {clock(summary['seconds'])}  "
        f"{summary['samples_per_second']:.1f} samples/s  {summary['steps_per_second']:.2f} steps/s  "
        f"{summary['tokens_per_second']:,.0f} tokens/s  {padding}",
        highlight=False,
        soft_wrap=True,
    )
    kept = f"  weights kept: step {summary['kept_step']}" if summary["best"] else ""
    console.print(
        f"mean loss {summary['mean_loss']:.4f}  {summary['flos']:.3e} FLOPs  peak memory {megabytes(summary['peak_memory'])}{kept}",
        highlight=False,
        soft_wrap=True,
    )


def number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else escaped(str(value))


def megabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def escaped(text: str) -> str:
    """Text in which square brackets are plain characters to rich."""
    return text.replace("[", r"\[")
