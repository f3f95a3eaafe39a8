"""The loop: what happens in a run, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from burnish.engine.batches import Order
from burnish.engine.events import Evaluated, Listener, Saved, Stepped
from burnish.engine.progress import Plan, Progress, Selection
from burnish.engine.signals import StopRequested
from burnish.engine.step import Outcome


@dataclass
class Loop:
    """Everything a run needs, as callables: `evaluate` gives metrics, `save` writes a checkpoint and gives its size,
    `interrupted` raises StopRequested once somebody has asked the run to stop."""

    plan: Plan
    order: Order
    step: Callable[[Sequence[int], int, float], Outcome]
    evaluate: Callable[[], Mapping[str, float]]
    save: Callable[[Progress], int]
    emit: Listener
    interrupted: Callable[[], None]
    peak_memory: Callable[[], int]
    selection: Selection | None = None

    def run(self, progress: Progress) -> str:
        """Trains from where `progress` stands to the end, and says why it ended.

        At the top of each turn the weights are those after `progress.step` updates, and everything due then is done first:
        a run resumed from any checkpoint therefore does exactly what an unbroken run does.
        """
        began = time.monotonic() - progress.seconds
        try:
            while True:
                if self.plan.evaluation_due(progress):
                    self.watch(progress)
                if self.plan.save_due(progress):
                    self.keep(progress)
                if ended := self.plan.ended(progress):
                    return ended
                outcome = self.step(self.order.batch(progress.step), progress.step, self.plan.factor(progress))
                progress.seconds = time.monotonic() - began
                self.advance(progress, outcome)
                self.interrupted()
        except StopRequested:
            if progress.step > 0 and progress.saved != progress.step:
                self.keep(progress)
            raise

    def advance(self, progress: Progress, outcome: Outcome) -> None:
        """Counts a step and tells it."""
        progress.step += 1
        progress.examples += outcome.examples
        progress.tokens += outcome.tokens
        progress.slots += outcome.slots
        progress.loss_sum += outcome.loss
        self.emit(
            Stepped(
                step=progress.step,
                epoch=progress.step / self.order.steps_per_epoch,
                loss=outcome.loss,
                grad_norm=outcome.grad_norm,
                lr=outcome.lr,
                examples=outcome.examples,
                tokens=outcome.tokens,
                slots=outcome.slots,
                seconds=progress.seconds,
                memory=self.peak_memory(),
                fraction=self.plan.fraction(progress),
                penalty=outcome.penalty,
                block_norms=outcome.block_norms,
            )
        )

    def watch(self, progress: Progress) -> None:
        """Evaluates on the validation rows and notes whether these weights are the best so far."""
        began = time.monotonic()
        metrics = self.evaluate()
        best = self.selection.judge(progress, metrics) if self.selection else False
        progress.evaluated, progress.evaluated_seconds, progress.evaluated_loss_sum = progress.step, progress.seconds, progress.loss_sum
        epoch = progress.step / self.order.steps_per_epoch
        self.emit(Evaluated(progress.step, epoch, "validation", metrics, time.monotonic() - began, best))

    def keep(self, progress: Progress) -> None:
        """Writes a checkpoint from which the run goes on exactly."""
        began = time.monotonic()
        progress.saved, progress.saved_seconds = progress.step, progress.seconds
        size = self.save(progress)
        self.emit(Saved(progress.step, size, time.monotonic() - began))
