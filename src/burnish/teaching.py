"""A teacher for a student: found, opened, checked against the student's task and tokens, and asked; its answers are kept where they can be.

Legend: N examples, S choices, C classes.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.core.deferred import whole
from burnish.core.errors import ModelError, count
from burnish.core.protocols import Batch, Key, Learner
from burnish.data import cache
from burnish.data.encode import Encoded, Ragged
from burnish.losses.distill import Distill
from burnish.models import load
from burnish.models.spec import Model
from burnish.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from burnish.engine.runtime import Runtime
    from burnish.losses.distillation import Distilled, Lesson
    from burnish.losses.likelihood import Pointwise

MOST_BYTES = 2 * 10**9
"""Of kept answers: what is more is asked anew at each step."""

Note = Callable[[str], None]
Tell = Callable[[str, int, int], None]


@dataclass
class Pupil:
    """What a teacher has to know of its student: the model with its learner and tokenizer, its examples and where it computes."""

    model: Any
    learner: Learner
    tokenizer: Any
    examples: Any
    runtime: Runtime


@dataclass
class Teaching:
    """All that distillation adds to a run: whom the student asks, what is matched, and what to say of it."""

    settings: Distill
    ask: Callable[[Batch], Lesson]
    matched: Sequence[Mapping[int, int]]
    projections: torch.nn.ModuleDict
    notes: list[str]

    def objective(self, learner: Learner, hard: Pointwise) -> Distilled:
        """What the student makes smaller; `hard` is the loss against the labels."""
        from burnish.losses.distillation import Distilled

        return Distilled(learner, hard, self.ask, self.settings, self.matched, self.projections)


@dataclass
class Teacher:
    """A model in evaluation mode, without gradients. `order` puts its labels in the student's order; `takes` are inputs that it knows."""

    model: Any
    learner: Learner
    settings: Distill
    order: list[int] | None = None
    takes: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.model.requires_grad_(False)
        self.model.eval()
        whole = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        self.takes = frozenset(inspect.signature(whole.forward).parameters)

    def output(self, batch: Batch) -> Any:
        """What the model gives for a batch, its labels in the student's order."""
        import torch

        from burnish.losses.distillation import wanted

        known = {name: tensor for name, tensor in batch.inputs.items() if name != "token_type_ids" or name in self.takes}
        with torch.no_grad():
            output = self.learner.forward(self.model, replace(batch, inputs=known), **wanted(self.settings))
        if self.order is not None:
            output.logits = output.logits[..., self.order]
        return output

    def __call__(self, batch: Batch) -> Lesson:
        from burnish.losses.distillation import Lesson, said, stacks

        output, settings = self.output(batch), self.settings
        rows = [part.rows for part in said(self.learner, output, batch)]
        hidden, attention = ((stacks(output, kind) if getattr(settings, kind) else ()) for kind in ("hidden", "attention"))
        return Lesson(rows, hidden, attention)

    # As an objective, for the engine that reads whole parts of the data

    def collate(self, examples: Any, indices: Sequence[int], key: Key) -> Batch:
        return self.learner.collate(examples, indices, key)

    def outputs(self, model: Any, batch: Batch) -> list[torch.Tensor]:
        """What the teacher said of each example, packed."""
        from burnish.losses.distillation import said

        parts = said(self.learner, self.output(batch), batch)
        return [packed([whole(part.rows[part.owners == place]).float() for part in parts]) for place in range(len(batch.examples))]

    def losses(self, model: Any, batch: Batch) -> torch.Tensor:
        return self.learner.losses(model, batch)


@dataclass
class Remembered:
    """Answers of a teacher that is not asked again, by example."""

    kept: Ragged
    device: Any

    def __call__(self, batch: Batch) -> Lesson:
        import torch

        from burnish.losses.distillation import Lesson, fitted

        answers = [unpacked(self.kept[index]) for index in batch.examples]
        rows = []
        for parts in zip(*answers, strict=True):
            width = max(part.shape[1] for part in parts)
            rows.append(torch.cat([fitted(torch.from_numpy(part), width) for part in parts]).to(self.device))
        return Lesson(rows)


