"""A comparison from its plan to its page, whatever interrupts it. See `record` for what is written.

COMPARISON/comparison.json              what was compared, every run, and what the numbers allow to say
COMPARISON/rows.jsonl                   the texts of the rows that were predicted
COMPARISON/runs/SYSTEM/seed-S/          run folders; runs that were there before stay where they are
COMPARISON/report/index.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.core.errors import DataError, Interrupted, RunError, count, listing
from burnish.core.rundir import RunFolder
from burnish.data import sources
from burnish.engine.events import Listener, Noted, OfSeveral, RunEnded, Working
from burnish.experiment.cells import Cell, finished, identity, kept
from burnish.experiment.compare.plan import FILE, Plan
from burnish.experiment.compare.record import Entry, record
from burnish.experiment.compare.systems import System, files_of_test
from burnish.experiment.crew import Job, Outcome, carry_out
from burnish.experiment.energy import counted
from burnish.run import Run

SHELF = Path("runs")
"""Where runs are looked for that have been made already, beside the comparison's own folder."""

ENERGY = "energy.json"


def compare(plan: Plan, output: Path | None = None, processes: int = 1, tell: Callable[[OfSeveral], None] = lambda event: None) -> Path:
    """Makes or finds every run, opens the test rows when all are there, and writes what the numbers allow to say; gives the folder.

    Called again it goes on: what is finished is not run again, what was killed is resumed. A run that fails is recorded, and the others go
    on. Raises Interrupted where it was stopped, RunError where every run failed, DataError where the test rows cannot be used.
    """
    shelf = SHELF.absolute()
    folder = RunFolder(plan.folder(output, shelf))
    require_own(folder)
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock():
        work = Work(plan, folder, shelf, tell)
        try:
            work.find()
            work.train(processes)
            work.require_any()
            work.open_test(processes)
        except Interrupted as stop:
            done = sum(entry.folder is not None for entry in work.entries.values())
            raise Interrupted(
                f"Stopped: {done} of {len(work.cells)} runs are finished. The same command goes on.", stop.exit_code - 128
            ) from None
        work.conclude()
    return folder.path


def require_own(folder: RunFolder) -> None:
    """Raises RunError where a folder holds something that is no comparison."""
    if folder.path.exists() and any(folder.path.iterdir()) and not (folder.path / FILE).is_file():
        raise RunError(f"{folder.path} exists and is no comparison: it is left alone. Name another folder with -o.")


