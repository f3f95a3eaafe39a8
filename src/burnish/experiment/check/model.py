"""Checks of a model that has made a step or two: its numbers, its first loss, where its gradient goes, and what its checkpoints take."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from burnish.core.errors import count
from burnish.core.sizes import elements
from burnish.engine.checkpoint import learned, optimizer_state, technique_state
from burnish.engine.runtime import undisturbed
from burnish.experiment.check.subject import Tried, places
from burnish.experiment.trial import named
from burnish.methods.select import OwnParameters
from burnish.report.inspection import Finding, judged, left_out
from burnish.report.wording import memory, percent

HIGH, FAR = (1.25, 0.5), (2.0, 1.0)
"""a x + b, the first loss of a head that starts at random for an expected x: from the first on it is worth a word, from the second on
something is wrong."""

LOW = 0.5
"""Share of the expected loss below which a head that starts at random knows what it cannot know."""

PRETRAINED, STRANGE = 1.05, 1.5
"""Times the loss of guessing above which a pretrained model knows nothing, and above which it is sure of what is wrong: its tokenizer is
another model's."""

IDLE = 0.01
"""Share of what learns that may stay without a gradient: parts of an architecture that a task does not use."""

LOOKED = 32
"""Tokens of a text by which it is looked whether a model sees ahead."""

SEEN = 1e-4
"""What a later token may change before it, for what it changes in its own place: rounding."""

FULL = 0.8
"""Share of the free disk from which on it is worth a word."""


def numbers(tried: Tried) -> Finding:
    """Weights, losses and gradients that are not numbers."""
    bad = [name for name, p in tried.parts.model.named_parameters() if p.is_floating_point() and not bool(torch.isfinite(p).all())]
    total = sum(1 for _ in tried.parts.model.parameters())
    failures = []
    if bad:
        failures.append(
            f"{count(len(bad), 'parameter')} of {total:,} hold NaN or infinity ({', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''})"
        )
    wrong = [place for place, loss in enumerate(tried.losses) if not math.isfinite(loss)]
    rows = [tried.parts.gathered.rows["train"][tried.parts.examples["train"].rows[tried.batch[place]]] for place in wrong]
    if rows:
        failures.append(
            f"the loss of {count(len(rows), 'example')} of {len(tried.batch)} in the first batch is not a number: {places(rows)}"
        )
    if tried.fault is not None and not failures:
        failures.append(str(tried.fault).partition("\n")[0])
    mend = "Load weights that are whole, in float32; look at the rows; try train.precision=fp32."
    return judged(
        f"{count(total, 'parameter')}, the losses of {count(len(tried.batch), 'example')}, the first steps",
        failures,
        [],
        mend,
        parameters=bad,
    )


def expected(tried: Tried) -> tuple[float, str] | None:
    """The loss of a model that knows nothing, in nats, and how it comes about; None where that cannot be said."""
    parts, examples = tried.parts, tried.parts.examples["train"]
    labels = len(getattr(parts.learner, "labels", ()))
    chosen = parts.recipe.task.chooses
    if chosen in ("row", "word"):
        return math.log(labels), f"ln({labels} labels)"
    if chosen == "labels":
        return math.log(2), "ln(2) for each label"
    if chosen == "place":
        return float(np.mean(np.log([examples.lengths[index] for index in tried.batch]))), "ln(tokens of a window)"
    if chosen == "number":
        targets = np.asarray(examples.targets["labels"])[tried.batch]
        return float(np.mean(np.square(targets))), "the mean square of the numbers"
    size = len(parts.model.get_input_embeddings().weight)  # type: ignore[operator]
    whole = getattr(parts.model.get_input_embeddings().weight, "whole_shape", (size,))[0]  # type: ignore[operator]
    return math.log(whole), f"ln({whole:,} tokens)"


def first_loss(tried: Tried) -> Finding:
    """The loss before the first step, against that of guessing: a head that starts at random is as good, pretrained ones are better."""
    guess = expected(tried)
    if guess is None or not math.isfinite(tried.loss):
        return left_out("the first loss is not a number")
    value, why = guess
    fresh = tried.parts.recipe.model.fresh or bool(set(tried.parts.anatomy.fresh) & set(tried.parts.anatomy.head))
    kind = "starts at random" if fresh else "is pretrained"
    seen = f"{tried.loss:.3f} over {count(len(tried.batch), 'example')}; guessing costs {why} = {value:.3f}, and the head {kind}"
    failures, warnings = [], []
    if fresh:
        if tried.loss > FAR[0] * value + FAR[1]:
            failures.append(f"{tried.loss:.3f} is far above {value:.3f}: the model is sure of what it cannot know")
        elif tried.loss > HIGH[0] * value + HIGH[1]:
            warnings.append(f"{tried.loss:.3f} is above {value:.3f}: the model begins worse than by guessing")
        elif tried.loss < LOW * value and tried.parts.recipe.task.chooses != "number":
            warnings.append(f"{tried.loss:.3f} is far below {value:.3f}: does a text hold its own label?")
    elif tried.loss > PRETRAINED * value:
        sentence = f"{tried.loss:.3f} is more than the {value:.3f} of guessing"
        if tried.parts.recipe.task.chooses != "token":
            warnings.append(f"{sentence}: was this head trained on other labels?")
        elif tried.loss > STRANGE * value:
            failures.append(f"{sentence}: weights and tokenizer do not belong together")
        else:
            warnings.append(f"{sentence}: were these weights ever trained?")
    mend = "Look at the decoded rows below, and at the model's files."
    return judged(seen, failures, warnings, mend, loss=tried.loss, expected=value, fresh=fresh)


