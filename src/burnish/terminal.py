"""What a person sees in the terminal: a live line while training, tables after it. Falls back to plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table

from burnish.core.errors import count
from burnish.engine.events import Began, Evaluated, Event, Noted, Saved, Stepped, Working

QUIET_SECONDS = 10.0
SMOOTHING = 0.9


class Display:
    """A listener that shows a run on a console."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.bar: Progress | None = None
        self.first: Stepped | None = None
        self.last: Stepped | None = None
        self.loss = Smoothed()
        self.speed = Smoothed()
        self.spoke = 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Began):
            self.header(event.facts)
        elif isinstance(event, Stepped):
            self.step(event)
        elif isinstance(event, Evaluated):
            scores = "  ".join(f"{name} {value:.4f}" for name, value in event.metrics.items())
            best = "  [green]best so far[/]" if event.best else ""
            self.say(f"[bold]{event.part}[/] after step {event.step:,}, epoch {event.epoch:.2f}:  {scores}{best}")
        elif isinstance(event, Saved):
            self.say(f"[dim]checkpoint of step {event.step:,}: {megabytes(event.bytes)} in {event.seconds:.1f} s[/]")
        elif isinstance(event, Noted):
            self.say(f"[dim]{escaped(event.message)}[/]")
        elif isinstance(event, Working):
            self.work(event)

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    def header(self, facts: Mapping[str, Any]) -> None:
        """What is trained, on how much, for how long and where, before the first step."""
        parameters, data = facts["parameters"], facts["data"]
        rows = ", ".join(f"{count(part['rows'], f'{name} row')}" for name, part in data.items())
        share = parameters["trainable"] / max(parameters["total"], 1)
        length = (
            f"{facts['steps']:,} steps of {facts['batch_size']}"
            if facts["steps"]
            else f"{facts['duration']} of steps of {facts['batch_size']}"
        )
        self.say(
            f"[bold]{escaped(facts['model'])}[/], {facts['task']}, {facts['method']}: {parameters['trainable']:,} of {parameters['total']:,} parameters learn ({share:.1%})"
        )
        self.say(
            f"{rows}; {length}, {facts['steps_per_epoch']:,} an epoch; micro-batches of {facts['micro_batch']}; at most {facts['max_length']} tokens a row"
        )
        self.say(f"{facts['device']}, {facts['precision']}; run folder {escaped(facts['run'])}")
        for note in facts["notes"]:
            self.say(f"[dim]{escaped(note)}[/]")
        for warning in facts["warnings"]:
            self.say(f"[yellow]warning:[/] {escaped(warning)}")

    def step(self, event: Stepped) -> None:
        # A resumed run's clock starts where it stood: its first step says nothing of the speed.
        since = self.last.seconds if self.last else 0.0 if event.step == 1 else event.seconds
        if event.seconds > since:
            self.speed.add(event.tokens / (event.seconds - since))
        self.loss.add(event.loss)
        self.first, self.last = self.first or event, event
        if self.console.is_terminal:
            self.show(event)
        elif time.monotonic() - self.spoke >= QUIET_SECONDS or event.fraction >= 1:
            self.spoke = time.monotonic()
            self.say(f"step {event.step:,} ({event.fraction:.0%})  {self.line(event)}")

    def work(self, event: Working) -> None:
        """What takes a while between steps: in the live line, or as a plain line now and then."""
        done = f"{event.done:,} of {event.total:,} {event.what}"
        if self.console.is_terminal:
            self.move(event.done / max(event.total, 1), done, "")
        elif time.monotonic() - self.spoke >= QUIET_SECONDS:
            self.spoke = time.monotonic()
            self.say(f"[dim]{done}[/]")

    def line(self, event: Stepped) -> str:
        assert self.first is not None
        done, passed = event.fraction - self.first.fraction, event.seconds - self.first.seconds
        left = f"{clock(passed / done * (1 - event.fraction))} left" if done > 0 else ""
        padding = 1 - event.tokens / max(event.slots, 1)
        return (
            f"loss {self.loss.value:.4f}  grad {event.grad_norm:.3g}  lr {event.lr:.2e}  {self.speed.value:,.0f} tok/s  "
            f"padding {padding:.0%}  {megabytes(event.memory)}  {left}"
        )

    def show(self, event: Stepped) -> None:
        self.move(event.fraction, self.line(event), f"step {event.step:,}")
        if event.fraction >= 1:
            self.pause()
            self.say(f"step {event.step:,}  {self.line(event)}")

    def pause(self) -> None:
        """Takes the live line away until there is something to show again."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def move(self, fraction: float, description: str, label: str) -> None:
        """Moves the live line, which never takes more than one line of the terminal."""
        if self.bar is None:
            one_line = Column(no_wrap=True, overflow="ellipsis")
            self.bar = Progress(
                TextColumn("{task.fields[label]}", table_column=Column(no_wrap=True)),
                BarColumn(bar_width=None, table_column=Column(max_width=16)),
                TextColumn("{task.description}", table_column=one_line),
                console=self.console,
                transient=True,
            )
            self.bar.add_task("", total=1.0, label="")
            self.bar.start()
        self.bar.update(self.bar.task_ids[0], completed=fraction, description=description, label=label)


class Smoothed:
    """A running mean that forgets: each new value moves it by a tenth of the way."""

    def __init__(self) -> None:
        self.value, self.weight = 0.0, 0.0

    def add(self, value: float) -> None:
        self.weight = SMOOTHING * self.weight + 1 - SMOOTHING
        self.value += (value - self.value) * (1 - SMOOTHING) / self.weight


def evaluation_tables(console: Console, evaluation: Mapping[str, Any]) -> None:
    """Metrics of a part, and its class table where it has one."""
    scores = Table(title=f"{evaluation['part']}, {count(evaluation['rows'], 'row')}", title_justify="left")
    for name in evaluation["metrics"]:
        scores.add_column(name.replace("_", " "), justify="right")
    scores.add_row(*(number(value) for value in evaluation["metrics"].values()))
    console.print(scores)
    for section in evaluation["sections"]:
        if section["kind"] == "table" and section["title"] == "Classes" and len(section["rows"]) <= 30:
            console.print(plain_table(section))


def plain_table(section: Mapping[str, Any]) -> Table:
    table = Table()
    for index, column in enumerate(section["columns"]):
        table.add_column(str(column), justify="left" if index == 0 else "right")
    for row in section["rows"]:
        table.add_row(*(number(cell) for cell in row))
    return table


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
