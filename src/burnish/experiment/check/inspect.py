"""Is a recipe going to train what its author thinks? Every check, one after the other, as far as what came before allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from burnish.core.errors import BurnishError
from burnish.engine.events import Listener
from burnish.engine.runtime import is_out_of_memory
from burnish.experiment.check import course, labels, lengths, model, opening, rows, template, vocabulary
from burnish.experiment.check.subject import Read, Tokens, Tried
from burnish.experiment.check.trying import assembled, tried
from burnish.experiment.progress import Progress
from burnish.report.inspection import Finding, Inspection, judged, left_out
from burnish.report.tokens import ShownExample
from burnish.run.showing import shown_row
from burnish.run.training import Source

CONFIG, ROWS, TASK, ENCODING = "config", "rows and columns", "task meets rows", "encoding"
TRAINABLE, STEPS = "trainable parameters", "first steps"

OF_ROWS: Mapping[str, Callable[[Read], Finding]] = {**rows.CHECKS, **course.OF_RECIPE}
OF_TOKENS: Mapping[str, Callable[[Tokens], Finding]] = {
    **labels.CHECKS,
    **lengths.CHECKS,
    **vocabulary.CHECKS,
    **template.CHECKS,
    **course.CHECKS,
}
OF_MODEL: Mapping[str, Callable[[Tried], Finding]] = model.CHECKS

NAMES = (CONFIG, ROWS, TASK, *OF_ROWS, ENCODING, *OF_TOKENS, TRAINABLE, STEPS, *OF_MODEL)
"""All checks, in the order in which they are made and shown."""

HOPED = 3.0
SHOWN = 2
"""Rows that are shown as the model gets them."""


def check(recipe: Source, overrides: Sequence[str] = (), hoped: float = HOPED, listeners: Sequence[Listener] = ()) -> Inspection:
    """Looks at a recipe, its rows, their tokens, and a model that makes a step or two on them; nothing is written but the cache of tokens.

    `hoped` is the difference in scores, in points, that the validation rows are to show. A test file is not opened. Raises BurnishError
    only where there is no recipe to read: everything else is a finding, see `Inspection.passed`.
    """
    began = time.monotonic()
    desk = Desk(Progress(listeners, len(NAMES)))
    tokens = look(desk, recipe, overrides, hoped)
    checked = desk.title or str(recipe)
    examples = shown(tokens) if tokens else []
    return Inspection(checked, desk.whole(), time.monotonic() - began, [], examples)


@dataclass
class Desk:
    """Where findings are put: each by the name of its check, as it is made."""

    progress: Progress
    title: str = ""
    made: dict[str, Finding] = field(default_factory=dict)

    def put(self, name: str, finding: Finding) -> None:
        self.made[name] = replace(finding, name=name)

    def make(self, name: str, work: Callable[[], Any]) -> Any:
        """What the work gives beside its finding; a BurnishError is the finding of what it could not do."""
        self.progress.begin(name)
        try:
            finding, rest = work()
        except BurnishError as error:
            finding, rest = judged("this could not be done", [str(error)], []), None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            finding, rest = (
                judged("this could not be done", ["the memory is too small"], [], "Set a smaller data.max_length or batch."),
                None,
            )
        self.put(name, finding)
        return rest

    def all_of(self, checks: Mapping[str, Callable[[Any], Finding]], subject: Any) -> None:
        for name, make in checks.items():
            self.make(name, lambda make=make: (make(subject), None))  # type: ignore[misc]

    def whole(self) -> list[Finding]:
        """A finding for every check; those that could not be made say what has to be mended first."""
        failed = next((name for name in reversed(NAMES) if name in self.made and self.made[name].state == "fail" and name in OPENING), "")
        reason = f"not looked at: mend `{failed}` first" if failed else "not looked at"
        return [self.made.get(name, replace(left_out(reason), name=name)) for name in NAMES]


OPENING = (CONFIG, ROWS, TASK, ENCODING, *lengths.CHECKS, TRAINABLE, STEPS)
"""Checks without which later ones have nothing to look at."""


def look(desk: Desk, source: Source, overrides: Sequence[str], hoped: float) -> Tokens | None:
    """Makes every check that can be made; gives the rows as tokens where it comes to that."""
    desk.progress.begin(CONFIG)
    finding, files, recipe = opening.configured(source, overrides)
    desk.put(CONFIG, finding)
    if recipe is None:
        if files is not None:
            desk.put(ROWS, files)
        return None
    desk.title = f"{recipe.model.title}, {recipe.task.name}"
    gathered = desk.make(ROWS, lambda: opening.gathered(recipe))
    if gathered is None:
        return None
    bound = desk.make(TASK, lambda: opening.bound(recipe, gathered, hoped))
    # Held-out rows that do not fit the task are looked at too.
    desk.all_of(OF_ROWS, Read(bound.recipe if bound else recipe, gathered, hoped))
    tokens: Tokens | None = desk.make(ENCODING, lambda: opening.encoded(bound, desk.progress)) if bound else None
    if tokens is None:
        return None
    desk.all_of(OF_TOKENS, tokens)
    if not tokens.parts["train"].units.any():
        return tokens
    parts = desk.make(TRAINABLE, lambda: assembled(tokens, desk.progress))
    if parts is not None:
        subject = desk.make(STEPS, lambda: tried(tokens, parts, desk.progress))
        if subject is not None:
            desk.all_of(OF_MODEL, subject)
    return tokens


def shown(tokens: Tokens) -> list[ShownExample]:
    """The first training rows as the model gets them, of long ones the window from which most is learned."""
    part = tokens.parts["train"]
    return [example for index in range(min(SHOWN, len(part.rows))) for example in shown_row(part, index)[:1]]
