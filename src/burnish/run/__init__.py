"""Train, resume, evaluate, predict. Every function here returns or takes a run."""

from burnish.run.finding import find_lr
from burnish.run.finished import Run, load
from burnish.run.training import resume, train

__all__ = ["Run", "find_lr", "load", "resume", "train"]
