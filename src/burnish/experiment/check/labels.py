"""Checks of labels: how they are written and balanced, which are rare, which are missing where they are to be measured; of numbers their spread."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from burnish.core.errors import count
from burnish.core.protocols import Row
from burnish.data.duplicates import WORD, normal
from burnish.data.encode import class_counts
from burnish.experiment.check.subject import Tokens, places
from burnish.report.inspection import Finding, judged, left_out
from burnish.report.wording import percent

SKEWED = 10
"""How many times as often as the rarest label the commonest may come."""

SWAMPED = 0.9
"""A share of one label from which on saying nothing else is right nearly always."""

FEWEST = 10
"""Training rows (or words) below which a label is hardly learned."""

LETTERS = 3
"""Letters from which on a label is a word, in which capitals mean nothing."""

ALIKE = 0.85
"""Likeness (difflib's ratio) from which on a rare label is taken for a common one misspelt."""

ABSENT = ("nan", "n/a", "#n/a", "null", "<na>", "nat")
"""How tables write that there is no label."""

OWN = 0.5
"""Different labels for each row from which on they are no labels but numbers, names or texts."""

FAR = 20
"""Times the middle half of all numbers that one may lie away from their median before it is taken for a mistake."""

READ = 2000
"""Rows that are searched for the name of their label."""

SHOWN = 6

BEGINS = ("B-", "S-")
"""How tags that begin a span are written."""


def counts(tokens: Tokens, part: str) -> dict[str, int]:
    """How many rows (of tags, spans or words) of a part have each label; empty where a task has none. Of a sample it is what all may have."""
    labels, task, rows = list(getattr(tokens.learner, "labels", ())), tokens.recipe.task, tokens.whole.rows[part]
    if task.chooses == "place":
        strata = Counter(str(task.stratum(row)) for row in rows)
        return dict(sorted(strata.items())) if len(strata) > 1 else {}
    if not labels:
        return {}
    if task.chooses == "word":
        found = words(tokens, part, labels)
        return {name: round(number / tokens.shares[part]) for name, number in found.items()}
    named = Counter(name for row in rows for name in task.names(row))
    return {label: named[label] for label in labels}


def words(tokens: Tokens, part: str, labels: list[str]) -> dict[str, int]:
    """How many words of a part have each tag, or how many spans are of each type."""
    if tokens.recipe.task.scheme != "plain":
        return spans(tokens, part)
    examples: Any = tokens.parts[part].examples
    numbers = class_counts(examples.targets["labels"], np.ones(len(examples)), len(labels))
    return {label: int(number) for label, number in zip(labels, numbers, strict=True)}


def spans(tokens: Tokens, part: str) -> dict[str, int]:
    """How many spans of each type begin in a part: what follows in a span (I-, E-) is no label of its own."""
    examples: Any = tokens.parts[part].examples
    every: list[str] = tokens.learner.labels  # type: ignore[attr-defined]
    numbers = class_counts(examples.targets["labels"], np.ones(len(examples)), len(every))
    found = dict.fromkeys((label.partition("-")[2] for label in every if "-" in label), 0)
    for label, number in zip(every, numbers, strict=True):
        if label.startswith(BEGINS):
            found[label.partition("-")[2]] += int(number)
    return found


def unit(tokens: Tokens) -> str:
    if tokens.recipe.task.chooses != "word":
        return "row"
    return "word" if tokens.recipe.task.scheme == "plain" else "span"


def spellings(tokens: Tokens) -> Finding:
    """Labels that are one but for capitals, blanks or a letter, and those by which tables say that there is none."""
    found = counts(tokens, "train")
    if not found or tokens.recipe.task.chooses == "place":
        return left_out(f"task={tokens.recipe.task.name} has no labels to tell apart here")
    same: dict[str, list[str]] = {}
    for name in found:
        same.setdefault(normal(name.replace("_", " ")), []).append(name)
    failures = [
        f"one label is written in {len(names)} ways: {told(found, names)}"
        for plain, names in same.items()
        if len(names) > 1 and len(plain) >= LETTERS
    ]
    common = [name for name, number in found.items() if number >= FEWEST and name.isalpha()]
    warnings = []
    for name in [name for name, number in found.items() if 0 < number < FEWEST and len(name) > LETTERS]:
        near = difflib.get_close_matches(name, [other for other in common if found[other] > SKEWED * found[name]], 1, ALIKE)
        if near and normal(name) != normal(near[0]):
            warnings.append(f"{name} ({found[name]:,}) looks like {near[0]} ({found[near[0]]:,}) misspelt")
    absent = [name for name in found if name.strip().casefold() in ABSENT]
    if absent:
        warnings.append(f"is a label missing where it says {told(found, absent)}?")
    mend = "Write each label in one way; leave rows without a label out."
    return judged(
        f"{count(len(found), 'label')}, each written in one way" if not failures else count(len(found), "label"), failures, warnings, mend
    )


def given_away(tokens: Tokens) -> Finding:
    """Whether texts hold the name of their own label, and of no other: what is learned is to read it off."""
    task = tokens.recipe.task
    if task.chooses != "row":
        return left_out(f"task={task.name} has no label of a whole row")
    labels: list[str] = tokens.learner.labels  # type: ignore[attr-defined]
    names = {label: f" {normal(label)} " for label in labels}
    rows, own, others = tokens.train[:READ], list[Row](), 0
    for row in rows:
        text = " ".join(["", *(word for part in tokens.text(row) for word in WORD.findall(normal(part))), ""])
        said = {label for label, name in names.items() if (len(label) >= LETTERS and name in text) or name == text}
        label = task.names(row)[0]
        if said == {label}:
            own.append(row)
        others += bool(said - {label})
    share = len(own) / max(len(rows), 1)
    sentence = f"{count(len(own), 'row')} of {len(rows):,} ({percent(share)}) hold the name of their own label, such as {places(own)}"
    found = [f"{sentence}: the model learns to read it off"] if share >= OWN and len(own) > SKEWED * others else []
    seen = f"{len(own):,} of {count(len(rows), 'text')} hold the name of their label, {others:,} that of another"
    return judged(seen, [], found, "Take it out of the texts, unless it will stand in new ones too.", own=len(own), others=others)


def told(found: Mapping[str, int], names: list[str]) -> str:
    """Some labels with their numbers."""
    return ", ".join(f"{name!r} ({found[name]:,})" for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def spread(tokens: Tokens) -> Finding:
    """Whether the numbers to be learned differ, and whether one of them lies far from all others."""
    column = tokens.recipe.task.columns(True)[-1]
    rows = tokens.whole.rows["train"]
    numbers = np.array([float(" ".join(tokens.truth(row))) for row in rows])
    low, middle, high = np.percentile(numbers, [25, 50, 75])
    seen = f"numbers in `{column}` from {numbers.min():g} to {numbers.max():g}, mean {numbers.mean():.3g}, standard deviation {numbers.std():.3g}"
    failures = [f"all {len(rows):,} rows have the number {numbers[0]:g}: there is nothing to tell apart"] if numbers.std() == 0 else []
    away = np.abs(numbers - middle)
    far = np.flatnonzero(away > FAR * (high - low)) if high > low else np.array([], dtype=int)
    warnings = []
    if len(far):
        worst = int(np.argmax(away))
        warnings.append(
            f"{count(len(far), 'number')} {'lies' if len(far) == 1 else 'lie'} far from all others, such as {numbers[worst]:g} in {rows[worst].place}"
        )
    mend = (
        "Look whether these are meant: squares of such differences outweigh all other rows."
        if far.size
        else f"Is `{column}` the right column?"
    )
    return judged(seen, failures, warnings, mend, mean=float(numbers.mean()), deviation=float(numbers.std()), far=len(far))


def balance(tokens: Tokens) -> Finding:
    """How unequal labels are, and what saying the commonest alone would score; of numbers how they are spread."""
    if tokens.recipe.task.chooses == "number":
        return spread(tokens)
    found = counts(tokens, "train")
    if not found:
        return left_out(f"task={tokens.recipe.task.name} has no labels to tell apart here")
    total = max(sum(found.values()), 1)
    common = max(found, key=lambda name: found[name])
    given = {name: number for name, number in found.items() if number} or found
    rare, largest = min(given, key=lambda name: given[name]), max(given, key=lambda name: given[name])
    seen = f"{count(len(found), 'label')} in {count(total, unit(tokens))}, from {given[rare]:,} ({rare}) to {given[largest]:,} ({largest})"
    failures, warnings, share = list[str](), list[str](), found[common] / total
    rows = len(tokens.whole.rows["train"])
    if unit(tokens) == "row" and rows > FEWEST and len(given) > OWN * rows:
        failures.append(f"{count(len(given), 'label')} in {count(rows, 'row')}: these are no labels but numbers, names or texts")
        mend = "task.problem=regression learns numbers, task=rewrite texts; or name another column in task.label."
        return judged(seen, failures, [], mend, labels=found, commonest=share)
    if unit(tokens) == "row" and share >= SWAMPED:
        warnings.append(f"{percent(share)} of the rows are {common}: saying nothing else scores as much")
    if given[largest] > SKEWED * given[rare]:
        warnings.append(f"{largest} comes {given[largest] / max(given[rare], 1):.0f} times as often as {rare}")
    mend = "Look at macro F1, not accuracy; data.balance or loss.class_weights=balanced give rare labels more weight."
    return judged(seen, failures, warnings, mend, labels=found, commonest=share)


def rare_labels(tokens: Tokens) -> Finding:
    """Labels with too few training rows to learn from."""
    found = counts(tokens, "train")
    if not found:
        return left_out(f"task={tokens.recipe.task.name} has no labels to tell apart here")
    few = {name: number for name, number in sorted(found.items(), key=lambda item: item[1]) if number < FEWEST}
    named = ", ".join(f"{name} ({number:,})" for name, number in list(few.items())[:SHOWN]) + (", ..." if len(few) > SHOWN else "")
    warnings = [f"{count(len(few), 'label')} with fewer than {FEWEST} {unit(tokens)}s to learn from: {named}"] if few else []
    mend = "Add rows of these, join them with another label, or leave them out."
    return judged(f"{count(len(found), 'label')}, the rarest with {count(min(found.values()), unit(tokens))}", [], warnings, mend, rare=few)


def missing_labels(tokens: Tokens) -> Finding:
    """Labels that are trained and never measured."""
    trained = {name for name, number in counts(tokens, "train").items() if number}
    if not trained or "validation" not in tokens.parts:
        return left_out("no validation rows" if trained else f"task={tokens.recipe.task.name} has no labels to tell apart here")
    measured = {name for name, number in counts(tokens, "validation").items() if number}
    missing = sorted(trained - measured)
    named = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    warnings = [f"no validation {unit(tokens)} has {named}: nobody will see whether {'it is' if len(missing) == 1 else 'they are'} learned"]
    mend = "Hold more rows out, or cut validation from training (10%), which keeps the shares of labels."
    return judged(
        f"{len(trained & measured)} of {count(len(trained), 'label')} are measured", [], warnings if missing else [], mend, missing=missing
    )


CHECKS: Mapping[str, Callable[[Tokens], Finding]] = {
    "label names": spellings,
    "label in text": given_away,
    "label balance": balance,
    "rare labels": rare_labels,
    "labels in validation": missing_labels,
}
