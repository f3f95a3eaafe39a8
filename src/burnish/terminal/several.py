"""Several runs as they go: one line for all of them, one for each that is running, and a line that stays for each that is over."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from burnish.engine.events import Evaluated, Event, Noted, OfRun, OfSeveral, RunBegan, RunEnded, Stepped, Working
from burnish.terminal.display import QUIET_SECONDS, Pace
from burnish.terminal.tables import clock, escaped

SIGNS = {"done": "[green]done[/]", "found": "[cyan]found[/]", "failed": "[bold red]FAILED[/]"}


class Several:
    """A listener that shows an experiment on a console."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.bar: Progress | None = None
        self.whole: TaskID | None = None
        self.running: dict[str, Running] = {}
        self.over, self.total, self.at_once = 0, 0, 1
        self.seconds: list[float] = []
        self.spoke = 0.0

    def __enter__(self) -> Several:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __call__(self, event: OfSeveral) -> None:
        if isinstance(event, RunBegan):
            self.begin(event)
        elif isinstance(event, OfRun) and event.name in self.running:
            self.go_on(self.running[event.name], event.event)
        elif isinstance(event, RunEnded):
            self.end(event)
        elif isinstance(event, Noted):
            self.say(f"[dim]{escaped(event.message)}[/]")

    def begin(self, event: RunBegan) -> None:
        self.total, self.at_once = event.total, event.running
        self.running[event.name] = Running(event.name, event.number)
        if self.console.is_terminal:
            self.show()
        else:
            self.say(f"{event.name} ({event.number} of {event.total})")

    def end(self, event: RunEnded) -> None:
        """Takes the line of a run away and leaves one that says what came of it."""
        running = self.running.pop(event.name, None)
        if running is not None and running.line is not None and self.bar is not None:
            self.bar.remove_task(running.line)
        self.over += 1
        if event.how == "done":
            self.seconds.append(event.seconds)
        took = f"  [dim]{clock(event.seconds)}[/]" if event.how == "done" else ""
        self.say(f"{SIGNS[event.how]}  [bold]{escaped(event.name)}[/]  {escaped(event.message)}{took}")
        if self.over >= self.total:
            self.stop()
        else:
            self.show()

    def go_on(self, running: Running, event: Event) -> None:
        """Shows a step or other work in the line of its run; what else runs say is in their own folders."""
        running.take(event)
        if self.console.is_terminal:
            self.show()
        elif isinstance(event, (Stepped, Working)) and time.monotonic() - self.spoke >= QUIET_SECONDS:
            self.spoke = time.monotonic()
            self.say(f"[dim]{escaped(running.name)}: {escaped(running.text.strip())}; {self.standing}[/]")

    @property
    def standing(self) -> str:
        """`3 of 9 runs, 4:10 left`"""
        left = self.left()
        return f"{self.over} of {self.total} runs" + (f", about {clock(left)} left" if left is not None else "")

    def left(self) -> float | None:
        """Seconds until all is done: what is running at its pace, the rest as long as runs have taken so far."""
        own = [running.pace.left for running in self.running.values()]
        known = [seconds for seconds in own if seconds is not None]
        lengths = self.seconds or [seconds for running in self.running.values() if (seconds := running.length) is not None]
        waiting = self.total - self.over - len(self.running)
        if not lengths or (waiting == 0 and not known):
            return None
        return max(known, default=0.0) + waiting * sum(lengths) / len(lengths) / self.at_once

    def show(self) -> None:
        """Brings the live lines up to date."""
        if not self.console.is_terminal:
            return
        if self.bar is None:
            self.bar = self.started()
        if self.whole is None:
            self.whole = self.bar.add_task("", total=1.0, label="all")
        share = sum(running.fraction for running in self.running.values())
        self.bar.update(self.whole, completed=(self.over + share) / max(self.total, 1), description=self.standing)
        for running in self.running.values():
            if running.line is None:
                running.line = self.bar.add_task("", total=1.0, label=running.name)
            self.bar.update(running.line, completed=running.fraction, description=running.text)

    def started(self) -> Progress:
        bar = Progress(
            TextColumn("{task.fields[label]}", table_column=Column(no_wrap=True, max_width=32, overflow="ellipsis")),
            BarColumn(bar_width=12),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=self.console,
            expand=True,
            transient=True,
        )
        bar.start()
        return bar

    def stop(self) -> None:
        """Takes the live lines away, and counts anew what comes after."""
        if self.bar is not None:
            self.bar.stop()
        self.bar, self.whole, self.over, self.seconds = None, None, 0, []

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)


class Running:
    """One run, as far as it is."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self.pace = Pace()
        self.text, self.fraction = "begins", 0.0
        self.line: TaskID | None = None

    @property
    def length(self) -> float | None:
        """Seconds that the whole run may take, at its pace so far."""
        return self.pace.last.seconds + self.pace.left if self.pace.last and self.pace.left is not None else None

    def take(self, event: Event) -> None:
        """What its line says from now on."""
        if isinstance(event, Stepped):
            self.pace.add(event)
            self.text, self.fraction = f"step {event.step:,}  {self.pace.line()}", event.fraction
        elif isinstance(event, Working):
            self.text = f"{event.done:,} of {event.total:,} {event.what}"
        elif isinstance(event, Evaluated):
            self.text = f"{event.part} after step {event.step:,}: " + "  ".join(
                f"{name} {value:.4f}" for name, value in event.metrics.items()
            )
        elif isinstance(event, Noted):
            self.text = event.message
