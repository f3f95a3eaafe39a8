"""What other trainers make of the batches that Burnish takes, in their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from burnish import build
from burnish import recipe as recipes
from burnish.core.protocols import Batch, Row
from burnish.engine.batches import Order


def recording(trainer: type) -> Any:
    """A trainer as it is, with `losses`: taken where it computes them, for its log rounds them."""

    class Recorded(trainer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.losses: list[float] = []

        def compute_loss(self, *arguments: Any, **options: Any) -> Any:
            found = super().compute_loss(*arguments, **options)
            self.losses.append((found[0] if isinstance(found, tuple) else found).item())
            return found

    return Recorded


def settings(checked: recipes.Recipe, folder: Path) -> dict[str, Any]:
    """What Trainer's arguments, and those of its kin, have to say to do what a recipe says, and nothing beside."""
    train = checked.train
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": train.batch_size,
        "num_train_epochs": 1,
        "learning_rate": checked.optimizer.lr,
        "weight_decay": checked.optimizer.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "lr_scheduler_type": "linear",
        "warmup_steps": int(checked.schedule.warmup.value),
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
    }


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

    trainer = recording(trl.SFTTrainer)(
        model=parts.model,
        args=trl.SFTConfig(
            **settings(checked, folder),
            max_length=64,
            bf16=False,
            gradient_checkpointing=False,
            **options,
        ),
        train_dataset=datasets.Dataset.from_list([given(rows[index]) for step in range(steps) for index in order.batch(step)]),
        processing_class=parts.tokenizer,
    )
    trainer.train()
    norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    return trainer.losses, norms, parts.model.state_dict()


def by_trainer(
    made: dict[str, Any], folder: Path, steps: int, given: Callable[[Batch], dict[str, torch.Tensor]]
) -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """Losses, gradient norms and final weights of transformers' Trainer, which is `given` what it may see of each batch; the loss is
    the architecture's own."""
    import transformers

    checked = recipes.load(made)
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    examples, train = parts.examples["train"], checked.train
    order = Order(len(examples), train.batch_size, train.seed)

    def collate(chosen: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        return given(parts.learner.collate(examples, [entry["index"] for entry in chosen], (train.seed, chosen[0]["step"])))

    trainer = recording(transformers.Trainer)(
        model=parts.model,
        args=transformers.TrainingArguments(**settings(checked, folder), remove_unused_columns=False),
        train_dataset=[{"index": index, "step": step} for step in range(steps) for index in order.batch(step)],  # type: ignore[arg-type]
        data_collator=collate,  # type: ignore[arg-type]
    )
    trainer.train()
    norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    return trainer.losses, norms, parts.model.state_dict()
