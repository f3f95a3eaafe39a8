"""Rows as the model gets them, without the model: what `burnish data show` shows. No weights are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from burnish import build
from burnish.core.errors import DataError
from burnish.core.protocols import Examples, Learner, Row
from burnish.core.view import Strip, View
from burnish.data import mixture
from burnish.data.augment.rows import Rewording
from burnish.data.pieces import readings, special_ids
from burnish.engine.events import Listener, Working
from burnish.models import load
from burnish.models.skeleton import skeleton
from burnish.recipe import Recipe
from burnish.recipe import load as load_recipe
from burnish.report.tokens import Piece, Shown, ShownExample, ShownStrip, Summary

ENDLESS = 10**9
"""A length that no row has, for seeing what is cut."""
MOST_EXAMPLES = 3
"""Examples (windows) that are shown of one row."""
ENDING = 4
"""Supervised tokens among which the end token is looked for."""
MOST_ALIGNED = 4000
"""Tokens beyond which a middle that differs is not aligned token by token, which takes time that grows with their square."""


@dataclass(frozen=True)
class Part:
    """Rows of a part of the data, encoded as training would encode them."""

    name: str
    recipe: Recipe
    learner: Learner
    rows: list[Row]
    examples: Examples
    units: np.ndarray
    """(R,) supervised units of each row."""

    @property
    def owners(self) -> np.ndarray:
        """(N,) the row of each example."""
        return np.asarray(self.examples.rows)


def show(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    overrides: Sequence[str] = (),
    part: str = "train",
    rows: int = 5,
    row: int | None = None,
    listeners: Sequence[Listener] = (),
    augmented: bool = False,
) -> Shown:
    """The first `rows` rows of a part, or the row with number `row` of its file, and what the whole part comes to.

    With `augmented` each is followed by what training makes of it in the first epoch, in other words.
    Rows in which nothing is supervised are shown beside them, and the result's `fault` says what training would say. Raises
    BurnishError for whatever else training would refuse, and where there is no such part or row.
    """

    def work(what: str, done: int, total: int) -> None:
        for listener in listeners:
            listener(Working(what, done, total))

    checked = load_recipe(recipe, overrides)
    gathered = build.gather(checked)
    found = open_part(checked, gathered, part, work)
    empty = np.flatnonzero(found.units == 0).tolist()
    wanted = list(range(min(rows, len(found.rows)))) if row is None else numbered(gathered, part, row)
    wanted += [index for index in empty[:rows] if row is None and index not in wanted]
    anew = in_other_words(found, gathered, work) if augmented else None
    return Shown(
        model=checked.model.name,
        task=checked.task.name,
        summary=summary(found, source_of(checked, part)),
        examples=[
            example for index in wanted for example in (shown_row(found, index) if anew is None else shown_twice(found, index, anew))
        ],
        warnings=gathered.warnings,
        fault=fault(found) if empty else "",
    )


def open_part(recipe: Recipe, gathered: build.Gathered, name: str, tell: build.Tell) -> Part:
    """The rows of a part and their examples. Raises DataError where the recipe has no such part."""
    if name not in gathered.rows:
        if name != "test" or recipe.data.test is None:
            known = ", ".join([*gathered.rows, *(["test"] if recipe.data.test is not None and "test" not in gathered.rows else [])])
            raise DataError(f"the recipe has no {name} rows (its parts: {known}).")
        gathered.rows[name] = build.usable_rows(recipe, str(recipe.data.test), gathered.warnings)
    rows = gathered.rows[name]
    tokenizer = load.load_tokenizer(recipe.model)
    learner = build.bind(recipe, gathered, tokenizer)
    bones = skeleton(recipe.model, learner.auto_class, tokenizer, learner.config)
    tokenizer.model_max_length = build.allowed_length(recipe, tokenizer, bones)
    examples = build.tokens(recipe, learner, rows, ignore, tell)
    units = np.bincount(examples.rows, weights=examples.weights, minlength=len(rows))
    return Part(name, recipe, learner, rows, examples, units)


@dataclass(frozen=True)
class InOtherWords:
    """What the first epoch makes of the training rows: the examples of the step in which each example is first learned from."""

    examples: Examples
    rows: list[Row]
    places: Mapping[int, tuple[int, int]]
    """Example -> its first step, and where in that it stands."""

    batch: Callable[[int], list[int]]
    make: Rewording

    def of(self, row: Row) -> list[tuple[int, Any, int]]:
        """Of each example of a row its step, and where it then is: the examples of the step, and which it is. None for examples that
        the first epoch does not draw."""
        number = next((number for number, one in enumerate(self.rows) if one is row), -1)
        found = []
        for example in np.flatnonzero(np.asarray(self.examples.rows) == number).tolist():
            if example in self.places:
                step, place = self.places[example]
                prepared, chosen = self.make(self.batch(step), step)
                found.append((step, prepared, int(chosen[place])))
        return found


def in_other_words(part: Part, gathered: build.Gathered, tell: build.Tell) -> InOtherWords:
    """Raises DataError where the part is not that of training, or nothing is to be changed."""
    recipe = part.recipe.model_copy(update={"task": part.learner.task})
    if part.name != "train" or recipe.data.augment is None:
        what = "the recipe has no data.augment" if recipe.data.augment is None else f"{part.name} rows are never changed"
        raise DataError(f"{what}: there is nothing to show beside the rows.")
    build.require_rewording(recipe)
    examples, rows = build.encoded(recipe, part.learner, part.rows, ignore, ignore)
    taught = build.Taught(recipe, part.learner, replace(gathered, rows={**gathered.rows, "train": rows}), {"train": examples})
    order, make = build.order(taught), build.rewording(taught, "cpu", tell)
    assert make is not None, "the recipe has data.augment"
    places: dict[int, tuple[int, int]] = {}
    for step in range(order.steps_per_epoch):
        for place, example in enumerate(order.batch(step)):
            places.setdefault(int(example), (step, place))
    return InOtherWords(examples, rows, places, order.batch, make)


def shown_twice(part: Part, index: int, anew: InOtherWords) -> list[ShownExample]:
    """A row as it is, then as the first epoch has it."""
    shown, views = (
        shown_row(part, index),
        [part.learner.view(part.examples, place) for place in np.flatnonzero(part.owners == index).tolist()],
    )
    found = anew.of(part.rows[index])
    if not found:
        return [replace(one, place=f"{one.place}: not drawn in the first epoch") for one in shown]
    if len(found) != 1 or len(views) != 1:
        return [replace(one, place=f"{one.place}: read in windows, not changed") for one in shown]
    step, examples, place = found[0]
    view = part.learner.view(examples, place)
    if all(list(new.ids) == list(old.ids) for new, old in zip(view.strips, views[0].strips, strict=True)):
        return [replace(shown[0], place=f"{shown[0].place}: as it is in step {step + 1}")]
    made = shown_example(part.learner.tokenizer, f"{part.rows[index].place}: in other words in step {step + 1}", view, view, True)
    strips = [
        replace(strip, pieces=marked(strip.pieces, new.ids, old.ids))
        for strip, new, old in zip(made.strips, view.strips, views[0].strips, strict=True)
    ]
    return [*shown, replace(made, strips=strips)]


def marked(pieces: Sequence[Piece], new: Sequence[int], old: Sequence[int]) -> list[Piece]:
    """The pieces, with a mark on those of which some token is not in the old text at its place."""
    fresh = np.zeros(len(new), dtype=bool)
    for kind, _, _, start, end in SequenceMatcher(None, list(old), list(new), autojunk=False).get_opcodes():
        fresh[start:end] |= kind != "equal"
    ends = np.cumsum([piece.tokens for piece in pieces])
    return [replace(piece, changed=bool(fresh[end - piece.tokens : end].any())) for piece, end in zip(pieces, ends, strict=True)]


def ignore(*facts: Any) -> None:
    """Takes what is told while rows are encoded, for a listener that has nothing to show it on."""


def source_of(recipe: Recipe, part: str) -> str:
    """Where the rows of a part are from, in short: `10% of rows.csv`."""
    train, wanted = recipe.data.train, getattr(recipe.data, part)
    rows = Path(train).name if isinstance(train, str) else mixture.titled(train)
    shared = isinstance(wanted, int) or str(wanted).endswith("%")
    return rows if part == "train" else f"{wanted} of {rows}" if shared else Path(str(wanted)).name


def numbered(gathered: build.Gathered, part: str, number: int) -> list[int]:
    """The row with a number. Raises DataError that says where it is instead."""
    found = [index for index, row in enumerate(gathered.rows[part]) if row.number == number]
    if found:
        return found
    elsewhere = [name for name, rows in gathered.rows.items() if any(row.number == number for row in rows)]
    hint = f" It is among the {elsewhere[0]} rows: --part {elsewhere[0]}." if elsewhere else ""
    raise DataError(f"there is no row {number} among the {len(gathered.rows[part]):,} {part} rows.{hint}")


def fault(part: Part) -> str:
    """What training says to rows in which nothing is supervised; nothing where the recipe leaves them out."""
    try:
        build.encoded(part.recipe, part.learner, part.rows, ignore, ignore)
    except DataError as error:
        return str(error)
    return ""


def summary(part: Part, source: str) -> Summary:
    """Counts over every example of a part."""
    examples, learner = part.examples, part.learner
    tokens, ended = 0, set[int]()
    ends = special_ids(learner.tokenizer)
    targets = False
    for index in range(len(examples)):
        view = learner.view(examples, index)
        targets = targets or bool(view.target)
        for strip in view.strips:
            learned = np.flatnonzero(np.asarray(strip.supervised))
            tokens += len(learned)
            if ends_supervised(learner.tokenizer, [strip.ids[place] for place in learned[-ENDING:]], ends):
                ended.add(int(part.owners[index]))
    return Summary(
        part=part.name,
        source=source,
        max_length=int(learner.tokenizer.model_max_length),
        rows=len(part.rows),
        examples=len(examples),
        tokens=int(np.sum(examples.lengths)),
        supervised=None if targets and not tokens else tokens,
        cut=examples.cut,
        ended=len(ended) if learner.generation else None,
        empty=int((part.units == 0).sum()),
    )


def ends_supervised(tokenizer: Any, last: Sequence[int], ends: set[int]) -> bool:
    """Whether the last supervised token, the line break that a chat template writes behind it aside, is one that ends a text."""
    return next((token in ends for token in reversed(last) if token in ends or tokenizer.decode([token]).strip()), False)


def shown_row(part: Part, index: int) -> list[ShownExample]:
    """The examples of a row; of many windows those in which most is supervised."""
    row, learner = part.rows[index], part.learner
    own = np.flatnonzero(part.owners == index).tolist()
    if not own:
        return [ShownExample(f"{row.place}: no example is made of it", [])]
    views = [learner.view(part.examples, place) for place in own]
    whole = uncut(learner, row)
    chosen = sorted(sorted(range(len(own)), key=lambda number: -supervised(views[number]))[:MOST_EXAMPLES])
    made = []
    for number in chosen:
        place = row.place if len(own) == 1 else f"{row.place}, example {number + 1} of {len(own)}"
        long = whole[number] if len(whole) == len(own) else views[number]
        made.append(shown_example(learner.tokenizer, place, views[number], long, bool(part.examples.weights[own[number]])))
    return made


def supervised(view: View) -> int:
    """Tokens of an example whose prediction is learned."""
    return sum(int(np.sum(strip.supervised)) for strip in view.strips)


def uncut(learner: Learner, row: Row) -> list[View]:
    """A row's examples as they were if nothing limited their length."""
    with endless(learner) as free:
        examples = free.encode([row])
        return [free.view(examples, index) for index in range(len(examples))]


