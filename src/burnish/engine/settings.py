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

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of the computation: fp32 (that of the weights, see model.dtype), or by autocast bf16 or, with a scaled loss, fp16; these two are faster on GPUs only."""

    checkpoint_blocks: int | None = Field(default=None, ge=1)
    """Every n-th block is computed again in backward instead of being kept: 1 saves most memory for a third more time; null for none."""

    offload: list[Literal["activations", "optimizer"]] = []
    """What waits in the CPU's memory where a GPU computes: what backward needs (activations), the optimizer's state and update (optimizer)."""

    in_backward: bool = False
    """Each weight moves within backward as soon as its gradient is whole, which is then dropped; for whole batches without clipping."""

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

    def faults(self) -> list[str]:
        """Settings of this section that do not go together."""
        if not self.in_backward:
            return []
        alone = "`train.in_backward` moves each weight before the other gradients are known: "
        found = []
        if self.max_grad_norm is not None:
            found.append(f"{alone}the norm of the whole gradient cannot be clipped; say train.max_grad_norm=null")
        if self.precision == "fp16":
            found.append(f"{alone}an overflow of fp16 would be seen too late; say train.precision=bf16 or fp32")
        if self.micro_batch is not None and (self.micro_batch.unit != "ex" or self.micro_batch.size < self.batch_size):
            found.append(f"{alone}a batch goes through at once; leave train.micro_batch out, or say train.micro_batch={self.batch_size}")
        return found
