"""Checks of what is left of rows as tokens: how much is cut, how much is learned from, whether the end is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from burnish.core.errors import count
from burnish.experiment.check.subject import Tokens, places
from burnish.report.inspection import Finding, judged, left_out
from burnish.report.wording import percent
from burnish.run.showing import Part, endless

TRIED = 1000
"""Rows that are encoded once more without a limit, to see what is cut."""

LOST, MOST_LOST = 0.01, 0.5
"""Shares of rows that are cut from which on it is worth a word, and from which on something is wrong."""

UNTAUGHT = 0.2
"""Share of rows that lose what is to be learned from which on something is wrong."""

LEAST = 0.005
"""Share of tokens that are supervised below which most of the work is for nothing."""

LOSSLESS = "nothing is lost"
"""How it is told that long rows are read in several windows."""


@dataclass(frozen=True)
class Cut:
    """Of the first `rows` rows of a part: how many lose tokens and how many lose supervised ones, and the share of tokens that is lost."""

    rows: int
    losing: list[int]
    untaught: list[int]
    share: float


def cut_of(part: Part, limit: int) -> Cut:
    """What the limit takes away, of rows that may reach it."""
    rows = part.rows[:TRIED]
    examples = np.flatnonzero(part.owners < len(rows))
    lengths = np.bincount(part.owners[examples], weights=part.examples.lengths[examples], minlength=len(rows))
    with endless(part.learner) as free:
        whole = free.encode(rows)
    full = np.bincount(whole.rows, weights=whole.lengths, minlength=len(rows))
    units = np.bincount(whole.rows, weights=whole.weights, minlength=len(rows))
    losing = np.flatnonzero(full > lengths)
    untaught = np.flatnonzero(units > part.units[: len(rows)])
    lost = float((full - lengths)[losing].sum() / max(full.sum(), 1))
    return Cut(len(rows), losing.tolist(), untaught.tolist(), lost)


def lengths(tokens: Tokens) -> Finding:
    """How many rows do not fit, which end of them is cut, and what of that was to be learned."""
    failures, warnings, told = list[str](), list[str](), list[str]()
    measured: dict[str, float] = {}
    for name, part in tokens.parts.items():
        own = part.examples.lengths
        told.append(f"{name}: median {int(np.median(own))}, longest {int(own.max())}")
        measured |= {f"{name}_longest": int(own.max()), f"{name}_cut": sum(part.examples.cut.values())}
        lossy = {how: rows for how, rows in part.examples.cut.items() if LOSSLESS not in how}
        told += [f"{count(rows, 'row')} {how}" for how, rows in part.examples.cut.items() if how not in lossy]
        if not lossy:
            continue
        cut = cut_of(part, tokens.max_length)
        share = sum(lossy.values()) / len(part.rows)
        ways = "; ".join(f"{count(rows, f'{name} row')} ({percent(rows / len(part.rows))}): {how}" for how, rows in lossy.items())
        sentence = f"{ways}, {percent(cut.share)} of all tokens lost, such as {places(part.rows[index] for index in cut.losing)}"
        if cut.untaught:
            sentence += f"; {len(cut.untaught):,} of the first {cut.rows:,} rows lose supervised tokens"
        measured |= {f"{name}_lost": cut.share, f"{name}_untaught": len(cut.untaught) / max(cut.rows, 1)}
        severe = share >= MOST_LOST or len(cut.untaught) >= UNTAUGHT * cut.rows
        if severe or share >= LOST or cut.untaught:
            (failures if severe else warnings).append(sentence)
        else:
            told.append(sentence)
    seen = f"at most {tokens.max_length:,} tokens; {'; '.join(told)}"
    return judged(seen, failures, warnings, advice(tokens), limit=tokens.max_length, readable=tokens.limit, **measured)


def advice(tokens: Tokens) -> str:
    """How rows can be had whole."""
    if tokens.recipe.data.max_length is not None and tokens.max_length < tokens.limit:
        return f"The model reads {tokens.limit:,} tokens and data.max_length allows {tokens.max_length:,}: raise it."
    table = getattr(tokens.bones.config, "max_position_embeddings", None) or 0
    if table > tokens.limit + tokens.recipe.method.positions:
        return f"The model has {table:,} positions, but its tokenizer says model_max_length={tokens.limit:,} (in tokenizer_config.json): was that meant?"
    return "The model reads no more: take one that does, split long rows, or bring what matters to their beginning."


def supervised(tokens: Tokens) -> Finding:
    """How much of what the model reads it also learns from, and rows from which it learns nothing."""
    failures, warnings, told = list[str](), list[str](), list[str]()
    measured: dict[str, float] = {}
    for name, part in tokens.parts.items():
        found = tokens.summaries[name]
        if found.supervised is None:
            told.append(f"{name}: each of {count(found.examples, 'example')} has a target")
        elif tokens.learner.redrawn:
            told.append(f"{name}: drawn anew at each step from {count(int(part.units.sum()), 'token')}")
        else:
            share = found.supervised / max(found.tokens, 1)
            told.append(f"{name}: {found.supervised:,} of {found.tokens:,} tokens ({percent(share)})")
            measured[f"{name}_share"] = share
            if share < LEAST and tokens.recipe.task.chooses == "token":
                warnings.append(f"only {percent(share)} of the {name} tokens are learned from")
        empty = [row for row, units in zip(part.rows, part.units, strict=True) if not units]
        measured[f"{name}_empty"] = len(empty)
        if empty:
            sentence = f"nothing is supervised in {count(len(empty), f'{name} row')} of {len(part.rows):,}: {places(empty)}"
            dropped = tokens.recipe.data.bad_rows == "drop" and len(empty) < len(part.rows)
            (warnings if dropped else failures).append(sentence)
    mend = "Look at them with `burnish data show`; a larger data.max_length may help, data.bad_rows=drop leaves them out."
    return judged("; ".join(told), failures, warnings, mend, **measured)


def ends(tokens: Tokens) -> Finding:
    """Whether the token that ends a text is learned: a model that never saw it rambles on until it is broken off."""
    if not tokens.learner.generation:
        return left_out(f"task={tokens.recipe.task.name} writes no texts")
    failures, warnings, told = list[str](), list[str](), list[str]()
    measured: dict[str, float] = {}
    for name, found in tokens.summaries.items():
        ended, rows = found.ended or 0, max(found.rows, 1)
        told.append(f"{name}: in {ended:,} of {count(found.rows, 'row')}")
        measured[f"{name}_ended"] = ended / rows
        if not ended:
            failures.append(f"the end is learned in no {name} row: the model will not stop by itself")
        elif ended < rows * (1 - LOST):
            warnings.append(f"the end is not learned in {count(rows - ended, f'{name} row')} ({percent(1 - ended / rows)})")
    mend = (
        "Say task.end=true." if getattr(tokens.recipe.task, "end", True) is False else "Where rows are cut at their end, raise the limit."
    )
    return judged("the end token is supervised, " + "; ".join(told), failures, warnings, mend, **measured)


CHECKS: Mapping[str, Callable[[Tokens], Finding]] = {
    "lengths": lengths,
    "supervised share": supervised,
    "end supervised": ends,
}
