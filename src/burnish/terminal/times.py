"""How long a run will take, on the screen."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from burnish.report.wording import flops
from burnish.terminal.tables import clock


def show_times(console: Console, forecast: Any) -> None:
    """A step, an epoch, an evaluation, a checkpoint; the run by part; and the rate that this comes from."""
    each = [f"a step {precise(forecast.step)}", f"an epoch {precise(forecast.epoch)}"]
    each += [f"an evaluation {precise(forecast.evaluation)}"] if forecast.evaluation else []
    each += [f"a checkpoint {precise(forecast.checkpoint)}"] if forecast.checkpoint else []
    console.print(f"Time: {', '.join(each)}.", highlight=False)
    parts = ", ".join(f"{part} {precise(seconds)}" for part, seconds in forecast.seconds.items())
    console.print(f"The run: {clock(forecast.total)} for {forecast.steps:,} steps ({parts}).", highlight=False)
    console.print(f"{flops(forecast.operations)} a step at {flops(forecast.rate)}/s, {forecast.how}.", highlight=False)


def precise(seconds: float) -> str:
    """Seconds as people read them: 0.034 s, 12 s, 3:25."""
    return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s" if seconds < 99.5 else clock(seconds)
