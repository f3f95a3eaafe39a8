"""`burnish check`: what is looked at before a recipe is trained. A check is a function in the table of its file, and a test."""

from burnish.experiment.check.inspect import HOPED, check

__all__ = ["HOPED", "check"]
