"""Systems compared over seeds: every run made once, the test rows opened once, at the end, and no more said than intervals allow."""

from burnish.experiment.compare.comparing import compare
from burnish.experiment.compare.plan import Plan, planned

__all__ = ["Plan", "compare", "planned"]
