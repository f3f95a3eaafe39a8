"""Trial after trial, until all that were asked for have ended, here or in other processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from burnish.core.errors import count
from burnish.engine.events import Listener, Noted, OfRun, RunBegan, RunEnded
from burnish.experiment.sweep.findings import findings, in_order, record
from burnish.experiment.sweep.proof import Tell
from burnish.experiment.sweep.study import Study, root
from burnish.experiment.sweep.trials import work
from burnish.report.sweeps import shown

PATIENCE = 1.0
"""Seconds between looks at what other processes do."""


class Turns:
    """A process's part in a search. It tells of every trial that has ended, its own and those of others, each once."""

    def __init__(self, study: Study, tell: Tell) -> None:
        self.study, self.tell = study, tell
        self.told = set[int]()
        self.best: float | None = None

    def take(self) -> None:
        """Claims and trains trials; then waits for those of others, to go on with any that is lost."""
        for line in introduction(findings(self.study)):
            self.tell(Noted(line))
        waited = False
        while True:
            trial = self.study.claim()
            self.catch_up()
            if trial is not None:
                self.tell(RunBegan(f"trial {root(trial)}", len(self.told) + 1, self.study.search.trials))
                work(self.study, trial, self.of_run(root(trial)))
                self.catch_up(root(trial))
            elif running := self.study.running:
                if not waited:
                    self.tell(Noted(f"waiting for {count(len(running), 'trial')} of other processes"))
                waited = True
                time.sleep(PATIENCE)
            else:
                return

    def of_run(self, number: int) -> Listener:
        return lambda event: self.tell(OfRun(f"trial {number}", event))

    def catch_up(self, own: int | None = None) -> None:
        """Tells of trials that have ended since: this process's `own`, and those of others."""
        for trial in in_order(self.study):
            if trial.state.is_finished() and root(trial) not in self.told:
                self.told.add(root(trial))
                facts = record(self.study, trial)
                how: Literal["done", "found", "failed"] = "done" if root(trial) == own else "found"
                if facts["state"] == "failed":
                    how = "failed"
                self.tell(RunEnded(f"trial {root(trial)}", how, self.outcome(facts), facts["seconds"] or 0.0))

    def outcome(self, facts: Mapping[str, Any]) -> str:
        """What a trial came to, and at which parameters."""
        metric = self.study.search.metric
        where = "  ".join(f"{key}={shown(value)}" for key, value in facts["parameters"].items())
        if facts["state"] == "failed":
            return f"{facts['reason']}  {where}"
        value = f"{metric} {facts['value']:.4f}" if facts["value"] is not None else f"no {metric}"
        if facts["state"] == "pruned":
            return f"stopped early at {facts['reached']}%, {value}  {where}"
        note = f" (the same as trial {facts['same_as']})" if facts["same_as"] is not None else ""
        return f"{value}{note}{'  best so far' if self.is_best(facts['value']) else ''}  {where}"

    def is_best(self, value: float) -> bool:
        better = self.best is None or (value > self.best if self.study.search.higher else value < self.best)
        self.best = value if better else self.best
        return better


def introduction(facts: Mapping[str, Any]) -> list[str]:
    """What is searched, and how far it has come."""
    aim = "highest" if facts["higher_is_better"] else "lowest"
    pruning = "" if facts["pruner"] == "none" else f", {facts['pruner']} pruning"
    wanted = count(facts["wanted"], "trial")
    lines = [f"{facts['name']}: {wanted} for the {aim} {facts['metric']} on validation ({facts['sampler']}{pruning}, seed {facts['seed']})"]
    lines += [f"  {parameter['name']}: {parameter['written']}" for parameter in facts["parameters"]]
    ended = sum(trial["state"] != "running" for trial in facts["trials"])
    return [*lines, f"going on: {ended} of {wanted} have ended"] if facts["trials"] else lines
