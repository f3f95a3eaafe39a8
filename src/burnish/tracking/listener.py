"""Follows a run for its trackers: a listener of events that never stops it, and goes on with the same series when it is resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from burnish.core.errors import BurnishError, Interrupted, listing
from burnish.core.rundir import RunFolder
from burnish.core.secrets import redacted
from burnish.engine.events import Began, Evaluated, Event, Stepped
from burnish.tracking.series import evaluation_values, finite, flat, replayed, step_values
from burnish.tracking.spec import Ending, Sink, Start, Tracker

STATE = "tracking/state.json"
"""What trackers remember from one process to the next, such as the id of the run on a server."""


def require(trackers: Sequence[Tracker]) -> None:
    """Raises BurnishError where one of the trackers cannot be used here, before anything is trained."""
    faults = [fault for fault in (tracker.fault() for tracker in trackers) if fault]
    if faults:
        raise BurnishError(listing("The run cannot be followed as `track` says:", faults))


class Tracking:
    """A context around a run, and a listener within it. Whatever a tracker raises is told once, and that tracker is left out."""

    def __init__(self, trackers: Sequence[Tracker], folder: RunFolder, settings: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self.trackers, self.folder, self.note = trackers, folder, note
        self.settings = flat(settings)
        self.sinks: dict[int, Sink] = {}
        self.since = 0.0
        self.places: Sequence[str] = ()
        self.step = 0
        self.state: dict[str, Any] = (folder.read(STATE) or {}) if trackers else {}

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.each(lambda sink: sink.conclude(self.results(), self.step))
        failed = kind is not None and issubclass(kind, Exception) and not issubclass(kind, Interrupted)
        self.close("finished" if kind is None else "failed" if failed else "stopped")

    def __call__(self, event: Event) -> None:
        if not self.trackers:
            return
        if isinstance(event, Began):
            self.open(event.facts)
        elif isinstance(event, Stepped):
            facts = asdict(event)
            values, self.since, self.step = step_values(facts, self.since, self.places), event.seconds, event.step
            self.tell(True, values, event.step, event.seconds)
        elif isinstance(event, Evaluated):
            self.tell(False, evaluation_values(event.part, event.metrics), event.step, self.since)

    def open(self, facts: Mapping[str, Any]) -> None:
        """Opens every tracker, now that the run knows what it is made of."""
        self.places = facts.get("gradient_places") or ()
        history = self.folder.read_metrics()
        done = [line for line in history if line.get("kind") == "step"]
        self.since, self.step = (done[-1]["seconds"], done[-1]["step"]) if done else (0.0, 0)
        told = {name: facts.get(name) for name in ("parameters", "steps", "steps_per_epoch", "device", "max_length")}
        counted = told.pop("parameters") or {}
        settings = {**self.settings, **told, **{f"parameters.{name}": counted.get(name) for name in ("total", "trainable")}}
        for number, tracker in enumerate(self.trackers):
            name: str = tracker.name  # type: ignore[attr-defined]
            memory = self.state.setdefault(f"{number} {name}", {})
            start = Start(self.folder.path.name, self.folder.path / "tracking" / name, settings, bool(memory), memory)
            self.trying(number, partial(tracker.open, start))
        self.folder.write(STATE, self.state)
        for is_step, values, step, seconds in replayed(history, self.places):
            self.tell(is_step, values, step, seconds)

    def tell(self, is_step: bool, values: Mapping[str, float], step: int, seconds: float) -> None:
        """Values of a step or of an evaluation, to those that do not have them yet."""
        self.each(lambda sink: sink.log(values, step, seconds) if step > sink.known[0 if is_step else 1] else None)

    def each(self, work: Callable[[Sink], object]) -> None:
        """Does something with every tracker that is still open."""
        for number, sink in list(self.sinks.items()):
            self.trying(number, partial(work, sink))

    def trying(self, number: int, work: Callable[[], Any]) -> None:
        """Opens or uses a tracker; where that fails, says so and goes on without it."""
        try:
            found = work()
            if number not in self.sinks:
                self.sinks[number] = found
        except Exception as error:
            self.sinks.pop(number, None)
            name: str = self.trackers[number].name  # type: ignore[attr-defined]
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.note(f"{name} is left out from here on, the run goes on: {redacted(reason)}")

    def results(self) -> dict[str, float]:
        """The metrics of the finished run by part of the data, and its figures."""
        found: dict[str, Any] = {}
        for part in ("test", "validation", "seen"):
            evaluation = self.folder.read(f"evaluations/{part}.json") or {}
            found |= {f"final/{part}/{name}": value for name, value in (evaluation.get("metrics") or {}).items()}
        summary = self.folder.read("summary.json") or {}
        found |= {f"final/{name}": summary.get(name) for name in ("seconds", "peak_memory", "mean_loss", "tokens_per_second", "kept_step")}
        return finite(found)

    def close(self, ending: Ending) -> None:
        """Ends every series: what happened is said to the trackers, too."""
        self.each(lambda sink: sink.close(ending))
        self.sinks.clear()
