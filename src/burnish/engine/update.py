"""How gradients move weights: all at once, through a scaled loss (fp16), or one parameter after another within backward."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

from burnish.core.errors import NonFiniteError
from burnish.core.protocols import Technique
from burnish.engine.norms import Places, parameter_norms
from burnish.engine.runtime import Runtime


class Update:
    """The ordinary way: every micro-batch adds to the gradient, then the optimizer moves all weights."""

    moves_within = False
    """Whether backward itself moves weights, so that what must not move them has to be known before."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.parameters: list[torch.nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        self.places: Places | None = None
        self.by_place: list[float] = []
        """L2 norms of the last gradient by place, as long as `places` says where parameters stand."""

    def resting(self) -> AbstractContextManager[None]:
        """Within, backward moves no weight."""
        return nullcontext()

    def begin(self, step: int) -> None:
        """Update `step` (from 0) is about to run."""

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a micro-batch's share of the loss."""
        loss.backward()

    def again(self) -> None:
        """Memory ran out: forgets the gradient so far, for another attempt. Raises MemoryError where there can be none."""
        self.optimizer.zero_grad(set_to_none=True)

    def overflowed(self) -> str | None:
        """The gradient of the whole batch is there. Says why this update is left out, or nothing."""
        return None

    def norms(self) -> tuple[list[torch.nn.Parameter], torch.Tensor]:
        """The parameters that have a gradient, and (P,) its L2 norm in each."""
        return parameter_norms(self.parameters)

    def norm(self) -> torch.Tensor:
        """() L2 norm of the whole gradient."""
        return torch.linalg.vector_norm(self.norms()[1])

    def measured(self) -> tuple[torch.Tensor, float]:
        """The L2 norm of the whole gradient, () and as a number; that of each place is noted in `by_place`."""
        learning, each = self.norms()
        norm = torch.linalg.vector_norm(each)
        parts = self.places.norms(learning, each) if self.places else each[:0]
        length, *self.by_place = torch.cat([norm[None], parts]).tolist()  # one read: each waits for a GPU
        return norm, length

    def clip(self, limit: float | None) -> float:
        """The norm of the gradient, which is then scaled down to `limit` where it is longer."""
        norm, length = self.measured()
        if limit is not None and math.isfinite(length) and length > limit:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return length

    def move(self) -> None:
        """Moves the weights; the gradient stays for techniques to read."""
        self.optimizer.step()


class Scaled(Update, Technique):
    """For fp16, whose smallest number is 6e-8: the loss is multiplied by a scale before backward, and the gradient divided by it.

    Where the scaled gradient overflows, the update is left out and the scale halved; after 2,000 good updates it is doubled.
    Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740, section 3.2. As a technique it keeps the scale in checkpoints.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, runtime: Runtime, scale: float = 65536.0) -> None:
        super().__init__(optimizer)
        self.scaler = torch.amp.GradScaler(runtime.device.type, init_scale=scale)
        self.skipped = 0

    def backward(self, loss: torch.Tensor) -> None:
        self.scaler.scale(loss).backward()

    def overflowed(self) -> str | None:
        """Divides the gradient by the scale. An overflow at a scale of less than 2 is none of fp16's: it is left in, and told as such."""
        self.scaler.unscale_(self.optimizer)
        if math.isfinite(self.norm()):
            return None
        before = self.scaler.get_scale()
        self.scaler.update()
        after = self.scaler.get_scale()
        if after >= before or after < 1:
            return None
        self.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        return f"the gradient overflows fp16 at a loss scale of {before:g}: update left out ({self.skipped} so far), scale now {after:g}"

    def move(self) -> None:
        super().move()
        self.scaler.update()

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {}, {"scaler": self.scaler.state_dict(), "skipped": self.skipped}

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        self.scaler.load_state_dict(dict(values["scaler"]))
        self.skipped = values["skipped"]


class InBackward(Update):
    """Each parameter is moved as soon as its gradient is whole, and the gradient let go: there is never more than a few of them.

    Saves the memory of all gradients (as much as the weights take). The same weights, bit for bit, as the ordinary way without
    clipping: a parameter's update asks nothing of the others. The batch has to go through at once, for a second micro-batch would
    meet moved weights. Lv et al. 2023, "Full Parameter Fine-tuning for Large Language Models with Limited Resources",
    arXiv:2306.09782, section 3.1.
    """

    moves_within = True

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer)
        self.step, self.still = 0, False
        self.seen: dict[torch.nn.Parameter, torch.Tensor] = {}
        for number, group in enumerate(optimizer.param_groups):
            for parameter, name in zip(group["params"], group["names"], strict=True):
                learning = parameter.requires_grad
                parameter.requires_grad_(True)  # torch hangs hooks on nothing else; one that is yet to be unfrozen gets its own too
                parameter.register_post_accumulate_grad_hook(partial(self.move_one, number, name))
                parameter.requires_grad_(learning)

    @contextmanager
    def resting(self) -> Iterator[None]:
        self.still = True
        try:
            yield
        finally:
            self.still = False

    def begin(self, step: int) -> None:
        self.step = step
        self.seen.clear()

    def move_one(self, number: int, name: str, parameter: torch.nn.Parameter) -> None:
        """Updates one parameter of group `number`. The optimizer is shown nothing else for the while, and keeps one state for all.

        Raises NonFiniteError before it moves, where its gradient is NaN or infinite.
        """
        assert parameter.grad is not None
        if self.still:
            parameter.grad = None
            return
        norm = torch.linalg.vector_norm(parameter.grad)
        if not torch.isfinite(norm):
            raise NonFiniteError(
                f"The gradient of {name} became {norm.item()} at step {self.step + 1}; what stands above it has moved already, as "
                "train.in_backward does. Earlier checkpoints are intact. Try a lower optimizer.lr, a longer schedule.warmup, or precision fp32."
            )
        self.seen[parameter] = norm
        groups = self.optimizer.param_groups
        self.optimizer.param_groups = [{**groups[number], "params": [parameter]}]
        try:
            self.optimizer.step()
        finally:
            self.optimizer.param_groups = groups
        parameter.grad = None

    def again(self) -> None:
        raise MemoryError(
            f"Out of memory at step {self.step + 1}. With train.in_backward a batch goes through the model at once, so that it cannot be "
            "cut into smaller micro-batches. Set a smaller train.batch_size or data.max_length, or train.checkpoint_blocks=1."
        )

    def norms(self) -> tuple[list[torch.nn.Parameter], torch.Tensor]:
        """Those that each parameter had when it was moved."""
        moved = [parameter for parameter in self.parameters if parameter in self.seen]
        return moved, torch.stack([self.seen[parameter] for parameter in moved]) if moved else torch.zeros(0)

    def clip(self, limit: float | None) -> float:
        return self.measured()[1]

    def move(self) -> None:
        """Every weight has moved."""
