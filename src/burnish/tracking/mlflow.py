"""MLflow: runs of an experiment on a tracking server, or in a database of the run folder."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from burnish.core.registry import register
from burnish.core.secrets import redacted
from burnish.tracking.spec import Ending, Sink, Start, Tracker

TOGETHER = 50
"""Steps that are sent at once: each sending costs tens of milliseconds."""
MOST_SETTINGS = 100
"""Of one sending."""
LONGEST = 500
"""Characters of a setting."""
ENDINGS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


@register("tracker")
class MLflow(Tracker):
    """MLflow, on the server of MLFLOW_TRACKING_URI (with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD), or in RUN/tracking/mlflow.db."""

    name: Literal["mlflow"] = "mlflow"

    package: ClassVar[str] = "mlflow"

    experiment: str = "burnish"
    """The experiment that the run belongs to; made where it does not exist."""

    uri: str | None = None
    """Address of the tracking server, or sqlite:///FILE; by default that of MLFLOW_TRACKING_URI, else a database in the run folder."""

    def open(self, start: Start) -> Sink:
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # by default some minutes would pass until a server counts as gone
        from mlflow import MlflowClient
        from mlflow.entities import Param

        start.folder.parent.mkdir(parents=True, exist_ok=True)
        address = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{start.folder.with_suffix('.db')}"
        client = MlflowClient(tracking_uri=address)
        known = client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else client.create_experiment(self.experiment)
        if "run_id" in start.memory:
            client.update_run(start.memory["run_id"], status="RUNNING")
        else:
            start.memory["run_id"] = client.create_run(experiment, run_name=start.name).info.run_id
            settings = [Param(key, redacted(str(value))[:LONGEST]) for key, value in start.settings.items()]
            for first in range(0, len(settings), MOST_SETTINGS):
                client.log_batch(start.memory["run_id"], params=settings[first : first + MOST_SETTINGS])
        return Series(client, start.memory["run_id"])


class Series:
    """A run that is open. The server itself says up to which step it was told."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self.waiting: list[Any] = []
        names = client.get_run(run_id).data.metrics
        evaluated = [name for name in names if not name.startswith(("train/", "gradient/", "final/"))]
        self.known = (self.last("train/loss"), max((self.last(name) for name in evaluated), default=-1))

    def last(self, name: str) -> int:
        return max((point.step for point in self.client.get_metric_history(self.run_id, name)), default=-1)

    def log(self, values: Mapping[str, float], step: int, seconds: float) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.waiting += [Metric(name, value, now, step) for name, value in values.items()]
        if "train/loss" not in values or step % TOGETHER == 0:
            self.send()

    def send(self) -> None:
        """Sends what waits, in pieces that the server takes."""
        while self.waiting:
            now, self.waiting = self.waiting[:1000], self.waiting[1000:]
            self.client.log_batch(self.run_id, metrics=now)

    def conclude(self, values: Mapping[str, float], step: int) -> None:
        self.log(values, step, 0.0)

    def close(self, ending: Ending) -> None:
        self.send()
        self.client.set_terminated(self.run_id, ENDINGS[ending])
