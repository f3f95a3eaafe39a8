"""The card of a model: README.md in the run's `model/`, in the hub's format, written from what the run itself has recorded."""

from burnish.run.card.page import write

__all__ = ["write"]
