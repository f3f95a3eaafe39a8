"""Where a run stands, and what is due: the counters that a checkpoint keeps, and the plan that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from burnish.core.duration import Duration
from burnish.core.protocols import Schedule


@dataclass
class Progress:
    """Counters since the run began, whatever interrupted it. `evaluated`, `saved`, `best_step` are steps, -1 for never; `spent` are seconds
    by part of the run."""

    step: int = 0
    examples: int = 0
    tokens: int = 0
    slots: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    evaluated: int = -1
    evaluated_seconds: float = 0.0
    evaluated_loss_sum: float = 0.0
    saved: int = -1
    saved_seconds: float = 0.0
    best_step: int = -1
    best_value: float | None = None
    waited: int = 0
    budget: str | None = None
    spent: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def recent_loss(self) -> float:
        """The mean training loss of the steps since the last evaluation."""
        return (self.loss_sum - self.evaluated_loss_sum) / max(self.step - max(self.evaluated, 0), 1)


@dataclass(frozen=True)
class Plan:
    """When a run ends, evaluates and saves. Steps are a function of the recipe alone, unless the duration is a time."""

    duration: Duration
    evaluate_every: Duration
    save_every: Duration
    steps_per_epoch: int
    schedule: Schedule
    watched: bool
    patience: int | None = None

    @property
    def total_steps(self) -> int | None:
        """Optimizer updates of the whole run; None where the duration is a time."""
        return None if self.duration.timed else self.duration.steps(self.steps_per_epoch)

    def fraction(self, progress: Progress) -> float:
        total = self.total_steps
        return min(1.0, progress.seconds / self.duration.seconds if total is None else progress.step / total)

    def factor(self, progress: Progress) -> float:
        """The schedule's factor for the next step."""
        total = self.total_steps
        if total is None:
            # In milliseconds, for a warm-up is rounded up to a whole unit.
            return self.schedule.factor(1e3 * min(progress.seconds, self.duration.seconds), 1e3 * self.duration.seconds)
        return self.schedule.factor(progress.step, total)

    def ended(self, progress: Progress) -> str | None:
        """Why the run is over, or None."""
        if self.fraction(progress) >= 1:
            return "duration reached"
        if self.patience is not None and progress.waited >= self.patience:
            return f"early stopping: no better in {self.patience} evaluations"
        return None

    def evaluation_due(self, progress: Progress) -> bool:
        if not self.watched or progress.evaluated == progress.step or progress.step == 0:
            return False
        return self.crossed(self.evaluate_every, progress, progress.evaluated_seconds) or self.fraction(progress) >= 1

    def save_due(self, progress: Progress) -> bool:
        if progress.saved == progress.step or progress.step == 0:
            return False
        return (
            self.crossed(self.save_every, progress, progress.saved_seconds)
            or progress.best_step == progress.step
            or self.ended(progress) is not None
        )

    def crossed(self, every: Duration, progress: Progress, since: float) -> bool:
        if every.timed:
            return progress.seconds - since >= every.seconds
        return every.crossed(progress.step, self.steps_per_epoch)


@dataclass(frozen=True)
class Selection:
    """By which metric the best weights are known."""

    metric: str
    higher: bool

    def judge(self, progress: Progress, metrics: Mapping[str, float]) -> bool:
        """Notes an evaluation in `progress`; whether it is the best so far (a NaN never is, a tie is not)."""
        value = metrics[self.metric]
        best = progress.best_value
        better = value == value and (best is None or (value > best if self.higher else value < best))
        if better:
            progress.best_step, progress.best_value, progress.waited = progress.step, value, 0
        else:
            progress.waited += 1
        return better
