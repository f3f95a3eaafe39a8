"""Trained parity: the same model, batches and settings through transformers' Trainer and through Burnish, step by step."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from oracles import recording, settings
from safetensors.torch import load_file, save_file
from tiny import with_dropout

import burnish
from burnish import build
from burnish import recipe as recipes
from burnish.engine.batches import Order

BATCH, STEPS, WARMUP, LR, SEED = 8, 20, 3, 1e-3, 4
GOOD, BAD = ["lovely", "great", "wonderful", "happy", "perfect"], ["broken", "awful", "late", "angry", "wrong"]
# The slope of the loss for a key's bias is zero (softmax does not see it): what arrives there is rounding, which Adam blows up.
BLIND = ".key.bias"


def recipe_for(model: Path, rows: Path, run: Path, **train: Any) -> dict[str, Any]:
    return {
        "model": str(model),
        "task": "classify",
        "data": {"train": str(rows)},
        "optimizer": {"name": "adamw", "lr": LR, "weight_decay": 0.01},
        "schedule": {"name": "linear", "warmup": WARMUP},
        "train": {"duration": f"{STEPS}st", "batch_size": BATCH, "seed": SEED, "device": "cpu", **train},
        "run": str(run),
    }


def write_rows(path: Path) -> Path:
    """150 rows of very different lengths: 19 batches an epoch, of which the last has 6, and one of the next epoch."""
    draw = random.Random(2)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for number in range(150):
            words = draw.choices(["the", "parcel", "is", "my", "candle", *GOOD, *BAD], k=draw.choice([1, 3, 8, 30]))
            label = ["yes", "no", "maybe"][number % 3]
            writer.writerow([" ".join([*words, (GOOD if label == "yes" else BAD)[number % 5]]), label])
    return path


@pytest.fixture
def lively(tiny_bert: Path, tmp_path: Path) -> Path:
    """The tiny BERT with larger weights, so that losses and gradients of every size occur from the first step on."""
    folder = with_dropout(tiny_bert, tmp_path / "lively", 0.0)
    torch.manual_seed(6)
    weights = {name: tensor + 0.2 * torch.randn_like(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def by_trainer(made: dict[str, Any], folder: Path) -> tuple[list[float], list[float], list[float], dict[str, torch.Tensor]]:
    """Losses, gradient norms, learning rates and final weights of Trainer on the batches that Burnish takes, in their order."""
    checked = recipes.load(made)
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    examples, order = parts.examples["train"], Order(150, BATCH, SEED)
    batches = [order.batch(step) for step in range(STEPS)]
    assert [len(batch) for batch in batches] == [8] * 18 + [6, 8]

    def collate(chosen: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        batch = parts.learner.collate(examples, [entry["index"] for entry in chosen if entry["index"] >= 0], (SEED, 0))
        return {**batch.inputs, **batch.targets}

    # Trainer cuts a flat list into batches of 8: the epoch's last batch is filled up with -1, which collate drops.
    flat = [{"index": index} for batch in batches for index in [*batch, *[-1] * (BATCH - len(batch))]]
    trainer = recording(transformers.Trainer)(
        model=parts.model,
        args=transformers.TrainingArguments(**settings(checked, folder), remove_unused_columns=False),
        train_dataset=flat,  # type: ignore[arg-type]
        data_collator=collate,  # type: ignore[arg-type]
    )
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    return trainer.losses, [entry["grad_norm"] for entry in log], [entry["learning_rate"] for entry in log], parts.model.state_dict()


def assert_parity(model: Path, tmp_path: Path, **train: Any) -> list[float]:
    """Both ways, compared; gives the gradient norms."""
    train = {"max_grad_norm": 1.0, **train}
    made = recipe_for(model, write_rows(tmp_path / "rows.csv"), tmp_path / "run", **train)
    losses, norms, rates, weights = by_trainer(made, tmp_path / "trainer")
    run = burnish.train(made)
    steps = [line for line in run.folder.read_metrics() if line["kind"] == "step"]
    assert len(steps) == len(losses) == len(norms) == STEPS
    assert [line["loss"] for line in steps] == pytest.approx(losses, rel=1e-4)
    assert [line["grad_norm"] for line in steps] == pytest.approx(norms, rel=1e-4)
    assert [line["lr"] for line in steps] == pytest.approx(rates, rel=1e-6)
    final = load_file(run.folder.model / "model.safetensors")
    assert final.keys() == weights.keys()
    for name, tensor in final.items():
        if not name.endswith(BLIND):
            torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert max(losses) - min(losses) > 0.03 and not math.isnan(sum(losses))
    return norms


@pytest.mark.parametrize(("micro_batch", "limit"), [("auto", 1.0), (8, 1.0), (3, 1.0), (1, 1.0)])
def test_twenty_steps_as_trainer_takes_them(lively: Path, tmp_path: Path, micro_batch: Any, limit: float) -> None:
    norms = assert_parity(lively, tmp_path, micro_batch=micro_batch, max_grad_norm=limit)
    assert min(norms) < limit and max(norms) > limit, "clipping was at work in some steps and not in others"


@pytest.mark.slow
def test_twenty_steps_of_the_starter_as_trainer_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish.models import starters

    folder = with_dropout(starters.verified("starter:minilm"), tmp_path / "minilm", 0.0)
    monkeypatch.setattr("test_parity.LR", 1e-4)
    assert_parity(folder, tmp_path)


def test_the_comparison_can_fail(lively: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With batches that count their examples wrongly, by a twentieth, the losses part at once."""
    from burnish.tasks.classify import Classifier

    real: Callable[..., Any] = Classifier.collate

    def miscounted(self: Any, *arguments: Any) -> Any:
        batch = real(self, *arguments)
        batch.weight *= 1.05
        return batch

    monkeypatch.setattr(Classifier, "collate", miscounted)
    with pytest.raises(AssertionError):
        assert_parity(lively, tmp_path)
