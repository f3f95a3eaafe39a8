"""The recipe's `distill` section: a student that learns from a teacher. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from burnish.core.spec import Spec


class Distill(Spec):
    """Learn from what a teacher says as well as from the labels: loss = (1 - a) hard + a T^2 KL(teacher || student), both softened by T.

    A teacher's probabilities tell which wrong answers are nearly right, far more than a label does, so that a smaller model keeps
    most of what a larger one knows. Hinton et al. 2015, arXiv:1503.02531. `hidden` and `attention` make the student think alike too
    (Jiao et al. 2019, TinyBERT, arXiv:1909.10351; Sanh et al. 2019, DistilBERT, arXiv:1910.01108). A predicted number is drawn to the
    teacher's number by the squared error.
    """

    teacher: str = Field(min_length=1)
    """A finished run of the same task, or the folder or hub id of a model that was trained for it."""

    temperature: float = Field(default=4.0, gt=0)
    """What the logits of both are divided by; 2 to 8, higher shows more of the teacher's doubts."""

    weight: float = Field(default=0.7, ge=0, le=1)
    """The teacher's share a of the loss, the labels have the rest; 0.5 to 0.9."""

    hidden: float = Field(default=0.0, ge=0)
    """Weight of the squared distance of hidden states, projected where the teacher is wider; 0 for none, 0.1 to 1 is usual."""

    attention: float = Field(default=0.0, ge=0)
    """Weight of the squared distance of attention maps; 0 for none, 1 to 10 is usual. Needs as many heads as the teacher has."""

    layers: dict[int, int] | None = None
    """Which block of the teacher each block of the student is to match, both from 0, in each stack; by default evenly spread."""

    def fault(self) -> str | None:
        """What does not go together."""
        if self.layers is not None and not (self.hidden or self.attention):
            return "`layers` says which blocks are matched, but neither `hidden` nor `attention` has a weight"
        if self.layers is not None and (not self.layers or min(*self.layers, *self.layers.values(), 0) < 0):
            return f"`layers` pairs blocks counted from 0, such as {{0: 1, 1: 3}}; got {self.layers}"
        return None

    def __str__(self) -> str:
        """What is asked for, in a few words."""
        matched = [f"{name} {weight:g}" for name, weight in (("hidden", self.hidden), ("attention", self.attention)) if weight]
        return ", ".join([f"temperature {self.temperature:g}", f"weight {self.weight:g}", *matched])
