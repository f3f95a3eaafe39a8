"""What a student loses against its teacher, one value an example.

Legend: B examples, S choices, C classes, T tokens, K tokens looked at, D width of the student, E width of the teacher, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from burnish.core.deferred import Deferred, whole
from burnish.core.protocols import IGNORED, Batch, Key, Learner
from burnish.losses.distill import Distill
from burnish.losses.likelihood import Pointwise, squared_error

KINDS = {"hidden": "hidden_states", "attention": "attentions"}
"""What may be matched, and what transformers calls it."""

Stacks = Sequence[Sequence[torch.Tensor]]
"""A tensor for each block of each stack: the encoder's before the decoder's."""


@dataclass(frozen=True)
class Lesson:
    """What a teacher said of a batch: logits (S, C) of each kind of choice (or numbers (B, D)), and its insides where they are wanted."""

    rows: Sequence[torch.Tensor | Deferred]
    hidden: Stacks = ()
    attention: Stacks = ()


@dataclass(frozen=True)
class Said:
    """What a model said at each of S places: `rows` (S, C), and the example each belongs to."""

    rows: torch.Tensor | Deferred
    owners: torch.Tensor


def said(learner: Learner, output: Any, batch: Batch) -> list[Said]:
    """The logits of all choices; where a task has none, the numbers that it predicts."""
    choices = learner.choices(output, batch)
    if choices:
        return [Said(part.logits, part.owners) for part in choices]
    return [Said(output.logits, torch.arange(len(batch.examples), device=output.logits.device))]


def softened(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), in nats: (S, C), (S, C) -> (S,).

    T^2 keeps the gradient's size the same whatever T is (Hinton et al. 2015, section 2). Classes that cannot be chosen (-inf) count
    for nothing.
    """
    possible = (student > float("-inf")) & (teacher > float("-inf"))
    wanted = F.log_softmax(teacher.float() / temperature, dim=-1)
    found = F.log_softmax(student.float() / temperature, dim=-1)
    difference = wanted.masked_fill(~possible, 0.0) - found.masked_fill(~possible, 0.0)
    return temperature**2 * (wanted.exp() * difference).sum(dim=-1)


def fitted(teacher: torch.Tensor, width: int) -> torch.Tensor:
    """(S, `width`) of (S, C): columns beyond are cut (a vocabulary's filling, padding), missing ones cannot be chosen."""
    missing = width - teacher.shape[1]
    return F.pad(teacher, (0, missing), value=float("-inf")) if missing > 0 else teacher[:, :width]