def packed(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Matrices (S, C) in one row of numbers: how many they are, S and C of each, then their values. Last columns of -inf are left out."""
    import torch

    shorter = []
    for part in parts:
        used = (part > float("-inf")).any(dim=0).nonzero()
        shorter.append(part[:, : int(used[-1]) + 1] if len(used) else part[:, :1])
    sizes = [float(size) for part in shorter for size in part.shape]
    header = torch.tensor([float(len(shorter)), *sizes], device=parts[0].device)
    return torch.cat([header, *(part.flatten() for part in shorter)])


def unpacked(row: np.ndarray) -> list[np.ndarray]:
    """The matrices that `packed` put together."""
    number = int(row[0])
    sizes = row[1 : 1 + 2 * number].astype(int).reshape(number, 2)
    found, place = [], 1 + 2 * number
    for height, width in sizes:
        found.append(np.array(row[place : place + height * width]).reshape(height, width))
        place += height * width
    return found


def teaching(settings: Distill, recipe: Recipe, pupil: Pupil, note: Note, tell: Tell) -> Teaching:
    """The teacher that the recipe names, checked against its student, its answers ready. Raises ModelError where the two do not fit."""
    note(f"loading the teacher {settings.teacher}")
    teacher = opened(settings, recipe, pupil)
    matched, projections = matching(teacher, pupil, recipe.train.seed)
    name = Path(settings.teacher).name if Path(settings.teacher).is_dir() else settings.teacher
    size = sum(parameter.numel() for parameter in teacher.model.parameters())
    notes = [f"learns from the teacher {name} ({size:,} parameters): {settings}"]
    reason = asked_anew(settings, recipe, pupil.learner, pupil.examples)
    kept = answers(teacher, pupil, recipe.train.precision, note, tell) if reason is None else reason
    if isinstance(kept, str):
        return Teaching(settings, teacher, matched, projections, [*notes, f"the teacher is asked anew at every step: {kept}"])
    notes.append(f"the teacher's {len(kept):,} answers are kept: it is not asked again")
    return Teaching(settings, Remembered(kept, pupil.runtime.device), matched, projections, notes)


def opened(settings: Distill, recipe: Recipe, pupil: Pupil) -> Teacher:
    """The teacher's model, on the student's device. Raises ModelError where task, labels, tokens or length differ."""
    folder = Path(settings.teacher)
    if (folder / "recipe.yaml").is_file():
        model, tokenizer = of_run(folder, recipe, pupil.learner, pupil.runtime.device.type)
    else:
        plain = Model(name=settings.teacher, dtype=recipe.model.dtype, trust_remote_code=recipe.model.trust_remote_code)
        tokenizer = load.load_tokenizer(plain)
        auto = pupil.learner.auto_class
        model, fresh = load.load_model(plain, auto, tokenizer, 0)
        if fresh:
            raise ModelError(
                f"`distill.teacher`: {settings.teacher} was not trained for this task: {count(len(fresh), 'parameter')} of its "
                f"{auto} are in no file ({fresh[0]}, ...). Train it first with Burnish and name its run."
            )
    require_same_tokens(settings.teacher, tokenizer, pupil.tokenizer)
    limit, longest = load.length_limit(tokenizer, model), int(pupil.examples.inputs["input_ids"].lengths.max())
    if limit < longest:
        raise ModelError(f"`distill.teacher`: it reads {limit} tokens at most, the rows have up to {longest}. Set data.max_length={limit}.")
    order = label_order(settings.teacher, model.config, pupil.learner.config)
    return Teacher(model.to(pupil.runtime.device), pupil.learner, settings, order)


def of_run(folder: Path, recipe: Recipe, learner: Learner, device: str) -> tuple[Any, Any]:
    """Model and tokenizer of a finished run. Raises ModelError where it learned another task."""
    import transformers
    import yaml

    own = Recipe.model_validate(yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8")))
    kinds = [(task.name, getattr(task, "problem", "")) for task in (own.task, recipe.task)]
    if kinds[0] != kinds[1]:
        taught, learned = (" ".join(part for part in kind if part) for kind in kinds)
        raise ModelError(f"`distill.teacher`: the run {folder} learned to {taught}, the student is to {learned}.")
    spec = own.model.model_copy(update={"name": str(folder / "model")})
    with load.told(spec, "teacher"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
        auto = getattr(transformers, learner.auto_class)
        reopened = partial(load.reopened, auto=auto, quantize=spec.quantize, device=device, trust_remote_code=spec.trust_remote_code)
        model = own.method.open(folder / "model", reopened)
    return model, tokenizer


def require_same_tokens(name: str, teacher: Any, student: Any) -> None:
    """Raises ModelError unless both tokenizers give the same ids: the teacher is asked about the student's ids."""
    texts = [load.PROBE, *(student.decode([token]) for token in range(min(load.PROBED, len(student))))]
    ids = [tokenizer(texts, add_special_tokens=True, verbose=False)["input_ids"] for tokenizer in (teacher, student)]
    if len(teacher) == len(student) and ids[0] == ids[1]:
        return
    raise ModelError(
        f"`distill.teacher`: {name} cuts text into other tokens than the student ({len(teacher):,} and {len(student):,} known): it is asked "
        "about the student's own tokens, so that both need the same tokenizer. Take a student and a teacher of one family."
    )


def label_order(name: str, teacher: Any, student: Mapping[str, Any]) -> list[int] | None:
    """Where each of the student's labels stands in the teacher; None where they stand alike or the task has none."""
    wanted = student.get("id2label")
    if wanted is None:
        return None
    known = {str(label): place for place, label in teacher.id2label.items()}
    labels = [str(label) for label in wanted.values()]
    if len(labels) == len(known) == 1:  # a number: there is nothing to take for something else
        return None
    if set(labels) != set(known):
        raise ModelError(
            f"`distill.teacher`: {name} knows other labels than the student: {', '.join(sorted(known))}; expected "
            f"{', '.join(sorted(labels))}. Write the right names as id2label and label2id into its config.json, or train it on the same labels."
        )
    order = [int(known[label]) for label in labels]
    return None if order == list(range(len(order))) else order


def matching(teacher: Teacher, pupil: Pupil, seed: int) -> tuple[list[dict[int, int]], torch.nn.ModuleDict]:
    """Which blocks are matched in each stack, and projections where widths differ. Raises ModelError where shapes do not fit."""
    import torch

    from burnish.engine.runtime import undisturbed
    from burnish.losses.distillation import evenly_matched, stacks, wanted

    settings, projections = teacher.settings, torch.nn.ModuleDict()
    if not wanted(settings):
        return [], projections
    if settings.attention:
        for model in (teacher.model, pupil.model):
            give_attention(model)
    shortest = int(np.argmin(pupil.examples.lengths))
    batch = pupil.runtime.place(pupil.learner.collate(pupil.examples, [shortest], (seed, 0)))
    with undisturbed(pupil.model):
        own, taught = pupil.learner.forward(pupil.model, batch, **wanted(settings)), teacher.output(batch)
    matched: list[dict[int, int]] = []
    for kind in ("hidden", "attention"):
        if not getattr(settings, kind):
            continue
        mine, theirs = stacks(own, kind), stacks(taught, kind)
        require_blocks(kind, mine, theirs)
        matched = [settings.layers or evenly_matched(len(one), len(other)) for one, other in zip(mine, theirs, strict=True)]
        for stack, blocks in enumerate(matched):
            for block, other in blocks.items():
                pair = fitting(kind, (block, mine[stack]), (other, theirs[stack]))
                if kind == "hidden" and pair[0].shape[-1] != pair[1].shape[-1]:
                    with torch.random.fork_rng(devices=[]):
                        torch.manual_seed(seed + block)
                        projections[f"{stack}-{block}"] = torch.nn.Linear(pair[0].shape[-1], pair[1].shape[-1], bias=False)
    return matched, projections.to(pupil.runtime.device)


def give_attention(model: Any) -> None:
    """Makes a model compute attention in the open, so that its maps can be had. Raises ModelError where it cannot."""
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    try:
        with load.quiet():
            whole.set_attn_implementation("eager")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"`distill.attention`: {type(whole).__name__} cannot show its attention ({error}).") from error


