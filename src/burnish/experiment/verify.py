"""Shows, on a user's own recipe and rows, that what Burnish leaves out and how it cuts batches changes nothing but rounding."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish import build
from burnish.core.verification import Check, Verification
from burnish.engine.batches import Budget
from burnish.engine.events import Listener
from burnish.engine.savings import Savings
from burnish.experiment import keeping, neighbors
from burnish.experiment.agreement import LIMITS, number_format
from burnish.experiment.progress import Progress
from burnish.experiment.trial import MOST_EXAMPLES, Setting, Trial, compared, left_out, moved_alike
from burnish.models.dropout import Dropout
from burnish.models.load import load_tokenizer
from burnish.recipe import Recipe
from burnish.recipe import load as load_recipe
from burnish.run.finding import without_watched
from burnish.run.training import Source

CUT = "micro-batches of 1 against the whole batch"
TOGETHER = "all savings of the recipe: on against off"
RECOMPUTED = "activation checkpointing: on against off"
IN_BACKWARD = "weights moved in backward against afterwards"

NEEDED: dict[str, tuple[str, ...]] = {"trimmed": ("unpadded",)}
"""Savings that work on others only: they are tried with these."""

MOST_ROWS = 256

Announce = Callable[[str], None]

TOTAL = len(Savings.model_fields) + 7
"""How often something is announced, for any recipe."""


def verify(recipe: Source, overrides: Sequence[str] = (), listeners: Sequence[Listener] = ()) -> Verification:
    """Trains `recipe` a few steps at a time, in every way that is to give the same, and says how far the results are apart.

    Nothing is written but in a temporary folder; rows for validation and test take no part where they decide nothing. Raises BurnishError
    where training would. A check that fails raises nothing: see `Verification.passed`.
    """
    began = time.monotonic()
    checked = load_recipe(recipe, overrides)
    progress = Progress(listeners, TOTAL)
    own, shortened = made_small(checked, build.gather(without_watched(checked)))
    setting = Setting(build.gather(without_watched(own)), progress.note, progress.tell)
    alike = Comparable.of(without_watched(own), setting)
    checks = [*trials(alike, setting, progress.begin), *kept(own, progress.begin)]
    precision = number_format(own)
    return Verification(checked.model.title, precision, LIMITS[precision], checks, time.monotonic() - began, [*shortened, *alike.notes])


def made_small(recipe: Recipe, gathered: build.Gathered) -> tuple[Recipe, list[str]]:
    """The recipe with few rows and few of them in a step, and what was changed for that; its task has learned from all rows what there
    is to learn of them (labels). All rows stay where the recipe says how they are drawn."""
    tokenizer = load_tokenizer(recipe.model)
    small = recipe.model_copy(update={"task": build.bind(recipe, gathered, tokenizer).task})
    notes, size, rows = [], recipe.train.batch_size, len(gathered.rows["train"])
    if size > MOST_EXAMPLES:
        small = with_train(small, batch_size=MOST_EXAMPLES)
        notes.append(f"steps of {MOST_EXAMPLES} examples instead of {size}")
    if rows > MOST_ROWS and recipe.data.balance is None and isinstance(recipe.data.train, str):
        small = small.model_copy(update={"data": recipe.data.model_copy(update={"limit": MOST_ROWS})})
        notes.append(f"{MOST_ROWS} of {rows:,} training rows")
    if recipe.engine.compile:
        small = small.model_copy(update={"engine": recipe.engine.model_copy(update={"compile": False})})
        notes.append("blocks not compiled")
    return small, [f"to be quick: {', '.join(notes)}"] if notes else []


@dataclass(frozen=True)
class Comparable:
    """A recipe whose dropout is the same in both ways that are compared: `cut`, where batches are cut in another way, and `saved`, where
    other savings are used; `notes` say what is not dropped for that."""

    cut: Recipe
    saved: Recipe
    notes: Sequence[str]

    @classmethod
    def of(cls, recipe: Recipe, setting: Setting) -> Comparable:
        """Masks that are drawn by key are the same anyway. In attention they are where batches are packed, and torch draws them elsewhere."""
        if recipe.engine.dropout == "torch":
            return cls.without(recipe, "engine.dropout=torch draws its masks")
        own = setting.parts(recipe)
        if not drops_in_attention(own):
            keyed, places = own.fast.keyed
            return (
                cls(recipe, recipe, [])
                if keyed == places
                else cls.without(recipe, f"torch draws them at {places - keyed} of {places} places")
            )
        calm = recipe.model_copy(update={"dropout": recipe.dropout.model_copy(update={"attention": 0.0})})
        parts = setting.parts(calm)
        keyed, places = parts.fast.keyed
        if keyed < places or drops_in_attention(parts):
            return cls.without(recipe, "torch draws some of its masks")
        note = "where savings are compared nothing is dropped in attention: in padded batches torch draws its masks, not by example"
        return cls(recipe if own.fast.unpadded else calm, calm, [note])

    @classmethod
    def without(cls, recipe: Recipe, why: str) -> Comparable:
        none = {"method": recipe.method.model_copy(update={"dropout": 0.0})} if getattr(recipe.method, "dropout", None) else {}
        still = recipe.model_copy(update={"dropout": Dropout(all=0.0), **none})
        return cls(still, still, [f"steps are compared without dropout: {why}, others where a batch is cut in another way"])


def drops_in_attention(parts: build.Parts) -> bool:
    return any(switch.place == "attention" and switch.probability > 0 for switch in parts.dropouts.switches)


def trials(alike: Comparable, setting: Setting, begin: Announce) -> Iterator[Check]:
    """A few steps in one way and in another; `begin` hears the name of each check before it is made."""
    plain = with_train(alike.cut, in_backward=False)  # which keeps no gradient to look at
    yield from cuts(plain, setting, begin)
    yield from savings(with_train(alike.saved, in_backward=False), setting, begin)
    yield from memory(alike.cut, setting, begin)
    begin(neighbors.NAME)
    # What is kept of an example is not computed anew, whatever its tokens are.
    yield neighbors.isolated(Trial.of(with_savings(plain, **{**dict(plain.engine.savings), "frozen_prefix": False}), setting))


def kept(recipe: Recipe, begin: Announce) -> Iterator[Check]:
    """What is written in a short run, and read again."""
    with tempfile.TemporaryDirectory(prefix="burnish-verify-") as place:
        begin(keeping.RESUMED)
        whole = keeping.unbroken(recipe, Path(place))
        yield keeping.resumed(recipe, Path(place), whole)
        begin(keeping.MERGED)
        yield from keeping.saved(whole)


def cuts(recipe: Recipe, setting: Setting, begin: Announce) -> Iterator[Check]:
    """The batch in one piece, and example for example."""
    begin(CUT)
    whole, single = (Trial.of(with_train(recipe, micro_batch=Budget(size, "ex")), setting).run() for size in (recipe.train.batch_size, 1))
    yield compared(CUT, single, whole, recipe)


def savings(recipe: Recipe, setting: Setting, begin: Announce) -> Iterator[Check]:
    """Each saving of the recipe by itself, then all of them, against none."""
    wanted = recipe.engine.savings
    off = dict.fromkeys(Savings.model_fields, False)
    names = [f"{name}: on against off" for name in Savings.model_fields]
    begin("training without savings")
    plain = Trial.of(with_savings(recipe, **off), setting).run()
    for key, name in zip(Savings.model_fields, names, strict=True):
        begin(name)
        if not getattr(wanted, key):
            yield Check(name, reason=f"not used: the recipe says engine.savings.{key}=false")
            continue
        needed = NEEDED.get(key, ())
        trial = Trial.of(with_savings(recipe, **off | dict.fromkeys((key, *needed), True)), setting)
        reason = left_out(trial, key)
        yield Check(name, reason=f"not used: {reason}") if reason else compared(name, trial.run(), plain, recipe)
    begin(TOGETHER)
    yield compared(TOGETHER, Trial.of(recipe, setting).run(), plain, recipe)


def memory(recipe: Recipe, setting: Setting, begin: Announce) -> Iterator[Check]:
    """What spares memory: blocks computed again in backward; and weights that move there, where the recipe wants it."""
    plain = with_train(recipe, in_backward=False)
    begin(RECOMPUTED)
    every = plain.train.checkpoint_blocks or 1
    if faults := recipe.method.faults(with_train(plain, checkpoint_blocks=every).train):
        yield Check(RECOMPUTED, reason=f"does not apply: {faults[0]}")
    else:
        on, off = (Trial.of(with_train(plain, checkpoint_blocks=value), setting).run() for value in (every, None))
        yield compared(RECOMPUTED, on, off, plain)
    if recipe.train.in_backward:
        begin(IN_BACKWARD)
        whole = with_train(plain, micro_batch=Budget(plain.train.batch_size, "ex"))
        yield moved_alike(IN_BACKWARD, Trial.of(recipe, setting).run(), Trial.of(whole, setting).run(), plain)


def with_train(recipe: Recipe, **settings: Any) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})


def with_savings(recipe: Recipe, **wanted: bool) -> Recipe:
    return recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"savings": Savings(**wanted)})})
