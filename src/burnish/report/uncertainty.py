"""What so few rows leave open of a run's numbers, from uncertainty.json."""

from __future__ import annotations

from burnish.report.collect import Record, finite, mapping
from burnish.report.wording import decimal, rows_of, spoken

TWO_SIDED = 1.96
"""Standard errors to either side that hold 95% of a normal distribution."""
MOST = 3
"""Metrics that are told of."""


def told(record: Record) -> list[str]:
    """`Rows alone leave open: accuracy ± 0.085 (95%, 120 test rows).` of the part that counts, in a list; empty where it is not known.

    It is 1.96 times the standard error over rows; how far another seed would come out is not in it.
    """
    result = next(iter(record.results), {})
    errors = mapping(record.uncertainty.get(str(result.get("part"))))
    metrics = mapping(result.get("metrics"))
    names = sorted((name for name in metrics if finite(errors.get(name)) is not None), key=lambda name: name == "loss")[:MOST]
    if not names:
        return []
    ends = [f"{spoken(name)} ± {decimal(TWO_SIDED * float(errors[name]))}" for name in names]
    return [f"Rows alone leave open: {', '.join(ends)} (95%, {rows_of(result.get('part'), result.get('rows'))})."]