def require_blocks(kind: str, mine: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> None:
    if len(mine) != len(theirs) or not all(map(len, [*mine, *theirs])):
        raise ModelError(
            f"`distill.{kind}`: student and teacher have {len(mine)} and {len(theirs)} stacks of blocks, or do not show what they "
            "compute: their insides cannot be compared. Leave it out."
        )


def fitting(kind: str, mine: tuple[int, Sequence[Any]], theirs: tuple[int, Sequence[Any]]) -> list[Any]:
    """The tensors of two blocks to be matched. Raises ModelError where a block is not there or they cannot be compared."""
    for (block, tensors), whose in ((mine, "the student"), (theirs, "the teacher")):
        if block >= len(tensors):
            raise ModelError(f"`distill.layers`: {whose} has no block {block}, it has {count(len(tensors), 'block')} (from 0).")
    pair = [tensors[block] for block, tensors in (mine, theirs)]
    shapes = [tensor.shape[:-1] if kind == "hidden" else tensor.shape for tensor in pair]
    if shapes[0] != shapes[1]:
        what = "heads and tokens" if kind == "attention" else "tokens"
        raise ModelError(
            f"`distill.{kind}`: the {what} of student and teacher differ ({tuple(shapes[0])} and {tuple(shapes[1])}): they cannot be compared. "
            "Leave it out, or take a student with as many heads and no virtual tokens."
        )
    return pair


def asked_anew(settings: Distill, recipe: Recipe, learner: Learner, examples: Any) -> str | None:
    """Why it would be wrong or useless to keep the teacher's answers; None where it is not."""
    duration, size = recipe.train.duration, recipe.train.batch_size
    if settings.hidden or settings.attention:
        return "hidden states and attention take too much room to keep"
    if recipe.data.augment is not None or learner.redrawn:
        return "what the student reads is drawn anew each time"
    if not duration.timed and size * duration.steps(math.ceil(len(examples) / size)) < len(examples):
        return "the run reads less than all rows once"
    return None


def expected_bytes(teacher: Teacher, pupil: Pupil) -> float:
    """Room that all answers take, going by the example that says most."""
    weights = np.asarray(pupil.examples.weights)
    largest = int(weights.argmax())
    with pupil.runtime.autocast():
        batch = pupil.runtime.place(pupil.learner.collate(pupil.examples, [largest], (0,)))
        row = teacher.outputs(teacher.model, batch)[0]
    return 4 * len(row) / max(float(weights[largest]), 1.0) * float(weights.sum())


def answers(teacher: Teacher, pupil: Pupil, precision: str, note: Note, tell: Tell) -> Ragged | str:
    """(N,) packed answers of the teacher, from the cache where this teacher has read these examples before; or why they are too many."""
    from burnish.engine.inference import Engine

    name = f"teacher-{key(teacher, pupil.examples, precision)}"
    size = 0.0 if (cache.root() / name).is_dir() else expected_bytes(teacher, pupil)
    if size > MOST_BYTES:
        return f"its answers would take about {size / 1e9:,.1f} GB, more than {MOST_BYTES / 1e9:g} GB"

    def ask() -> Encoded:
        engine = Engine(teacher.model, teacher, pupil.runtime, tell=lambda what, done, total: tell(f"{what} by the teacher", done, total))
        found = engine.outputs(pupil.examples)
        offsets = np.cumsum([0, *map(len, found)])
        return Encoded(
            {}, {"answers": Ragged(np.concatenate(found), offsets)}, np.asarray(pupil.examples.weights), np.asarray(pupil.examples.rows)
        )

    kept = cache.remembered(name, ask, note).targets["answers"]
    assert isinstance(kept, Ragged)
    return kept


def key(teacher: Teacher, examples: Encoded, precision: str) -> str:
    """A digest of all that answers depend on: the teacher's weights and configuration, the examples, and the code that asks."""
    import torch

    facts = [cache.code(), Path(__file__).read_text(encoding="utf-8"), precision, str(teacher.order), teacher.model.config.to_json_string()]
    digest = hashlib.sha256("\n".join(facts).encode())
    for name, tensor in sorted(teacher.model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for name, column in sorted({**examples.inputs, **examples.targets}.items()):
        arrays = (column.values, column.offsets) if isinstance(column, Ragged) else (np.asarray(column),)
        digest.update(name.encode() + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
    return digest.hexdigest()[:32]
