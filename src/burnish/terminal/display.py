"""A run as it goes: a live line while training, lines for what happens. Falls back to plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from burnish.core.errors import count
from burnish.engine.events import Began, Evaluated, Event, Moved, Noted, Saved, Stepped, Working
from burnish.terminal.tables import clock, escaped, megabytes

QUIET_SECONDS = 10.0
SMOOTHING = 0.9


class Display:
    """A listener that shows a run on a console."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.bar: Progress | None = None
        self.pace = Pace()
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
        elif isinstance(event, Moved):
            sign = "+" if event.what == "dropout" else "×"
            self.say(
                f"[bold]{event.what}[/] {sign}{event.before:.3g} → {sign}{event.after:.3g} from step {event.step + 1:,}: {escaped(event.why)}"
            )
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
        if facts.get("quantize"):
            weights = facts["weights"]
            share = weights["float32_bytes"] / max(weights["bytes"], 1)
            self.say(
                f"pretrained weights in {facts['quantize']}: {megabytes(weights['bytes'])}, {megabytes(weights['float32_bytes'])} in float32 ({share:.1f} times)"
            )
        if facts.get("forecast"):
            self.say(foretold(facts["forecast"]))
        for note in facts["notes"]:
            self.say(f"[dim]{escaped(note)}[/]")
        for warning in facts["warnings"]:
            self.say(f"[yellow]warning:[/] {escaped(warning)}")

    def step(self, event: Stepped) -> None:
        self.pace.add(event)
        if self.console.is_terminal:
            self.show(event)
        elif time.monotonic() - self.spoke >= QUIET_SECONDS or event.fraction >= 1:
            self.spoke = time.monotonic()
            self.say(f"step {event.step:,} ({event.fraction:.0%})  {self.pace.line()}")

    def work(self, event: Working) -> None:
        """What takes a while between steps: in the live line, or as a plain line now and then."""
        done = f"{event.done:,} of {event.total:,} {event.what}"
        if self.console.is_terminal:
            self.move(event.done / max(event.total, 1), done, "")
        elif time.monotonic() - self.spoke >= QUIET_SECONDS:
            self.spoke = time.monotonic()
            self.say(f"[dim]{done}[/]")

    def show(self, event: Stepped) -> None:
        self.move(event.fraction, self.pace.line(), f"step {event.step:,}")
        if event.fraction >= 1:
            self.pause()
            self.say(f"step {event.step:,}  {self.pace.line()}")

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


class Pace:
    """How a run goes, from its steps: the loss and the speed smoothed, and the time that is left."""

    def __init__(self) -> None:
        self.first: Stepped | None = None
        self.last: Stepped | None = None
        self.loss = Smoothed()
        self.speed = Smoothed()

    def add(self, event: Stepped) -> None:
        # A resumed run's clock starts where it stood: its first step says nothing of the speed.
        since = self.last.seconds if self.last else 0.0 if event.step == 1 else event.seconds
        if event.seconds > since:
            self.speed.add(event.tokens / (event.seconds - since))
        self.loss.add(event.loss)
        self.first, self.last = self.first or event, event

    @property
    def left(self) -> float | None:
        """Seconds until the run is over, at the pace so far."""
        if self.first is None or self.last is None or self.last.fraction <= self.first.fraction:
            return None
        done, passed = self.last.fraction - self.first.fraction, self.last.seconds - self.first.seconds
        return passed / done * (1 - self.last.fraction)

    def line(self) -> str:
        """The last step in a line."""
        event = self.last
        assert event is not None, "there has been a step"
        padding = 1 - event.tokens / max(event.slots, 1)
        left = f"{clock(self.left)} left" if self.left is not None else ""
        return (
            f"loss {self.loss.value:.4f}  grad {event.grad_norm:.3g}  lr {event.lr:.2e}  {self.speed.value:,.0f} tok/s  "
            f"padding {padding:.0%}  {megabytes(event.memory)}  {left}"
        )


def foretold(forecast: Mapping[str, Any]) -> str:
    """How long a run will take and how much memory, in a line."""
    parts = ", ".join(f"{part} {clock(seconds)}" for part, seconds in forecast["seconds"].items() if round(seconds) and part != "start")
    memory = f", {megabytes(forecast['peak_memory'])}" if forecast["peak_memory"] else ""
    return f"foretold: {clock(forecast['total'])}{memory} ({parts}; {forecast['step']:.3g} s a step)"


class Smoothed:
    """A running mean that forgets: each new value moves it by a tenth of the way."""

    def __init__(self) -> None:
        self.value, self.weight = 0.0, 0.0

    def add(self, value: float) -> None:
        self.weight = SMOOTHING * self.weight + 1 - SMOOTHING
        self.value += (value - self.value) * (1 - SMOOTHING) / self.weight