@dataclass
class Work:
    """One process's work on a comparison."""

    plan: Plan
    folder: RunFolder
    shelf: Path
    tell: Callable[[OfSeveral], None]
    entries: dict[tuple[str, int], Entry] = field(default_factory=dict)

    @property
    def cells(self) -> Sequence[Cell]:
        return self.plan.cells

    def find(self) -> None:
        """Looks which runs are there already, and which have failed in a way that would only come again."""
        failed = {run["identity"]: run["failed"] for run in self.earlier() if run.get("lasting")}
        for cell in self.cells:
            entry = Entry(cell, identity(cell.recipe))
            self.entries[cell.system, cell.seed] = entry
            found = kept(entry.identity, [self.folder.path, self.shelf])
            if found is not None:
                entry.folder = found
            elif entry.identity in failed:
                entry.failure, entry.lasting = failed[entry.identity], True
        there = sum(entry.folder is not None for entry in self.entries.values())
        if there:
            self.tell(Noted(f"{there} of {count(len(self.cells), 'run')} {'is' if there == 1 else 'are'} there already"))
        self.write()

    def earlier(self) -> list[dict[str, Any]]:
        """The runs that this folder's comparison.json knows."""
        held = self.folder.read(FILE) or {}
        return [run for system in held.get("systems", []) for run in system["runs"]]

    def train(self, processes: int) -> None:
        """Trains what is missing, each run in a process of its own."""
        waiting = [entry for entry in self.entries.values() if entry.folder is None and not entry.lasting]
        jobs = [Job(entry.cell.title, train_cell, (entry.cell, self.own_place(entry), self.shelf, processes == 1)) for entry in waiting]
        entries = {entry.cell.title: entry for entry in waiting}
        for entry in self.entries.values():
            if entry.lasting:
                self.tell(RunEnded(entry.cell.title, "failed", f"as before: {entry.failure}", 0.0))

        def over(outcome: Outcome) -> None:
            entry = entries[outcome.job.name]
            entry.folder = RunFolder(outcome.result) if outcome.failure is None else None
            entry.failure, entry.lasting = outcome.failure or "", outcome.lasting
            self.tell(RunEnded(outcome.job.name, "failed" if outcome.failure else "done", self.came_to(entry), outcome.seconds))
            self.write()

        if jobs:
            carry_out(jobs, processes, self.tell, over)

    def own_place(self, entry: Entry) -> Path:
        system = next(each for each in self.plan.systems if each.name == entry.cell.system)
        return self.folder.path / "runs" / system.folder / f"seed-{entry.cell.seed}"

    def came_to(self, entry: Entry) -> str:
        """The validation score of a run, or the first line of why it failed."""
        if entry.folder is None:
            return entry.failure.splitlines()[0] if entry.failure else ""
        scores = (entry.folder.read("evaluations/validation.json") or {}).get("metrics", {})
        return f"validation {self.plan.metric} {scores[self.plan.metric]:.4f}" if scores.get(self.plan.metric) is not None else ""

    def require_any(self) -> None:
        """Raises RunError where there is nothing to compare."""
        if not any(entry.folder for entry in self.entries.values()):
            reasons = [f"{entry.cell.title}: {entry.failure}" for entry in self.entries.values()]
            raise RunError(listing("every run failed, so that there is nothing to compare", reasons, 6))

    def open_test(self, processes: int) -> None:
        """Measures every run on the test rows that has not been measured on these very rows: the one time that they are opened."""
        if self.plan.part != "test":
            return
        wanted = digest_of_test(self.plan.systems)
        waiting = [entry for entry in self.entries.values() if entry.folder is not None and not measured(entry.folder, wanted)]
        if not waiting:
            return
        self.tell(Noted(f"all runs are there: the test rows are opened, for {count(len(waiting), 'run')}"))
        failed: list[Outcome] = []

        def over(outcome: Outcome) -> None:
            if outcome.failure is not None:
                failed.append(outcome)
            self.tell(
                RunEnded(outcome.job.name, "failed" if outcome.failure else "done", outcome.failure or outcome.result, outcome.seconds)
            )

        paths = [str(entry.folder.path) for entry in waiting if entry.folder]
        shares = [paths[first::processes] for first in range(min(processes, len(paths)))]
        jobs = [Job(f"test rows ({place})" if len(shares) > 1 else "test rows", measure, (share,)) for place, share in enumerate(shares, 1)]
        carry_out(jobs, processes, self.tell, over)
        if failed:
            what, error = ("the test rows cannot be used", DataError) if failed[0].of_data else ("measuring them failed", RunError)
            raise error(f"All runs are there, but {what}: {failed[0].failure}\nThe same command goes on when that is mended.")

    def conclude(self) -> None:
        """Writes what everything comes to, the texts of the rows, and the page."""
        from burnish.report import versus

        first = next(entry.folder for entry in self.entries.values() if entry.folder)
        self.folder.write_lines("rows.jsonl", texts(first, self.plan.part))
        self.write(concluded=True)
        versus.write(self.folder.path)

    def write(self, concluded: bool = False) -> None:
        self.folder.write(FILE, record(self.plan, self.folder.path, list(self.entries.values()), concluded))


def digest_of_test(systems: Sequence[System]) -> str | None:
    """The digest of the test file; None where test rows are cut from those of training. Raises DataError where systems have different ones."""
    found = {sources.fingerprint(name): name for name in files_of_test(systems)}
    if len(found) > 1:
        raise DataError(listing("All runs are there, but the systems have different test rows: these files differ", list(found.values())))
    return next(iter(found), None)


def measured(run: RunFolder, wanted: str | None) -> bool:
    """Whether a run has been measured on the test rows as they are now (a share of the training file is what it was)."""
    facts = (run.read("data.json") or {}).get("parts", {}).get("test", {})
    return run.read("evaluations/test.json") is not None and (wanted is None or facts.get("sha256") == wanted)


def train_cell(cell: Cell, folder: Path, shelf: Path, alone: bool, listener: Listener) -> str:
    """Trains a run, in a process of its own, and gives its folder; where it has the machine to itself, with the energy that it took."""
    anew = not folder.exists()
    with counted(gpu=cell.recipe.train.device != "cpu") as energy:
        run = finished(cell, folder, shelf, [listener])
    if anew and alone:
        run.write(ENERGY, {"joules": energy.joules, "sources": energy.sources})
    return str(run.path)


def measure(paths: Sequence[str], listener: Listener) -> str:
    """Measures runs on their test rows, one after the other in a process of its own."""
    from burnish.report.page import write

    for done, path in enumerate(paths):
        listener(Working("runs measured", done, len(paths)))
        run = Run(RunFolder.open(path))
        run.evaluate("test")
        write(run.path)
    return f"{count(len(paths), 'run')} measured"


def texts(run: RunFolder, part: str) -> list[dict[str, object]]:
    """The rows of a part with what a model reads of them, for people to look at."""
    found = Run(run)
    columns = found.recipe.task.columns(False)
    return [
        {"file": row.file, "row": row.number, "text": " | ".join(str(row.values.get(column, "")) for column in columns)}
        for row in found.rows(part)
    ]
