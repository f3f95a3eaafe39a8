"""Checks of rows, before any token is made: repeated rows, rows in two parts, contradictions, and how much a validation can tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from burnish.core.errors import count
from burnish.core.protocols import Row
from burnish.data import duplicates
from burnish.data.duplicates import normal
from burnish.experiment.check.subject import Read, places
from burnish.report.inspection import Finding, judged, left_out
from burnish.report.wording import percent

LEAKED = 0.01
"""Share of held-out rows that also stand in training from which on a score is worth nothing."""

CONTRADICTED = 0.05
"""Share of training rows whose like has another label from which on something is wrong with the labels."""

LIKELY = 0.8
"""The score that standard errors are reckoned at: they are largest at a half, sqrt(p (1 - p) / n)."""

DISAGREEING = 0.1
"""The share of rows on which two models to be compared are taken to disagree."""

Z = 1.96
FEWEST = 50
"""Held-out rows below which a mean loss says little."""

SCORES = ("accuracy", "f1", "exact_match", "rougeL")
"""Metrics between 0 and 1 that are, or are much like, shares of rows."""


def repeated_rows(read: Read) -> Finding:
    """Training rows that say what another one says, and those that say nearly the same."""
    texts = [read.text(row) for row in read.train]
    same = duplicates.repeated([tuple(map(normal, text)) for text in texts])
    again = [read.train[index] for indices in same.values() for index in indices[1:]]
    near = duplicates.near(texts)
    warnings = []
    if again:
        one, other = (read.train[index] for index in next(iter(same.values()))[:2])
        warnings.append(
            f"{count(len(again), 'row')} ({percent(len(again) / len(texts))}) repeat another, such as {other.place} that of {one.place}"
        )
    if near:
        warnings.append(
            f"{count(len(near), 'row')} ({percent(len(near) / len(texts))}) nearly repeat another: {twins(near, read.train, read.train)}"
        )
    mend = (
        "Repeated rows count more than others, and a random split puts some of them on both sides; leave them out unless they are meant so."
    )
    return judged(f"{count(len(texts), 'training row')}", [], warnings, mend, rows=len(texts), exact=len(again), near=len(near))


def twins(found: Sequence[duplicates.Twins], first: Sequence[Row], second: Sequence[Row]) -> str:
    """The most alike of some pairs."""
    pair = found[0]
    return f"{second[pair.second].place} and {first[pair.first].place} share {percent(pair.similarity)} of their words"


def rows_in_two_parts(read: Read) -> Finding:
    """Held-out rows that also stand in training, word for word or nearly."""
    if not read.held:
        return left_out("no rows are held out of training")
    failures, warnings, measured = list[str](), list[str](), dict[str, int]()
    known = [read.text(row) for row in read.train]
    seen = {tuple(map(normal, text)) for text in known}
    for part, rows in read.held.items():
        texts = [read.text(row) for row in rows]
        leaked = [row for row, text in zip(rows, texts, strict=True) if tuple(map(normal, text)) in seen]
        others = [row for row, text in zip(rows, texts, strict=True) if tuple(map(normal, text)) not in seen]
        near = duplicates.near([read.text(row) for row in others], known)
        measured |= {f"{part}_rows": len(rows), f"{part}_exact": len(leaked), f"{part}_near": len(near)}
        if leaked:
            verb = "stands" if len(leaked) == 1 else "stand"
            sentence = f"{count(len(leaked), f'{part} row')} of {len(rows):,} ({percent(len(leaked) / len(rows))}) {verb} in training too: {places(leaked)}"
            (failures if len(leaked) >= LEAKED * len(rows) else warnings).append(sentence)
        if near:
            verb = "stands" if len(near) == 1 else "stand"
            warnings.append(f"{count(len(near), f'{part} row')} nearly {verb} in training: {twins(near, read.train, others)}")
    numbers = " and ".join(f"{count(len(rows), f'{part} row')}" for part, rows in read.held.items())
    mend = "What was learned by heart scores as if it were understood: take these rows out of one of the parts."
    return judged(f"{numbers} against {len(known):,} of training", failures, warnings, mend, **measured)


def contradictions(read: Read) -> Finding:
    """Rows that say the same and are to become something else."""
    if read.recipe.task.chooses == "token":
        return left_out("several texts may be right after the same one")
    rows = [*read.train, *(row for rows in read.held.values() for row in rows)]
    same = duplicates.repeated([tuple(map(normal, read.text(row))) for row in rows])
    groups = [indices for indices in same.values() if len({tuple(map(normal, read.truth(rows[index]))) for index in indices}) > 1]
    wrong = [rows[index] for indices in groups for index in indices]
    sentences = [
        f"{count(len(wrong), 'row')} say the same as another and have another label: "
        + "; ".join(" and ".join(f"{rows[index].place} ({short(read, rows[index])})" for index in indices[:2]) for indices in groups[:2])
    ]
    sentences = sentences if groups else []
    bad = len(wrong) >= CONTRADICTED * len(rows)
    mend = "No model can be right on both: look which label is meant, or leave these rows out."
    return judged(
        f"{count(len(rows), 'row')}, {count(len(same), 'text')} that come twice",
        sentences if bad else [],
        [] if bad else sentences,
        mend,
        rows=len(rows),
        contradicting=len(wrong),
    )


def short(read: Read, row: Row) -> str:
    label = " ".join(read.truth(row))
    return label if len(label) <= 40 else label[:37] + "..."


def validation_size(read: Read) -> Finding:
    """Whether the rows that are held out can show the difference that is hoped for.

    A share p of n rows has the standard error sqrt(p (1 - p) / n). Of two models scored on the same rows only those count on which they
    disagree, a share d: their difference has the standard error sqrt(d / n), and one of h is shown at 95% from n = 1.96^2 d / h^2 rows on.
    """
    rows = read.held.get("validation")
    if not rows:
        warning = "no rows are held out: nothing says when to stop, and training alone cannot tell learning from learning by heart"
        return judged("no validation rows", [], [warning], "Give data.validation a file, or a share such as 10%.", rows=0)
    size, metrics = len(rows), read.recipe.task.metrics
    if not set(SCORES) & set(metrics):
        few = [f"a mean loss over {count(size, 'row')} depends on which rows these are"] if size < FEWEST else []
        return judged(f"{count(size, 'row')}; the score is a mean loss", [], few, "Hold more rows out.", rows=size)
    error = 100 * math.sqrt(LIKELY * (1 - LIKELY) / size)
    shown = 100 * Z * math.sqrt(DISAGREEING / size)
    needed = math.ceil(Z**2 * DISAGREEING / (read.hoped / 100) ** 2)
    seen = f"{count(size, 'row')}: standard error {error:.1f} points at a score of {LIKELY:.0%}"
    warnings = []
    if needed > size:
        warnings.append(
            f"two models that disagree on {DISAGREEING:.0%} of {count(size, 'row')} have to differ by {shown:.1f} points to be told apart; "
            f"{read.hoped:g} {'point is' if read.hoped == 1 else 'points are'} hoped for"
        )
    mend = f"That takes {needed:,} rows: hold more out, compare over several seeds, or say --hoped {shown:.0f}."
    return judged(seen, [], warnings, mend, rows=size, standard_error=error, shown=shown, hoped=read.hoped, needed=needed)


CHECKS: Mapping[str, Callable[[Read], Finding]] = {
    "repeated rows": repeated_rows,
    "rows in two parts": rows_in_two_parts,
    "contradictions": contradictions,
    "validation size": validation_size,
}
