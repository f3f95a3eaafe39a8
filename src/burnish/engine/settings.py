"""The recipe's `train` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from burnish.core.duration import Duration, TrainingLength
from burnish.core.spec import Spec
from burnish.engine.batches import MicroBatchSize


class Train(Spec):
    """How long, how large, how often."""

    duration: TrainingLength = Duration(3, "ep")
    """Length of the run in epochs (3ep), optimizer updates (500st) or time (20m, 2h)."""

    batch_size: int = Field(default=32, ge=1)
    """Examples an update; how they are split over micro-batches and devices does not change the result."""

    micro_batch: MicroBatchSize = None
    """What goes through the model at once: auto, a number of examples (8) or of token positions (4096tok)."""

    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """The gradient is scaled down to this norm where it is longer; null for no clipping."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the computation; bf16 (autocast) is faster on GPUs and slower on most CPUs."""

    seed: int = Field(default=0, ge=0)
    """Seed of fresh weights, order of the data and dropout."""

    evaluate_every: TrainingLength = Duration(1, "ep")
    """How often the validation rows are scored (they always are at the end)."""

    save_every: TrainingLength = Duration(1, "ep")
    """How often a checkpoint is written, from which the run can be resumed exactly."""

    save_limit: int = Field(default=2, ge=1)
    """Checkpoints kept, newest first; the best one is kept beside them."""

    keep_best: str | None = None
    """Name of the validation metric by which the best weights are kept; by default the last weights are."""

    patience: int | None = Field(default=None, ge=1)
    """Stop early after so many evaluations without a better `keep_best` metric."""

    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a running average of the weights, which is what is evaluated and kept; 0.99 for short runs to 0.9999, null for none."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