def hidden_distance(student: torch.Tensor, teacher: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean over an example's real tokens and over E of (s - t)^2: (B, T, E) twice, `real` (B, T) -> (B,). TinyBERT, eq. 8."""
    squares = (student.float() - teacher.float()).square().mean(dim=-1)  # (B, T)
    return (squares * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def attention_distance(student: torch.Tensor, teacher: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean over heads and real tokens of |a_s - a_t|^2, the squared distance of the two distributions over tokens looked at:
    (B, H, T, K) twice, `real` (B, T) -> (B,). TinyBERT, eq. 7, of probabilities and not of scores, which models do not give."""
    squares = (student.float() - teacher.float()).square().sum(dim=-1).mean(dim=1)  # (B, T)
    return (squares * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def evenly_matched(student: int, teacher: int) -> dict[int, int]:
    """Block m of M answers for the teacher's blocks up to round((m + 1) L / M): last matches last (TinyBERT, section 3.1)."""
    return {block: max(0, round((block + 1) * teacher / student) - 1) for block in range(student)}


def stacks(output: Any, kind: str) -> list[list[torch.Tensor]]:
    """What a model gave of `hidden` or `attention` for each block of each stack; embeddings are no block."""
    name = KINDS[kind]
    found = [getattr(output, f"{side}_{name}", None) for side in ("encoder", "decoder")]
    given = [one for one in found if one] or [getattr(output, name, None) or ()]
    return [list(one[1:] if kind == "hidden" else one) for one in given]


def real_tokens(batch: Batch, stack: int, length: int) -> torch.Tensor:
    """(B, T) 1 where a token of a stack is no padding: a decoder's are those that have a label."""
    labels = batch.targets.get("labels")
    if stack == 1 and labels is not None and labels.shape == (len(batch.examples), length):
        return (labels != IGNORED).float()
    return batch.inputs["attention_mask"].float()


@dataclass(frozen=True)
class Distilled:
    """A learner that trains against its labels (by the loss `hard`) and its teacher. Evaluation knows nothing of the teacher.

    `matched` pairs blocks of student and teacher in each stack; `projections` bring the student's hidden states to the teacher's
    width, `stack-block` each: they learn with the student and are kept in checkpoints, not in the model.
    """

    learner: Learner
    hard: Pointwise
    teacher: Callable[[Batch], Lesson]
    settings: Distill
    matched: Sequence[Mapping[int, int]] = ()
    projections: nn.ModuleDict = field(default_factory=nn.ModuleDict)

    def collate(self, examples: Any, indices: Sequence[int], key: Key) -> Batch:
        return self.learner.collate(examples, indices, key)

    def outputs(self, model: nn.Module, batch: Batch) -> Sequence[torch.Tensor]:
        return self.learner.outputs(model, batch)

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B,) (1 - a) hard + a soft + w_h hidden + w_a attention, each summed over an example's units."""
        lesson, share = self.teacher(batch), self.settings.weight
        output = self.learner.forward(model, batch, **wanted(self.settings))
        hard, soft, units = self.compared(output, batch, lesson.rows)
        return (1 - share) * hard + share * soft + units * self.unlike(output, lesson, batch)

    def compared(self, output: Any, batch: Batch, taught: Sequence[torch.Tensor | Deferred]) -> Sequence[torch.Tensor]:
        """(B,) each: what the student loses against its labels and against its teacher's rows, and how many units that is."""
        choices = self.learner.choices(output, batch)
        if not choices:
            values = output.logits
            hard, soft = squared_error(values, batch.targets["labels"]), squared_error(values, whole(taught[0]))
            return hard, soft, torch.ones_like(hard)
        total = torch.zeros(len(batch.examples), 3, device=choices[0].owners.device)
        for part, rows in zip(choices, taught, strict=True):
            total = total.index_add(0, part.owners, part.costs(self.both, rows) * part.share)
        return total.unbind(dim=1)

    def both(self, logits: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """(S, 3) of choices: what each loses against its label and its teacher's row, and 1 for itself. The logits are asked for once."""
        hard = self.hard(logits, targets)
        soft = softened(logits, fitted(rows, logits.shape[1]), self.settings.temperature)
        return torch.stack([hard, soft, torch.ones_like(hard)], dim=1)

    def unlike(self, output: Any, lesson: Lesson, batch: Batch) -> torch.Tensor | float:
        """(B,) how far the insides of the student are from the teacher's: weighted means over the matched blocks."""
        total: torch.Tensor | float = 0.0
        for kind, weight, distance in (
            ("hidden", self.settings.hidden, hidden_distance),
            ("attention", self.settings.attention, attention_distance),
        ):
            if not weight:
                continue
            given, pairs = getattr(lesson, kind), sum(map(len, self.matched))
            for stack, (own, blocks) in enumerate(zip(stacks(output, kind), self.matched, strict=True)):
                for block, taught in blocks.items():
                    mine = own[block]
                    name = f"{stack}-{block}"
                    if kind == "hidden" and name in self.projections:
                        mine = self.projections[name](mine)
                    real = real_tokens(batch, stack, mine.shape[-2])
                    total = total + weight / pairs * distance(mine, given[stack][taught], real)
        return total


def wanted(settings: Distill) -> dict[str, bool]:
    """What a forward pass has to give beside its outputs."""
    return {f"output_{name}": True for kind, name in KINDS.items() if getattr(settings, kind)}
