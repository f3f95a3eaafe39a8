"""A schedule that looks at the validation rows instead of the clock."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from burnish.core.registry import register
from burnish.optim.schedules import Constant


@register("schedule")
class Plateau(Constant):
    """Warm-up, then the peak, multiplied by `lr_factor` each time that the validation metric gets no better.

    torch's ReduceLROnPlateau, with its `patience` counted as early stopping's: the evaluation at which it runs out makes the move.
    It needs validation rows, and suits runs whose length is not known beforehand. Usual with SGD and long training, less with the
    few epochs of fine-tuning, where a falling line does as well.
    """

    name: Literal["plateau"] = "plateau"  # type: ignore[assignment]

    metric: str = "loss"
    """The validation metric that is watched."""

    patience: int = Field(default=2, ge=1)
    """Evaluations without a better metric before the rate falls; 1 to 10."""

    min_delta: float = Field(default=0.0, ge=0)
    """By how much a metric has to be better to count, in its own units; 0 to 0.01."""

    lr_factor: float = Field(default=0.5, gt=0, lt=1)
    """What the learning rate is multiplied by each time; 0.1 to 0.7."""

    lr_min: float = Field(default=0.01, ge=0, lt=1)
    """The least share of the peak that is left; 0.001 to 0.1."""