def gradients(tried: Tried) -> Finding:
    """Whether the gradient comes to everything that learns, and to nothing that does not."""
    if tried.fault is not None:
        return left_out("a step was not made: its numbers are not finite")
    own = named(tried.step)
    unreached = sorted(tried.asked - tried.reached)
    size = sum(elements(own[name]) for name in tried.asked)
    idle = sum(elements(own[name]) for name in unreached) / max(size, 1)
    frozen = sum(1 for p in tried.parts.model.parameters() if not any(p is mine for mine in own.values()))
    failures, warnings = list[str](), list[str]()
    if unreached:
        sentence = f"{count(len(unreached), 'parameter')} that should learn ({percent(idle)}) get no gradient: {some(unreached)}"
        (failures if idle > IDLE else warnings).append(sentence)
    if tried.leaked:
        failures.append(f"{count(len(tried.leaked), 'parameter')} get a gradient and are not to learn: {some(sorted(tried.leaked))}")
    if tried.moved:
        failures.append(f"{count(len(tried.moved), 'frozen parameter')} changed within the first steps: {some(sorted(tried.moved))}")
    waiting = len(own) - len(tried.asked)
    later = f", {count(waiting, 'parameter')} learn later" if waiting else ""
    seen = f"{len(tried.reached & tried.asked):,} of {count(len(tried.asked), 'parameter')} that learn reached; {count(frozen, 'frozen parameter')} left alone{later}"
    mend = "The model does not use them for this task, or something cuts the gradient off: freeze them, or report it."
    return judged(seen, failures, warnings, mend, unreached=unreached, leaked=sorted(tried.leaked), moved=sorted(tried.moved))


def ahead(tried: Tried) -> Finding:
    """Whether a model that is to write sees the token that it is to write next: an encoder does, and learns to copy it.

    The last token of a text is exchanged: where no token sees later ones, no other position gives anything else than before.
    """
    parts = tried.parts
    if parts.learner.auto_class != "AutoModelForCausalLM":
        return left_out(f"task={parts.recipe.task.name} reads whole texts")
    ids = list(parts.learner.view(parts.examples["train"], tried.batch[0]).strips[0].ids)[:LOOKED]
    if len(ids) < 2:
        return left_out("a text of one token has nothing to look ahead to")
    other = next(number for number in range(parts.tokenizer.vocab_size) if number != ids[-1])
    with undisturbed(parts.model), torch.no_grad(), parts.runtime.autocast():
        one, two = (
            parts.model(input_ids=torch.tensor([text], device=parts.runtime.device)).logits.float() for text in (ids, [*ids[:-1], other])
        )
    change = (one - two).abs()
    before, own = float(change[:, :-1].max()), float(change[:, -1].max())
    seen = f"exchanging the last of {len(ids)} tokens changes what is said there by {own:.2g}, and before it by {before:.2g}"
    failures = ["the model sees the token that it is to write: it learns to copy, and will write nonsense"] if before > SEEN * own else []
    return judged(seen, failures, [], "Take a model that was made to write (a decoder); of an encoder, task=fill.", before=before, own=own)


def some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def disk(tried: Tried) -> Finding:
    """What checkpoints and the model take on the disk of the run's folder, against what is free there."""
    parts, settings = tried.parts, tried.parts.recipe.train
    step = tried.step
    tensors = [*learned(parts.model, step.optimizer).values(), *optimizer_state(step.optimizer)[0].values()]
    tensors += technique_state(step.techniques)[0].values()
    checkpoint = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    # A new one is whole before the oldest goes; the best is kept beside them.
    kept = settings.save_limit + 1 + (settings.keep_best is not None)
    own = isinstance(parts.recipe.method, OwnParameters) or parts.base_files is None
    model = parts.weights["float32_bytes" if parts.recipe.model.quantize is None else "bytes"] if own else checkpoint
    needed = kept * checkpoint + model
    place = Path(parts.recipe.run or "runs").expanduser().absolute()
    while not place.is_dir():
        place = place.parent
    free = free_bytes(place)
    seen = f"{kept} checkpoints of {memory(checkpoint)} and the model of {memory(model)}; {memory(free)} free at {place}"
    sentence = f"up to {memory(needed)} are needed and {memory(free)} free at {place}"
    mend = "Free some space, name another disk in run=FOLDER, or lower train.save_limit."
    closed = [] if writable(place) else [f"nothing can be written to {place}"]
    return judged(
        seen,
        [*closed, *([sentence] if needed > free else [])],
        [sentence] if FULL * free < needed <= free else [],
        mend,
        needed=needed,
        free=free,
        checkpoint=checkpoint,
    )


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


CHECKS: Mapping[str, Callable[[Tried], Finding]] = {
    "numbers": numbers,
    "first loss": first_loss,
    "gradients": gradients,
    "next token unseen": ahead,
    "disk": disk,
}
