"""What a task marks as read is all that it looks at, and its scores may wait until they are asked for: losses, gradients, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from burnish import build
from burnish import recipe as recipes
from burnish.core import deferred
from burnish.core.deferred import Deferred, DeferredGrid, whole
from burnish.core.protocols import IGNORED, Batch, Row
from burnish.losses.distill import Distill
from burnish.losses.distillation import Distilled, Lesson
from burnish.losses.objective import Reshaped
from burnish.losses.weighted import cross_entropy
from burnish.teaching import Teacher
from cases import CASES, recipe_of

pytestmark = pytest.mark.usefixtures("quick")

LANGUAGE = ["chat", "continue", "fill", "rewrite"]
PER_TOKEN = ("logits", "start_logits", "end_logits")


@pytest.fixture(autouse=True)
def chunks_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("KEPT", 0), ("CHUNK", 1), ("FEWEST", 3), ("MOST", 10**6)):
        monkeypatch.setattr(deferred, name, value)


@pytest.fixture
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], build.Parts]:
    def make(task: str) -> build.Parts:
        checked = recipes.load(recipe_of(task, request.getfixturevalue(CASES[task].model), tmp_path))
        return build.assemble(checked, build.gather(checked), lambda message: None)

    return make


@contextmanager
def giving(model: nn.Module, change: Callable[[torch.Tensor], Any]) -> Iterator[None]:
    """Within, what the model says of each token is changed."""

    def changed(module: nn.Module, inputs: Any, output: Any) -> Any:
        for name in PER_TOKEN:
            if output.get(name) is not None:
                output[name] = change(output[name])
        return output

    hook = model.register_forward_hook(changed)
    try:
        yield
    finally:
        hook.remove()


def only_read(read: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Whoever looks elsewhere gets NaN."""
    assert read is not None
    return lambda logits: logits.masked_fill(~(read if logits.dim() == 2 else read[:, :, None]), torch.nan)


def put_off(read: torch.Tensor | None, calls: list[int]) -> Callable[[torch.Tensor], DeferredGrid]:
    """The logits as rows of which a head makes the logits when it is asked: itself, with a gradient through it."""
    assert read is not None

    def head(rows: torch.Tensor) -> torch.Tensor:
        calls.append(len(rows))
        return rows * 1.0

    return lambda logits: DeferredGrid(read, Deferred(logits[read], head, logits.shape[-1]))


def gradient(model: nn.Module, losses: torch.Tensor) -> torch.Tensor:
    """Of losses that count each otherwise."""
    model.zero_grad(set_to_none=True)
    (losses * torch.arange(1.0, 1.0 + len(losses))).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def same(found: Sequence[torch.Tensor], plain: Sequence[torch.Tensor]) -> None:
    assert len(found) == len(plain)
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("task", sorted(set(CASES) - {"classify"}))
def test_nothing_else_is_looked_at(task: str, parts: Callable[[str], build.Parts]) -> None:
    made = parts(task)
    learner, model = made.learner, made.model.eval()
    batch = learner.collate(made.examples["train"], range(6), (0, 3))
    assert batch.read is not None and batch.read.dtype == torch.bool
    ids = batch.inputs.get("decoder_input_ids", batch.inputs["input_ids"])
    assert batch.read.shape == ids.shape and 0 < batch.read.sum() < batch.read.numel()
    losses, said = learner.losses(model, batch), learner.outputs(model, batch)
    plain = gradient(model, losses)
    with giving(model, only_read(batch.read)):
        found = learner.losses(model, batch)
        same([found], [losses])
        same(learner.outputs(model, batch), said)
        torch.testing.assert_close(gradient(model, found), plain)