@contextmanager
def endless(learner: Any) -> Iterator[Any]:
    """The learner with every limit of length lifted: the tokenizer's, and the task's own, whose names end with `_length`."""
    tokenizer, task = learner.tokenizer, learner.task
    limits = {name: ENDLESS for name in type(task).model_fields if name.endswith("_length") and isinstance(getattr(task, name), int)}
    limit = tokenizer.model_max_length
    tokenizer.model_max_length = ENDLESS
    try:
        yield replace(learner, task=task.model_copy(update=limits))
    finally:
        tokenizer.model_max_length = limit


def shown_example(tokenizer: Any, place: str, view: View, whole: View, learned: bool) -> ShownExample:
    strips = list(whole.strips) if len(whole.strips) == len(view.strips) else list(view.strips)
    shown = [ShownStrip(strip.name, pieces(tokenizer, strip, long)) for strip, long in zip(view.strips, strips, strict=True)]
    return ShownExample(place, shown, view.target, supervised(view), learned)


def pieces(tokenizer: Any, strip: Strip, whole: Strip) -> list[Piece]:
    """A strip with what was cut out of `whole` to make it, in its place."""
    order = merged(list(strip.ids), list(whole.ids))
    ids = [(whole if cut else strip).ids[place] for place, cut in order]
    made, start = [], 0
    for reading in readings(tokenizer, ids):
        own = order[start : start + reading.tokens]
        start += reading.tokens
        flags = [bool((whole if cut else strip).supervised[place]) for place, cut in own]
        notes = [strip.notes[place] for place, cut in own if not cut and strip.notes]
        note = next((note for note in notes if note), "")
        made.append(Piece(reading.text, reading.tokens, any(flags), reading.special, all(cut for _, cut in own), note))
    return made


def merged(short: Sequence[int], long: Sequence[int]) -> list[tuple[int, bool]]:
    """Every token of `short` in order, as (its place, False), with what only `long` has between them, as (its place there, True).

    What both begin with and what both end with stays; in between, where rows of two texts are cut twice, the longest runs in common.

    >>> merged([1, 2, 9], [1, 2, 3, 4, 9])
    [(0, False), (1, False), (2, True), (3, True), (2, False)]
    """
    first = common(short, long)
    last = common(short[first:][::-1], long[first:][::-1])
    middle, between = short[first : len(short) - last], long[first : len(long) - last]
    if not middle or len(middle) + len(between) > MOST_ALIGNED:
        blocks = [("delete", 0, len(between), 0, 0), ("equal", len(between), len(between), 0, len(middle))]
    else:
        blocks = list(SequenceMatcher(None, between, middle, autojunk=False).get_opcodes())
    order = [(place, False) for place in range(first)]
    for kind, start, end, kept_start, kept_end in blocks:
        if kind in ("delete", "replace"):
            order += [(first + place, True) for place in range(start, end)]
        order += [(first + place, False) for place in range(kept_start, kept_end)]
    return order + [(place, False) for place in range(len(short) - last, len(short))]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), min(len(one), len(other)))
