"""AdaLoRA: LoRA whose rank is spent where it pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy, Course, Technique
from burnish.core.registry import register
from burnish.methods.injected import Injected
from burnish.methods.lora import low_rank

if TYPE_CHECKING:
    import torch
    from torch import nn

IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""What peft's allocator keeps of each parameter: |w g| of this step, its average, and the average of how far it is from that."""


@register("method")
class AdaLora(Injected):
    """An update P diag(E) Q for each layer; on the way the directions that matter least are zeroed, until `target_r` a layer are left.

    A direction's importance is |w dL/dw|, averaged over steps, times its uncertainty; the budget falls with a cubic curve from r to
    target_r. P and Q are kept nearly orthogonal by a penalty gamma (mean over matrices of ||P^T P - I||). For a small budget over many
    layers. Needs a duration in steps or epochs. Zhang et al. 2023, arXiv:2303.10512, eq. 3 to 12.
    """

    name: Literal["adalora"] = "adalora"

    r: int = Field(default=12, ge=2)
    """Rank of each update at the start; about 1.5 times target_r."""

    target_r: int = Field(default=8, ge=1)
    """Mean rank of the updates that are left at the end; 2 to 16."""

    alpha: float = Field(default=16.0, gt=0)
    """Scale of the update, divided by its rank; commonly once or twice r."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update; 0 to 0.1."""

    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps before the rank begins to fall; 0.05 to 0.2."""

    settled: float = Field(default=0.3, gt=0, lt=1)
    """Share of the steps, at the end, in which the ranks no longer change; 0.2 to 0.5."""

    every: int = Field(default=10, ge=1)
    """Steps between two cuts; 1 to 100."""

    orthogonality: float = Field(default=0.5, ge=0)
    """Weight gamma of the penalty that keeps directions apart; 0.1 to 0.5."""

    @model_validator(mode="after")
    def falls(self) -> AdaLora:
        if self.target_r >= self.r:
            raise ValueError(f"target_r has to be less than r, {self.r}: the rank falls from r to target_r")
        if self.warmup + self.settled >= 1:
            raise ValueError("warmup and settled have to leave some steps between them, in which the rank falls")
        return self

    def config(self, model: Any, anatomy: Anatomy) -> Any:
        """peft asks for the number of steps, which is not known yet: `techniques` sets it."""
        import peft

        shared = low_rank(self, anatomy)
        del shared["r"]
        ranks = {"init_r": self.r, "target_r": self.target_r, "deltaT": self.every, "orth_reg_weight": self.orthogonality}
        return peft.AdaLoraConfig(**shared, **ranks, total_step=1, tinit=0, tfinal=0)

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        """With all r directions of each layer, those that were cut being zero: layers of which none is left can be opened, too."""
        config = model.peft_config["default"]
        pattern, config.rank_pattern = config.rank_pattern, None
        try:
            super().save(model, folder, base)
        finally:
            config.rank_pattern = pattern

    def faults(self, train: Any) -> list[str]:
        found = []
        if train.duration.timed:
            found.append("`method`: adalora lets the rank fall over a known number of steps; give train.duration in steps or epochs")
        if train.in_backward:
            found.append("`train.in_backward` moves each weight before the other gradients are known: method=adalora needs them all")
        return found

    def techniques(self, model: nn.Module, anatomy: Anatomy, course: Course) -> list[Technique]:
        if course.total_steps is None:
            raise ModelError("`method`: adalora has to know how many steps there will be: give train.duration in steps or epochs.")
        tinit, tfinal = int(self.warmup * course.total_steps), max(1, int(self.settled * course.total_steps))
        if tinit >= course.total_steps - tfinal:
            raise ModelError(
                f"`method`: {course.total_steps} steps are too few for adalora, whose rank has to fall step by step: train longer."
            )
        config: Any = model.peft_config["default"]  # type: ignore[index]
        config.total_step, config.tinit, config.tfinal = course.total_steps, tinit, tfinal
        return [Allocation(model)]


class Allocation(Technique):
    """Spends the rank anew after each update, and keeps the directions apart."""

    def __init__(self, model: Any) -> None:
        self.model = model.base_model
        self.config = model.peft_config["default"]
        self.allocator = self.model.rankallocator
        self.matrices = [p for name, p in model.named_parameters() if ".lora_A.default" in name or ".lora_B.default" in name]
        self.cut = False

    def differentiated(self) -> float:
        """Adds the gradient of gamma / n * sum ||M - I|| with M = A A^T or B^T B, both (r, r): 2 (M - I) / ||M - I|| times the matrix."""
        import torch

        total, weight = 0.0, self.config.orth_reg_weight / len(self.matrices)
        if not weight:
            return 0.0
        with torch.no_grad():
            for matrix in self.matrices:
                wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T  # (r, width)
                gap = wide @ wide.T - torch.eye(len(wide), device=wide.device, dtype=wide.dtype)  # (r, r)
                norm = gap.norm()
                total += float(norm)
                slope = 2 * weight * (gap / norm.clamp_min(1e-12)) @ wide
                if matrix.grad is not None:
                    matrix.grad += slope if matrix.shape == slope.shape else slope.T
        return total * weight

    def updated(self, step: int) -> None:
        """The last cut is made after the step that it is planned for, or the next that moves weights: an overflow of fp16 leaves some out."""
        last = self.config.total_step - self.config.tfinal
        if step >= last and not self.cut:
            step, self.cut = last, True
            if not self.allocator.ipt:
                self.allocator.update_ipt(self.model.model)
        self.model.update_and_allocate(step)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors = {f"{kind}|{name}": tensor for kind in IMPORTANCE for name, tensor in getattr(self.allocator, kind).items()}
        return tensors, {"pattern": self.config.rank_pattern, "cut": self.cut}

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        self.allocator.reset_ipt()
        for key, tensor in tensors.items():
            kind, _, name = key.partition("|")
            getattr(self.allocator, kind)[name] = tensor.to(self.matrices[0].device)
        self.config.rank_pattern, self.cut = values["pattern"], values["cut"]
