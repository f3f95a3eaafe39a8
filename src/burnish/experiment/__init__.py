"""What is found out by training more than once."""

from burnish.experiment.verify import verify

__all__ = ["verify"]
