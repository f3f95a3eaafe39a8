"""Checks of labels: how they are balanced, which are rare, which are missing where they are to be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from burnish.core.errors import count
from burnish.data.encode import Ragged, class_counts
from burnish.experiment.check.subject import Tokens
from burnish.report.inspection import Finding, judged, left_out
from burnish.report.wording import percent

SKEWED = 10
"""How many times as often as the rarest label the commonest may come."""

SWAMPED = 0.9
"""A share of one label from which on saying nothing else is right nearly always."""

FEWEST = 10
"""Training rows (or words) below which a label is hardly learned."""

SHOWN = 6

BEGINS = ("B-", "S-")
"""How tags that begin a span are written."""


def counts(tokens: Tokens, part: str) -> dict[str, int]:
    """How many rows (of tags, spans or words) of a part have each label; empty where a task has none."""
    labels: list[str] = list(getattr(tokens.learner, "labels", ()))
    if tokens.recipe.task.chooses == "place":
        strata = [str(tokens.recipe.task.stratum(row)) for row in tokens.gathered.rows[part]]
        return {name: strata.count(name) for name in sorted(set(strata))} if len(set(strata)) > 1 else {}
    if not labels:
        return {}
    if tokens.recipe.task.chooses == "word" and tokens.recipe.task.scheme != "plain":
        return spans(tokens, part)
    examples = tokens.parts[part].examples
    targets = examples.targets["labels"]  # type: ignore[attr-defined]
    if not isinstance(targets, Ragged) and np.asarray(targets).ndim > 1:
        numbers = np.asarray(targets).sum(axis=0)
    else:
        numbers = class_counts(targets, np.ones(len(examples)), len(labels))
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


def balance(tokens: Tokens) -> Finding:
    """How unequal labels are, and what saying the commonest alone would score."""
    found = counts(tokens, "train")
    if not found:
        return left_out(f"task={tokens.recipe.task.name} has no labels to tell apart here")
    total = max(sum(found.values()), 1)
    common = max(found, key=lambda name: found[name])
    told = {name: number for name, number in found.items() if number} or found
    rare, largest = min(told, key=lambda name: told[name]), max(told, key=lambda name: told[name])
    seen = f"{count(len(found), 'label')} in {count(total, unit(tokens))}, from {told[rare]:,} ({rare}) to {told[largest]:,} ({largest})"
    warnings = []
    share = found[common] / total
    if unit(tokens) == "row" and share >= SWAMPED:
        warnings.append(f"{percent(share)} of the rows are {common}: saying nothing else scores as much")
    if told[largest] > SKEWED * told[rare]:
        warnings.append(f"{largest} comes {told[largest] / max(told[rare], 1):.0f} times as often as {rare}")
    mend = "Look at macro F1, not accuracy; data.balance or loss.class_weights=balanced give rare labels more weight."
    return judged(seen, [], warnings, mend, labels=found, commonest=share)


def rare_labels(tokens: Tokens) -> Finding:
    """Labels with too few training rows to learn from."""
    found = counts(tokens, "train")
    if not found:
        return left_out(f"task={tokens.recipe.task.name} has no labels to tell apart here")
    few = {name: number for name, number in sorted(found.items(), key=lambda item: item[1]) if number < FEWEST}
    told = ", ".join(f"{name} ({number:,})" for name, number in list(few.items())[:SHOWN]) + (", ..." if len(few) > SHOWN else "")
    warnings = [f"{count(len(few), 'label')} with fewer than {FEWEST} {unit(tokens)}s to learn from: {told}"] if few else []
    mend = "Add rows of these, join them with another label, or leave them out."
    return judged(f"{count(len(found), 'label')}, the rarest with {count(min(found.values()), unit(tokens))}", [], warnings, mend, rare=few)


def missing_labels(tokens: Tokens) -> Finding:
    """Labels that are trained and never measured."""
    trained = {name for name, number in counts(tokens, "train").items() if number}
    if not trained or "validation" not in tokens.parts:
        return left_out("no validation rows" if trained else f"task={tokens.recipe.task.name} has no labels to tell apart here")
    measured = {name for name, number in counts(tokens, "validation").items() if number}
    missing = sorted(trained - measured)
    told = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    warnings = [f"no validation {unit(tokens)} has {told}: nobody will see whether {'it is' if len(missing) == 1 else 'they are'} learned"]
    mend = "Hold more rows out, or cut validation from training (10%), which keeps the shares of labels."
    return judged(
        f"{len(trained & measured)} of {count(len(trained), 'label')} are measured", [], warnings if missing else [], mend, missing=missing
    )


CHECKS: Mapping[str, Callable[[Tokens], Finding]] = {
    "label balance": balance,
    "rare labels": rare_labels,
    "labels in validation": missing_labels,
}
