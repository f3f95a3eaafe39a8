"""Weights & Biases: runs on wandb.ai or a server of one's own, or written offline and sent later with `wandb sync`."""

from __future__ import annotations

import netrc
import os
import shutil
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from burnish.core.registry import register
from burnish.tracking.spec import Ending, Sink, Start, Tracker

SECONDS = 30
"""To wait for the server at most, when a run begins."""


@register("tracker")
class Wandb(Tracker):
    """Weights & Biases. The key comes from WANDB_API_KEY or `wandb login`; with offline, send the run later: wandb sync RUN/tracking/wandb/offline-run-*."""

    name: Literal["wandb"] = "wandb"

    package: ClassVar[str] = "wandb"

    project: str = "burnish"
    """The project that the run belongs to."""

    entity: str | None = None
    """The user or team; by default the key's own."""

    offline: bool = False
    """Write to the run folder only, and send nothing."""

    def fault(self) -> str | None:
        missing = super().fault()
        if missing or self.away or os.environ.get("WANDB_API_KEY") or logged_in():
            return missing
        return "wandb knows no key: set WANDB_API_KEY in the environment, or run `wandb login`, or say {name: wandb, offline: true}"

    @property
    def away(self) -> bool:
        """Whether nothing is to be sent, as the recipe or WANDB_MODE says."""
        return self.offline or os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun")

    def open(self, start: Start) -> Sink:
        import wandb

        # Of the machine and the command nothing is told: arguments may hold what is nobody's business.
        settings = wandb.Settings(
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            silent=True,
            init_timeout=SECONDS,
        )
        start.folder.mkdir(parents=True, exist_ok=True)
        name = start.memory.setdefault("id", uuid.uuid4().hex[:8])
        if self.away:
            for earlier in start.folder.glob(f"offline-run-*-{name}"):
                shutil.rmtree(earlier)
        run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=start.name,
            id=name,
            resume="allow",
            mode="offline" if self.away else "online",
            dir=str(start.folder.parent),
            config=dict(start.settings),
            settings=settings,
        )
        return Series(run)


class Series:
    """A run that is open. The server says how far it was told; offline it is written anew, for what was last told may never have been
    written."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.known = (run.step - 1, run.step - 1)

    def log(self, values: Mapping[str, float], step: int, seconds: float) -> None:
        self.run.log(dict(values), step=step)

    def conclude(self, values: Mapping[str, float], step: int) -> None:
        self.run.summary.update(dict(values))

    def close(self, ending: Ending) -> None:
        self.run.finish(exit_code=0 if ending == "finished" else 1)


def logged_in() -> bool:
    """Whether `wandb login` has left a key for this user."""
    try:
        known = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2].strip("/")
    return host in known
