"""What other trainers make of the batches that Burnish takes, in their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from burnish import build
from burnish import recipe as recipes
from burnish.core.protocols import Row
from burnish.engine.batches import Order


def by_trl(
    made: dict[str, Any], folder: Path, steps: int, given: Callable[[Row], dict[str, Any]], **options: Any
) -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """Losses, gradient norms and final weights of TRL's SFTTrainer on `given` of each row; `options` go to its SFTConfig."""
    import datasets
    import trl

    checked = recipes.load(made)
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    rows, train = parts.gathered.rows["train"], checked.train
    order = Order(len(rows), train.batch_size, train.seed)

    class Recorded(trl.SFTTrainer):
        losses: list[float] = []

        def compute_loss(self, *arguments: Any, **options: Any) -> Any:
            found = super().compute_loss(*arguments, **options)
            self.losses.append((found[0] if isinstance(found, tuple) else found).item())
            return found

    trainer = Recorded(
        model=parts.model,
        args=trl.SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=train.batch_size,
            num_train_epochs=1,
            learning_rate=checked.optimizer.lr,
            weight_decay=checked.optimizer.weight_decay,
            max_grad_norm=train.max_grad_norm,
            warmup_steps=2,
            max_length=64,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            train_sampling_strategy="sequential",
            **options,
        ),
        train_dataset=datasets.Dataset.from_list([given(rows[index]) for step in range(steps) for index in order.batch(step)]),
        processing_class=parts.tokenizer,
    )
    trainer.train()
    norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    return Recorded.losses, norms, parts.model.state_dict()
