"""Runs one after the other or several at a time, each in a process of its own: so that its memory is its own, and its end ends nobody else.

Processes are forked from a server that has imported everything and done nothing (multiprocessing's forkserver), so that a run begins at
once. Each ends with this process, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any

from burnish.core.errors import BurnishError, DataError, Interrupted, NonFiniteError
from burnish.engine.events import Evaluated, Event, Listener, Noted, OfRun, OfSeveral, RunBegan, Stepped, Working
from burnish.engine.signals import Interruption, StopRequested

TOLD_SECONDS = 0.1
"""Steps are told as often as this at most: nobody reads faster."""

IMPORTED = (
    "burnish.experiment.cells",
    "burnish.report.page",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "peft",
    "scipy.stats",
    "sklearn.metrics",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
)
"""What nearly every run needs and takes seconds to import: once for all of them."""

Tell = Callable[[OfSeveral], None]


def server() -> Any:
    """The context that processes are forked in. Its server begins to import at once, while whoever calls this first goes on with other things."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    forkserver.ensure_running()
    return context


@dataclass(frozen=True)
class Job:
    """A piece of work: `function(*arguments, listener)` in another process; what it returns has to be sent between processes."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """What a job came to: its result, or why there is none. `lasting` failures would come again: a loss that is not finite."""

    job: Job
    result: Any
    failure: str | None
    seconds: float
    lasting: bool = False
    of_data: bool = False


@dataclass
class Worker:
    """A job in its process. The job is over when the pipe is closed; `said` is what it sent last."""

    job: Job
    process: Any
    pipe: Connection
    began: float
    said: tuple[Any, ...] | None = None

    def outcome(self) -> Outcome:
        """What came of it. A process that ended without a word was killed from outside: by the system, where memory ran out."""
        self.process.join()
        seconds = time.monotonic() - self.began
        if self.said is None:
            reason = f"its process ended with {self.process.exitcode} (-9: killed, as the system does where memory runs out)"
            return Outcome(self.job, None, reason, seconds)
        kind, content = self.said
        if kind == "done":
            return Outcome(self.job, content, None, seconds)
        message, error = content
        return Outcome(self.job, None, message, seconds, issubclass(error, NonFiniteError), issubclass(error, DataError))


class Crew:
    """The processes at work, at most `number` of them."""

    def __init__(self, jobs: Sequence[Job], number: int, tell: Tell, first: int, total: int) -> None:
        self.waiting, self.number, self.tell = list(jobs), number, tell
        self.begun, self.total, self.workers = first, total, list[Worker]()
        self.context = server()

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.workers)

    def fill(self) -> None:
        """Begins as many jobs as there are places."""
        while self.waiting and len(self.workers) < self.number:
            job = self.waiting.pop(0)
            self.begun += 1
            self.tell(RunBegan(job.name, self.begun, self.total, self.number))
            mine, its = self.context.Pipe(duplex=False)
            process = self.context.Process(target=work, args=(its, job, self.number), name=job.name)
            process.start()
            its.close()
            self.workers.append(Worker(job, process, mine, time.monotonic()))

    def listen(self) -> list[Outcome]:
        """Hears what the processes say, for a moment, and gives the outcomes of those that are over."""
        ready = wait([worker.pipe for worker in self.workers], timeout=0.2)
        over = [worker for worker in self.workers if worker.pipe in ready and self.hear(worker)]
        self.workers = [worker for worker in self.workers if worker not in over]
        return [worker.outcome() for worker in over]

    def hear(self, worker: Worker) -> bool:
        """Whether a worker has said its last."""
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            return True
        if kind == "event":
            self.tell(OfRun(worker.job.name, content))
        else:
            worker.said = (kind, content)
        return False

    def stop(self) -> None:
        """Asks all to save and to end; nothing more is begun."""
        self.waiting = []
        for worker in self.workers:
            worker.process.terminate()

    def kill(self) -> None:
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()


def carry_out(
    jobs: Sequence[Job], number: int, tell: Tell, over: Callable[[Outcome], None], first: int = 0, total: int | None = None
) -> None:
    """Does all jobs, `number` at a time; `over` gets each outcome. A job that fails does not keep the others from going on.

    SIGINT and SIGTERM are passed on: what runs saves, and Interrupted is raised; at the second one everything ends at once. `first` jobs
    of `total` are done already, for whoever counts.
    """
    crew = Crew(jobs, number, tell, first, len(jobs) if total is None else total)
    stopping = False
    with Interruption().listening() as interruption:
        try:
            with interruption.deferring():
                while crew.busy:
                    crew.fill()
                    for outcome in crew.listen():
                        if not stopping or outcome.failure is None:
                            over(outcome)
                    if interruption.signal_number is not None and not stopping:
                        stopping = True
                        tell(Noted("stopping: what runs is saved (once more: at once)"))
                        crew.stop()
        except StopRequested as stop:
            raise Interrupted("Stopped.", stop.signal_number) from None
        finally:
            crew.kill()
    if stopping:
        raise Interrupted("Stopped.", interruption.signal_number or signal.SIGTERM)


def work(pipe: Connection, job: Job, beside: int) -> None:
    """The whole life of a process: one job, its events and its outcome told through the pipe; the cores are shared with those `beside` it."""
    import torch

    os.setsid()  # Ctrl-C reaches the terminal's whole group: here it would come twice, and the second one saves nothing
    end_with_parent()
    if beside > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // beside))
    try:
        pipe.send(("done", job.function(*job.arguments, through(pipe))))
    except BurnishError as error:
        pipe.send(("failed", (str(error), type(error))))
    except Exception as error:
        traceback.print_exc()
        pipe.send(("failed", ("".join(traceback.format_exception_only(error)).strip(), type(error))))
    finally:
        pipe.close()


def through(pipe: Connection) -> Listener:
    """A listener that sends on what a person would want to see."""
    last = 0.0

    def tell(event: Event) -> None:
        nonlocal last
        whole = isinstance(event, Stepped) and event.fraction >= 1
        often = isinstance(event, (Stepped, Working)) and not whole
        if isinstance(event, (Stepped, Working, Evaluated, Noted)) and not (often and time.monotonic() - last < TOLD_SECONDS):
            last = time.monotonic()
            pipe.send(("event", event))

    return tell


def end_with_parent() -> None:
    """Ends this process at once when the one that asked for it ends, killed or not: its run has its checkpoints, and is free to be gone on with."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            with suppress(ProcessLookupError):
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
