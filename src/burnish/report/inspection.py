"""What `burnish check` found: a line for each check, with what was looked at, what is wrong with it, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from burnish.core.errors import count
from burnish.core.rundir import finite
from burnish.report.tokens import ShownExample

State = Literal["pass", "warn", "fail", "left out"]


@dataclass(frozen=True)
class Finding:
    """What one check came to.

    `seen` says what was looked at, with numbers (of a check that was left out, why); `found` what is wrong, with rows and files, `mend`
    what to do about it. `measured` holds the same numbers for machines.
    """

    state: State
    seen: str
    found: Sequence[str] = ()
    mend: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    def told(self) -> str:
        """What is wrong and how to mend it, in one paragraph."""
        sentences = [*self.found, *([self.mend] if self.mend else [])]
        return " ".join(sentence if sentence[-1:] in ".!?:" else f"{sentence}." for sentence in sentences)


def passed(seen: str, **measured: Any) -> Finding:
    return Finding("pass", seen, measured=measured)


def left_out(reason: str) -> Finding:
    return Finding("left out", reason)


def judged(seen: str, failures: Sequence[str], warnings: Sequence[str], mend: str = "", **measured: Any) -> Finding:
    """`fail` where there are failures, else `warn` where there are warnings, else `pass`."""
    state: State = "fail" if failures else "warn" if warnings else "pass"
    return Finding(state, seen, [*failures, *warnings], mend if failures or warnings else "", measured)


@dataclass(frozen=True)
class Inspection:
    """All checks of a recipe, some of its rows as the model gets them, and what it took."""

    title: str
    findings: Sequence[Finding]
    seconds: float
    notes: Sequence[str] = ()
    examples: Sequence[ShownExample] = ()

    @property
    def passed(self) -> bool:
        return not self.of("fail")

    def of(self, state: State) -> list[Finding]:
        """The findings of one state."""
        return [finding for finding in self.findings if finding.state == state]

    def sentences(self) -> list[tuple[State, str]]:
        """What is to be mended, failures first, each with its state; then what it comes to."""
        told: list[tuple[State, str]] = [
            (state, f"{state.upper()}: {finding.name}: {finding.told()}") for state in ("fail", "warn") for finding in self.of(state)
        ]
        numbers = {state: len(self.of(state)) for state in ("pass", "warn", "fail", "left out")}
        done = sum(numbers.values()) - numbers["left out"]
        verb = "warns" if numbers["warn"] == 1 else "warn"
        total = (
            f"{numbers['pass']} of {count(done, 'check')} passed, {numbers['warn']} {verb}, {numbers['fail']} failed, "
            f"{numbers['left out']} left out, in {self.seconds:.0f} s"
        )
        return [*told, ("fail" if numbers["fail"] else "pass", total)]

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows, for machines to read. JSON has no infinity and no NaN: such a number is null."""
        keys = ("name", "state", "seen", "found", "mend", "measured")
        checks = [{key: getattr(finding, key) for key in keys} for finding in self.findings]
        whole: dict[str, Any] = finite(
            {"kind": "check", "title": self.title, "passed": self.passed, "seconds": self.seconds, "notes": self.notes, "checks": checks}
        )
        return whole
