"""From a recipe to a finished run, whatever interrupts it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish import build
from burnish.core.errors import BurnishError, DataError, Interrupted, RunError, count
from burnish.core.evaluation import Evaluation
from burnish.core.protocols import Course
from burnish.core.rundir import RunFolder, next_free
from burnish.core.secrets import without_folders
from burnish.engine import checkpoint
from burnish.engine.batches import Budget, Order
from burnish.engine.callbacks import Recorder
from burnish.engine.events import Began, Evaluated, Event, Listener, Noted, Working
from burnish.engine.inference import Engine
from burnish.engine.loop import Loop
from burnish.engine.progress import Plan, Progress, Selection
from burnish.engine.runtime import Runtime, is_out_of_memory
from burnish.engine.signals import Interruption, StopRequested
from burnish.engine.step import Step
from burnish.models import quantized
from burnish.models.load import quiet
from burnish.recipe import Recipe
from burnish.recipe import load as load_recipe
from burnish.run import card
from burnish.run.beginning import Beginning
from burnish.run.clock import Clock, since_start
from burnish.run.drawing import upcoming
from burnish.run.environment import environment
from burnish.run.facts import facts, summary
from burnish.run.finished import Run, keep_evaluation
from burnish.run.forecasting import foretold, learn_habits, outcome
from burnish.run.identity import mark
from burnish.run.movement import movement
from burnish.run.stepping import make_step, warmup_warnings
from burnish.tracking.listener import Tracking, require

Source = str | Path | Mapping[str, Any] | Recipe
SEEN = 64
"""Training rows on which before and after are compared where there are no validation rows."""


def train(
    recipe: Source,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    listeners: Sequence[Listener] = (),
    open_test: bool = True,
) -> Run:
    """Trains what `recipe` says and returns the finished run.

    `recipe` is a path, a mapping or a Recipe; `overrides` are `key.sub=value`; `overwrite` replaces an earlier run of the
    same folder; without `open_test` the test rows stay closed, to be opened by `Run.evaluate("test")`. Raises BurnishError with
    what to do: before anything is loaded for faults of the recipe, before the first step for faults of the data, and with the last
    checkpoint intact for whatever comes later.
    """
    checked = load_recipe(recipe, overrides)
    name = Path(recipe).stem if isinstance(recipe, (str, Path)) else checked.task.name
    path = Path(checked.run).expanduser() if checked.run else next_free(Path("runs"), name)
    checked = checked.model_copy(update={"run": str(path.absolute())})
    require(checked.track)
    folder = RunFolder.create(path, checked.to_yaml(), overwrite)
    try:
        return execute(folder, checked, listeners, open_test)
    except BurnishError as error:
        if folder.metrics.exists():
            raise
        shutil.rmtree(folder.path, ignore_errors=True)
        if isinstance(error, Interrupted):
            raise Interrupted("Stopped before the first step: nothing is left behind.", error.exit_code - 128) from None
        raise


def resume(path: str | Path, listeners: Sequence[Listener] = (), open_test: bool = True) -> Run:
    """Goes on with a run that was stopped or killed, to the very same weights. A finished run is returned as it is."""
    folder = RunFolder.open(path)
    if folder.finished:
        return Run(folder)
    recipe = load_recipe(folder.recipe)
    require(recipe.track)
    return execute(folder, recipe, listeners, open_test)


def execute(folder: RunFolder, recipe: Recipe, listeners: Sequence[Listener], open_test: bool = True) -> Run:
    """Runs what is left of a run: all of it, the rest, or only what follows the last step."""

    def emit(event: Event) -> None:
        for listener in listeners:
            listener(event)

    trackers = Tracking(
        recipe.track, folder, without_folders(recipe.model_dump(mode="json", exclude={"track"})), lambda text: emit(Noted(text))
    )
    listeners = [trackers, *listeners]
    with folder.lock(), Interruption().listening() as interruption, trackers:
        try:
            mark(folder, recipe)
            session = Session.open(folder, recipe, emit, interruption)
            ended = session.train()
            session.finish(ended, open_test)
        except StopRequested as stop:
            step = max(checkpoint.steps(folder), default=0)
            state = f"Stopped at step {step}, saved" if step else "Stopped before the first checkpoint"
            raise Interrupted(f"{state}. Go on with: burnish resume {folder.path}", stop.signal_number) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error) if isinstance(error, MemoryError) and str(error) else "Out of memory. Set a smaller data.max_length."
            raise RunError(f"{reason} Earlier checkpoints are intact: `burnish resume {folder.path}`.") from error
    return Run(folder)


@dataclass
class Session:
    """One process's work on a run."""

    folder: RunFolder
    parts: build.Parts
    step: Step
    plan: Plan
    order: Order
    progress: Progress
    emit: Listener
    interruption: Interruption
    beginning: Beginning
    clock: Clock
    forecast: dict[str, Any] | None = None
    last_watch: tuple[int, Evaluation, float] | None = None

    @classmethod
    def open(cls, folder: RunFolder, recipe: Recipe, emit: Listener, interruption: Interruption) -> Session:
        """Builds the parts, and brings them to where the newest whole checkpoint stands."""

        def note(message: str) -> None:
            emit(Noted(message))

        def tell(what: str, done: int, total: int) -> None:
            emit(Working(what, done, total))

        began, start = time.monotonic(), since_start()
        gathered = build.gather(recipe)
        same_data(folder, gathered)
        parts = build.assemble(recipe, gathered, note, tell)
        build.call_teacher(parts, note, tell)
        beginning = Beginning.of(parts, folder)
        recipe, settings = parts.recipe, parts.recipe.train
        order = build.order(parts)
        plan = Plan(
            duration=settings.duration,
            evaluate_every=settings.evaluate_every,
            save_every=settings.save_every,
            steps_per_epoch=order.steps_per_epoch,
            schedule=recipe.schedule,
            watched="validation" in parts.examples,
            patience=settings.patience,
        )
        gathered.warnings += warmup_warnings(recipe.schedule.warmup, plan.total_steps)
        step = make_step(parts, Course(order.steps_per_epoch, plan.total_steps), tell)
        step.upcoming = upcoming(recipe, order)
        session = cls(folder, parts, step, plan, order, Progress(), emit, interruption, beginning, Clock({}))
        session.restore(note)
        session.clock.add("start", start)
        session.foretell(began, note)
        session.record(recipe)
        return session

    @property
    def trained(self) -> checkpoint.Trained:
        return checkpoint.Trained(self.parts.model, self.step.optimizer, self.step.techniques)

    def restore(self, note: Callable[[str], None]) -> None:
        """Brings model, optimizer and progress to the newest whole checkpoint, and the machine to how the run began."""
        threads = (self.folder.read("environment.json") or {}).get("threads")
        if threads and self.parts.runtime.use_threads(threads):
            note(f"computing with {count(threads, 'thread')}, as the run began: the last bits of a sum depend on it")
        newest = checkpoint.newest_whole(self.folder, note)
        if newest is not None:
            self.progress = checkpoint.load(newest, self.trained)
            if self.progress.budget:
                self.step.budget = replace(Budget.parse(self.progress.budget), padded=self.step.budget.padded)
            note(f"going on after step {self.progress.step}")
        self.clock = Clock(self.progress.spent)
        self.folder.rewind_metrics(self.progress.step, self.progress.evaluated)

    def foretell(self, began: float, note: Callable[[str], None]) -> None:
        """Foretells time and memory of a run that begins; one that goes on keeps what was foretold. Loading has taken since `began`."""
        self.clock.add("loading", time.monotonic() - began)
        self.forecast = (self.folder.read("plan.json") or {}).get("forecast")
        if self.forecast is None and self.progress.step == 0 and self.parts.recipe.engine.forecast:
            with self.clock.spending("forecast"), self.parts.runtime.tidied():
                self.forecast = foretold(self.parts, self.step, self.order, self.plan, self.folder.path, self.clock.spent, note)

    def record(self, recipe: Recipe) -> None:
        """Writes what the run is made of, and tells it."""
        gathered, made_of = self.parts.gathered, facts(self.parts, self.plan, self.order, self.step)
        made_of["forecast"] = self.forecast
        recorder = Recorder(self.folder, self.progress.step)
        tell = self.emit

        def told_and_recorded(event: Event) -> None:
            recorder(event)
            tell(event)

        self.emit = told_and_recorded
        self.step.note = lambda message: told_and_recorded(Noted(message))
        for technique in self.step.techniques:
            technique.announce(told_and_recorded)
        self.folder.write_text("recipe.yaml", recipe.to_yaml())
        if self.folder.read("environment.json") is None:
            self.folder.write("environment.json", environment(self.parts.runtime.device.type))
        self.record_data()
        self.folder.write("plan.json", made_of)
        tell(Began({**made_of, "run": str(self.folder.path), "data": gathered.facts, "warnings": gathered.warnings}))

    def record_data(self) -> None:
        """Writes what the rows are, as far as they have been opened."""
        gathered = self.parts.gathered
        labels = build.label_counts(self.parts.recipe, gathered)
        self.folder.write("data.json", {"parts": gathered.facts, "labels": labels, "warnings": gathered.warnings})

    def train(self) -> str:
        self.try_before()
        settings = self.parts.recipe.train
        best = settings.keep_best
        loop = Loop(
            plan=self.plan,
            order=self.order,
            step=self.clock.counting("steps", self.step),
            evaluate=self.clock.counting("evaluation", self.watch),
            save=self.clock.counting("saving", self.save),
            emit=self.emit,
            interrupted=self.interruption.check,
            peak_memory=self.parts.runtime.peak_memory,
            selection=Selection(best, self.parts.recipe.task.metrics[best]) if best else None,
        )
        with self.interruption.deferring():
            return loop.run(self.progress)

    def try_before(self) -> None:
        """Measures the model before it has learned anything, where the task can be tried then, to compare with afterwards."""
        if not self.parts.learner.foretold or self.progress.step or self.folder.read("evaluations/before.json") is not None:
            return
        part, began = self.tried(), time.monotonic()
        evaluation = self.evaluated(part, Runtime(self.parts.recipe.train.device))
        seconds = time.monotonic() - began
        self.clock.add("before", seconds)
        keep_evaluation(self.folder, "before", evaluation, 0, seconds)
        self.emit(Evaluated(0, 0.0, part, evaluation.metrics, seconds, False))

    def tried(self) -> str:
        """The part on which before and after are compared: the validation rows, else the first rows of training."""
        parts = self.parts
        if "validation" in parts.examples:
            return "validation"
        if "seen" not in parts.examples:
            parts.gathered.rows["seen"] = parts.gathered.rows["train"][:SEEN]
            parts.examples["seen"] = parts.learner.encode(parts.gathered.rows["seen"])
        return "seen"

    def save(self, progress: Progress) -> int:
        progress.budget = str(self.step.budget)
        with self.parts.runtime.tidied():
            return checkpoint.save(self.folder, self.trained, progress, self.parts.recipe.train.save_limit)

    def watch(self) -> Mapping[str, float]:
        """Scores the validation rows while training; the last result is kept, for it may be that of the kept weights."""
        began = time.monotonic()
        evaluation = self.evaluated("validation", self.parts.runtime)
        self.last_watch = (self.progress.step, evaluation, time.monotonic() - began)
        for technique in self.step.techniques:
            technique.evaluated(self.progress.step, evaluation.metrics, self.progress.recent_loss())
        return evaluation.metrics

    def evaluated(self, part: str, runtime: Runtime) -> Evaluation:
        parts = self.parts
        engine = Engine(parts.model, parts.learner, runtime, self.interruption.check, self.working, parts.fast.passage.of)
        with runtime.tidied(), self.measured():
            return parts.learner.evaluate(engine, parts.examples[part], parts.gathered.rows[part])

    @contextmanager
    def measured(self) -> Iterator[None]:
        """The weights that are to be measured and kept are in the model for a while."""
        with ExitStack() as stack:
            for technique in self.step.techniques:
                stack.enter_context(technique.evaluating())
            yield

    def working(self, what: str, done: int, total: int) -> None:
        self.emit(Working(what, done, total))

    def finish(self, ended: str, open_test: bool) -> None:
        """Keeps the chosen weights as a model, measures them, opens the test rows if it may, writes summary and report."""
        parts, progress = self.parts, self.progress
        kept = progress.best_step if progress.best_step >= 0 else progress.step
        if kept != progress.step:
            checkpoint.load_weights(checkpoint.require_whole(self.folder, kept), self.trained)
        with self.clock.spending("saving"):
            self.folder.replace_folder(self.folder.model, self.export)
        if "validation" in parts.examples or parts.learner.foretold:
            self.measure(self.tried(), kept)
        trouble = self.open_test(kept) if open_test else None
        figures = summary(self.parts, progress, self.order, ended, kept)
        figures["spent"], figures["forecast"] = self.clock.spent, outcome(self.forecast, self.clock.spent, figures["peak_memory"])
        with self.clock.spending("report"):
            self.tell_movement()
            card.write(self.folder, parts.recipe, parts.learner.auto_class, figures)
            self.folder.write("summary.json", figures)
            from burnish.report.page import write

            write(self.folder.path)
        learn_habits(self.clock.spent)
        if trouble is not None:
            raise DataError(
                f"The model is trained and saved, but the test rows cannot be used: {trouble}\n"
                f"Mend them, then: burnish evaluate {self.folder.path} --part test"
            ) from trouble

    def tell_movement(self) -> None:
        """Writes how far the kept weights are from where they began. Nothing that goes wrong with that may cost a run that is trained."""
        try:
            with self.measured():
                self.folder.write("movement.json", movement(self.parts.model, self.parts.anatomy, self.beginning))
        except (RuntimeError, MemoryError, AttributeError, KeyError, ValueError, OSError) as error:
            self.emit(Noted(f"how far the weights moved could not be measured: {type(error).__name__}: {error}"))
        self.beginning.close()

    def export(self, folder: Path) -> None:
        with self.parts.runtime.tidied(), checkpoint.os_errors(), quiet(), self.measured():
            self.parts.recipe.method.save(self.parts.model, folder, self.parts.base_files)
            self.parts.tokenizer.save_pretrained(folder)
            if self.parts.recipe.model.quantize is not None:
                quantized.complete(folder)

    def measure(self, part: str, step: int) -> None:
        """Scores the kept weights in full precision, as they will be used; not again where that has just been done."""
        watched = self.last_watch if part == "validation" and self.parts.recipe.train.precision == "fp32" else None
        if watched is not None and watched[0] == step:
            _, evaluation, seconds = watched
        else:
            began = time.monotonic()
            evaluation = self.evaluated(part, Runtime(self.parts.recipe.train.device))
            seconds = time.monotonic() - began
            self.clock.add("test" if part == "test" else "evaluation", seconds)
        keep_evaluation(self.folder, part, evaluation, step, seconds)

    def open_test(self, step: int) -> DataError | None:
        """Reads the test rows for the first and only time and measures the model on them; what is wrong with them, if anything is."""
        if self.parts.recipe.data.test is None:
            return None
        try:
            build.open_test(self.parts, lambda message: self.emit(Noted(message)), self.working)
        except DataError as error:
            return error
        self.measure("test", step)
        self.record_data()
        return None


def same_data(folder: RunFolder, gathered: build.Gathered) -> None:
    """Raises DataError where the rows of a run to resume are not those it began with."""
    before = folder.read("data.json")
    if before is None:
        return
    for part, own in gathered.facts.items():
        if before["parts"].get(part, {}).get("sha256") != own["sha256"]:
            raise DataError(
                f"the {part} rows ({own['source']}) are not those that this run began with: resumed, it would not be the same run. "
                "Bring the file back, or start anew with `burnish train`."
            )
