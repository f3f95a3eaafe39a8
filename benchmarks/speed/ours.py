"""Burnish's side of the comparisons: runs as its users start them, and beside them the barest loop over the same batches."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from material import Material
from turns import Seat

PLAIN = {
    "savings": dict.fromkeys(
        ("unpadded", "trimmed", "supervised_logits", "frozen_prefix", "sparse_embedding", "prefetch"),
        False,
    ),
    "dropout": "torch",
}
"""The engine with every saving off: exactly the model's own forward and backward pass."""


def train(seat: Seat, material: Material) -> None:
    """A run of the recipe, which hands over after its turns. What is evaluated before the first step belongs to the start-up."""
    import burnish
    from burnish.engine.events import Began, Evaluated, Event, Stepped, Working

    last_of_start = Evaluated if material.foretold else Began
    waiting = [len(material.plain) // material.batch_size]

    def listen(event: Event) -> None:
        # What frozen blocks give is computed before the first step, and is no start-up: the peers compute it in every epoch.
        frozen = isinstance(event, Working) and "frozen blocks" in event.what
        if isinstance(event, Stepped):
            seat.stepped(event.examples, event.tokens, event.loss, event.grad_norm)
        elif waiting and (frozen or isinstance(event, last_of_start)):
            seat.ready(waiting.pop())

    with tempfile.TemporaryDirectory() as folder:
        burnish.train({**material.recipe, "run": f"{folder}/run"}, listeners=[listen])


def train_plainly(seat: Seat, material: Material) -> None:
    """The same with every saving off, and each batch whole."""
    settings = {**material.recipe["train"], "micro_batch": material.batch_size}
    train(seat, Material(**{**vars(material), "recipe": {**material.recipe, "engine": PLAIN, "train": settings}}))


def bare_loop(seat: Seat, material: Material) -> None:
    """What anybody would write by hand for the same batches: forward, backward, clip, update, one look at loss and norm."""
    import torch
    from material import assembled

    from burnish import build

    parts = assembled({**material.recipe, "engine": PLAIN})
    order, model, lengths = build.order(parts), parts.model, material.lengths
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=material.recipe["optimizer"]["lr"], fused=True)
    steps = len(material.plain) // material.batch_size
    model.train()
    seat.ready(steps)
    for step in range(steps):
        # Seed and order within the batch are Burnish's, so that dropout, and with it every loss, is the same.
        parts.runtime.seed(0, step)
        chosen = sorted(order.batch(step), key=lambda index: -lengths[index])
        batch = parts.learner.collate(parts.examples["train"], chosen, (0, step))
        logits = model(**batch.inputs).logits
        loss = torch.nn.functional.cross_entropy(logits, batch.targets["labels"])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seat.stepped(len(batch.examples), batch.tokens, loss.item(), norm.item())


def predict(seat: Seat, run: str, rows: Sequence[dict[str, Any]], tokens: int) -> None:
    """Texts in, labels out; the loss is that of the true label."""
    import math

    import burnish

    opened = burnish.load(Path(run))
    texts = [row["text"] for row in rows]
    assert opened.model is not None  # loaded before the clock runs
    seat.ready(seat.rounds + seat.warm)
    while True:
        found = opened.predict(texts)
        loss = -sum(math.log(one["probabilities"][str(row["label"])]) for one, row in zip(found, rows, strict=True)) / len(rows)
        seat.stepped(len(texts), tokens, loss)