@pytest.mark.parametrize("task", ["answer", "fill", "tag"])
def test_nothing_else_is_looked_at_to_predict(task: str, parts: Callable[[str], build.Parts]) -> None:
    made = parts(task)
    row = Row(CASES[task].asked, "asked.jsonl", 1)
    short = Row({**CASES[task].asked, "text": "[MASK] lamp"}, "asked.jsonl", 2)
    examples = made.learner.encode([row, short], labelled=False)
    batch = made.learner.collate(examples, range(len(examples)), (0,))
    model = made.model.eval()
    said = made.learner.outputs(model, batch)
    assert not batch.targets.get("labels", torch.empty(0)).numel() and batch.read is not None and batch.read.any()
    with giving(model, only_read(batch.read)):
        same(made.learner.outputs(model, batch), said)
    if task == "fill":
        with giving(model, put_off(batch.read, [])), torch.no_grad():
            same(made.learner.outputs(model, batch), said)


@pytest.mark.parametrize("task", LANGUAGE)
@pytest.mark.parametrize("smoothing", [None, 0.1])
def test_scores_may_be_put_off(task: str, smoothing: float | None, parts: Callable[[str], build.Parts]) -> None:
    """Losses, gradients and outputs are the same, and each chunk goes once through the head, and once more where examples count differently."""
    made = parts(task)
    learner, model = made.learner, made.model.eval()
    objective = learner if smoothing is None else Reshaped(learner, cross_entropy(smoothing, None))
    batch = learner.collate(made.examples["train"], range(6), (0, 3))
    losses, plain, said = objective.losses(model, batch), None, learner.outputs(model, batch)
    plain = gradient(model, losses)
    calls: list[int] = []
    with giving(model, put_off(batch.read, calls)):
        found = objective.losses(model, batch)
        same([found], [losses])
        assert sum(calls) == batch.weight + 1 and max(calls) <= 5 < batch.weight
        torch.testing.assert_close(gradient(model, found), plain)
        assert sum(calls) == 2 * batch.weight + 1  # once more, for the examples count differently here
        with torch.no_grad():
            same(learner.outputs(model, batch), said)
        assert sum(calls) == 3 * batch.weight + 1


@pytest.mark.parametrize("task", LANGUAGE)
def test_a_student_and_its_teacher_may_put_theirs_off(task: str, parts: Callable[[str], build.Parts]) -> None:
    """What the teacher says is that of another draw of the fresh parts of the model, so that there is something to learn."""
    made, other = parts(task), parts(task)
    model, settings = made.model.eval(), Distill(teacher="it", temperature=2.0, weight=0.7)
    for parameter in other.model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    teacher = Teacher(other.model, made.learner, settings)
    batch = made.learner.collate(made.examples["train"], range(6), (0, 3))
    objective = Distilled(made.learner, cross_entropy(0.1, None), teacher, settings)
    losses, told = objective.losses(model, batch), teacher.outputs(other.model, batch)
    plain, rows = gradient(model, losses), teacher(batch).rows
    taught: list[int] = []
    with giving(model, put_off(batch.read, [])), giving(other.model, put_off(batch.read, taught)):
        found = objective.losses(model, batch)
        same([found], [losses])
        torch.testing.assert_close(gradient(model, found), plain)
        assert max(taught) <= 5
        same(teacher.outputs(other.model, batch), told)
    with giving(model, put_off(batch.read, [])):
        kept = replace(objective, teacher=lambda batch: Lesson([whole(row) for row in rows]))
        same([kept.losses(model, batch)], [losses])


@pytest.mark.parametrize("task", LANGUAGE)
def test_nothing_supervised_is_a_loss_of_zero(task: str, parts: Callable[[str], build.Parts]) -> None:
    made = parts(task)
    batch = made.learner.collate(made.examples["train"], range(2), (0, 3))
    labels = torch.full_like(batch.targets["labels"], IGNORED)
    empty = Batch(batch.inputs, {"labels": labels}, batch.examples, 0.0, batch.tokens, labels != IGNORED)
    model = made.model.eval()
    for change in (only_read(empty.read), put_off(empty.read, [])):
        with giving(model, change):
            losses = made.learner.losses(model, empty)
            assert losses.tolist() == [0.0, 0.0] and not gradient(model, losses).any()
            outputs = made.learner.outputs(model, empty)
            assert len(outputs) == 2 and not torch.cat([one.flatten() for one in outputs]).any()
