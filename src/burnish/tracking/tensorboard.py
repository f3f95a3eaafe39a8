"""TensorBoard: curves in event files, looked at with `tensorboard --logdir FOLDER`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from burnish.core.registry import register
from burnish.tracking.spec import Ending, Sink, Start, Tracker

FLUSHED = 5
"""Seconds after which values are on disk at the latest."""


@register("tracker")
class TensorBoard(Tracker):
    """Event files for TensorBoard, in the run folder: tensorboard --logdir runs."""

    name: Literal["tensorboard"] = "tensorboard"

    package: ClassVar[str] = "tensorboard"

    folder: str | None = None
    """Where the event files go, in a folder of the run's name; by default RUN/tracking/tensorboard."""

    def open(self, start: Start) -> Sink:
        place = Path(self.folder).expanduser() / start.name if self.folder else start.folder
        return Events(place, start)


class Events:
    """Writes event files. Those of a run that goes on are written anew, from its own record."""

    known = (-1, -1)

    def __init__(self, folder: Path, start: Start) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if start.resumed and start.memory.get("folder") == str(folder):
            for file in folder.glob("events.out.tfevents.*"):
                file.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        start.memory["folder"] = str(folder)
        self.began = start.memory.setdefault("began", time.time())
        self.writer: Any = SummaryWriter(str(folder), flush_secs=FLUSHED)
        self.writer.add_text("recipe", "\n".join(f"    {key}: {value}" for key, value in start.settings.items()), 0)

    def log(self, values: Mapping[str, float], step: int, seconds: float) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step, walltime=self.began + seconds)

    def conclude(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self, ending: Ending) -> None:
        self.writer.close()
