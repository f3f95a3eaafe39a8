"""What `burnish verify` found: one check after the other, with what was measured and how much of it is rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

QUANTITIES = {
    "loss": "|a - b| / |b| of the loss, at the step where it is largest",
    "norm": "the same of the gradient's norm before clipping",
    "gradient": "largest |a - b| of a parameter's gradient over its largest |b|, for the parameter and the step where that is largest",
    "weights": "distance of all weights after the steps, over the distance that they have moved",
    "outputs": "largest |a - b| of what the task reads off the model, over its largest |b|",
}
"""What is measured, each as a relative difference: 0 where both ways give the same bits."""


@dataclass(frozen=True)
class Check:
    """Two ways to compute the same: the differences `measured`, by quantity, and the largest that rounding explains.

    A check that was left out has measured nothing, and says in `reason` why. `note` says what else there is to know, such as the parameter
    that differs most.
    """

    name: str
    measured: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    note: str = ""

    @property
    def faults(self) -> list[str]:
        """The quantities that differ by more than rounding; one that is not a number does."""
        return [name for name in QUANTITIES if name in self.measured and not self.measured[name] <= self.limits[name]]

    @property
    def state(self) -> str:
        """`pass`, `FAIL`, or why the check was left out."""
        return self.reason or ("FAIL" if self.faults else "pass")


@dataclass(frozen=True)
class Verification:
    """All checks of a recipe, the number format whose rounding they allow, and what they took."""

    title: str
    precision: str
    limits: Mapping[str, float]
    checks: Sequence[Check]
    seconds: float
    notes: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        return not any(check.faults for check in self.checks)

    def sentences(self) -> list[str]:
        """What it comes to, in words."""
        failed = [check for check in self.checks if check.faults]
        done = sum(1 for check in self.checks if check.measured)
        found = [f"FAIL: {check.name}: {apart(check)}{' (' + check.note + ')' if check.note else ''}" for check in failed]
        left_out = len(self.checks) - done
        total = f"{done - len(failed)} of {done} checks passed, {left_out} left out, in {self.seconds:.0f} s"
        return [*self.notes, *found, total]

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines to read. JSON has no infinity and no NaN: such a difference is null, and fails."""
        checks = [{**asdict(check), "measured": finite(check.measured), "state": check.state} for check in self.checks]
        return {**asdict(self), "quantities": QUANTITIES, "checks": checks, "passed": self.passed}


def apart(check: Check) -> str:
    """What differs by how much, and how much of it rounding explains."""
    return ", ".join(f"{name} {check.measured[name]:.1e} apart (at most {check.limits[name]:.0e})" for name in check.faults)


def finite(measured: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if abs(value) < float("inf") else None for name, value in measured.items()}
