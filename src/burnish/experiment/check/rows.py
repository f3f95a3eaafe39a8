"""Checks of rows, before any token is made: repeated rows, rows in two parts, contradictions, and how much a validation can tell.

Real data repeat themselves: headlines, short phrases, an article in two papers. A few such rows are told in passing, more are worth a word;
a leak is what is repeated across parts far more often than within training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from burnish.core.errors import count
from burnish.core.protocols import Row
from burnish.data import duplicates
from burnish.experiment.check.subject import Read, places
from burnish.report.inspection import Finding, judged, left_out
from burnish.report.wording import percent

REPEATED, NEARLY = 0.001, 0.01
"""Shares of rows that repeat others, exactly and nearly, from which on it is worth a word."""

LEAKED, MOST_LEAKED = 0.01, 0.1
"""Shares of held-out rows that also stand in training from which on a score is worth nothing: where training repeats itself less often,
and in any case."""

NEARLY_LEAKED, MOST_NEARLY_LEAKED = 0.05, 0.75
"""The same of rows that nearly stand there."""

NATURAL, NEARLY_NATURAL = 2.0, 3.0
"""How many times as often as within training rows may be repeated across parts, exactly and nearly, by the nature of the data alone."""

SLIGHT, CONTRADICTED = 0.001, 0.05
"""Shares of rows whose like has another label from which on it is worth a word, and from which on something is wrong with the labels."""

LIKELY = 0.8
"""The score that standard errors are reckoned at: they are largest at a half, sqrt(p (1 - p) / n)."""

DISAGREEING = 0.1
"""The share of rows on which two models to be compared are taken to disagree."""

Z = 1.96
FEWEST, MANY = 50, 100_000
"""Held-out rows below which a mean loss says little, where they have fewer characters than these."""

SCORES = ("accuracy", "f1", "exact_match", "rougeL")
"""Metrics between 0 and 1 that are, or are much like, shares of rows."""


def repeated_rows(read: Read) -> Finding:
    """Training rows that say what another one says, and those that say nearly the same."""
    rows, total = read.train, len(read.train)
    warnings, told = list[str](), [count(total, "training row")]
    again, near = read.again, read.nearly_again
    if again:
        one, other = (rows[index] for index in again[0])
        sentence = f"{count(len(again), 'row')} ({percent(len(again) / total)}) repeat another, such as {other.place} that of {one.place}"
        (warnings if len(again) >= REPEATED * total else told).append(sentence)
    if near:
        sentence = f"{count(len(near), 'row')} ({percent(len(near) / total)}) nearly repeat another: {twins(near, rows, rows)}"
        (warnings if len(near) >= NEARLY * total else told).append(sentence)
    mend = (
        "Repeated rows count more than others, and a random split puts some of them on both sides; leave them out unless they are meant so."
    )
    return judged("; ".join([*told, *compared(read)]), [], warnings, mend, rows=total, exact=len(again), near=len(near))


def compared(read: Read) -> list[str]:
    """How much of long texts was compared, where it is not all."""
    return [f"of long texts the first {read.beginning:,} characters are compared"] if read.beginning else []


def twins(found: Sequence[duplicates.Twins], first: Sequence[Row], second: Sequence[Row]) -> str:
    """The most alike of some pairs."""
    pair = found[0]
    return f"{second[pair.second].place} and {first[pair.first].place} share {percent(pair.similarity)} of their words"


def rows_in_two_parts(read: Read) -> Finding:
    """Held-out rows that also stand in training, word for word or nearly."""
    if not read.held:
        return left_out("no rows are held out of training")
    known, failures, warnings, measured = set(read.plain["train"]), list[str](), list[str](), dict[str, int]()
    told = [f"{' and '.join(count(len(rows), f'{part} row') for part, rows in read.held.items())} against {len(read.train):,} of training"]
    for part, rows in read.held.items():
        leaked = [row for row, text in zip(rows, read.plain[part], strict=True) if text in known]
        others = [index for index, text in enumerate(read.plain[part]) if text not in known]
        texts = read.begun(part)
        near = duplicates.near([texts[index] for index in others], read.begun("train"))
        measured |= {f"{part}_rows": len(rows), f"{part}_exact": len(leaked), f"{part}_near": len(near)}
        if leaked:
            share, own = len(leaked) / len(rows), len(read.again) / len(read.train)
            sentence = (
                f"{count(len(leaked), f'{part} row')} of {len(rows):,} ({percent(share)}) {stand(leaked)} in training too: {places(leaked)}"
            )
            bad = share >= min(MOST_LEAKED, max(LEAKED, NATURAL * own))
            (failures if bad else warnings).append(sentence)
        if near:
            share, own = len(near) / len(rows), len(read.nearly_again) / len(read.train)
            pair = twins(near, read.train, [rows[index] for index in others])
            sentence = f"{count(len(near), f'{part} row')} of {len(rows):,} ({percent(share)}) nearly {stand(near)} in training: {pair}"
            bad = share >= min(MOST_NEARLY_LEAKED, max(NEARLY_LEAKED, NEARLY_NATURAL * own))
            (failures if bad else warnings if share >= NEARLY else told).append(sentence)
    mend = "What was learned by heart scores as if it were understood: take these rows out of one of the parts."
    return judged("; ".join([*told, *compared(read)]), failures, warnings, mend, **measured)


def stand(found: Sequence[object]) -> str:
    return "stands" if len(found) == 1 else "stand"


def contradictions(read: Read) -> Finding:
    """Rows that say the same and are to become something else."""
    if read.recipe.task.chooses == "token":
        return left_out("several texts may be right after the same one")
    parts = {name: rows for name, rows in read.gathered.rows.items() if name in ("train", *read.held)}
    rows = [row for own in parts.values() for row in own]
    same = duplicates.repeated([text for part in parts for text in read.plain[part]])
    spread = deviation(read)
    groups = [indices for indices in same.values() if contradict(read, [rows[index] for index in indices], spread)]
    wrong = [rows[index] for indices in groups for index in indices]
    pairs = "; ".join(
        " and ".join(f"{rows[index].place} ({short(read, rows[index])})" for index in odd(read, rows, own)) for own in groups[:2]
    )
    told, share = f"{count(len(rows), 'row')}, {count(len(same), 'text')} that come twice", len(wrong) / max(len(rows), 1)
    meant = "answer" if read.recipe.task.chooses == "place" else "label"
    sentence = f"{count(len(wrong), 'row')} ({percent(share)}) say the same as another and have another {meant}: {pairs}"
    bad, slight = share >= CONTRADICTED, share < SLIGHT
    mend = f"No model can be right on both: look which {meant} is meant, or leave these rows out."
    return judged(
        f"{told}; {sentence}" if groups and slight else told,
        [sentence] if groups and bad else [],
        [sentence] if groups and not (bad or slight) else [],
        mend,
        rows=len(rows),
        contradicting=len(wrong),
    )


def deviation(read: Read) -> float:
    """The standard deviation of the numbers that are learned; 0 where labels are none."""
    if read.recipe.task.chooses != "number":
        return 0.0
    return float(np.std([float(" ".join(read.truth(row))) for row in read.train]))


def contradict(read: Read, rows: Sequence[Row], spread: float) -> bool:
    """Whether rows that say the same are to become different things.

    Two answers may say the same at different lengths: those contradict each other that have no word in common. Two numbers may be two
    people's opinions: those do that lie more than a standard deviation apart.
    """
    truths = [tuple(map(duplicates.normal, read.truth(row))) for row in rows]
    if len(set(truths)) == 1:
        return False
    if read.recipe.task.chooses == "number":
        numbers = [float(" ".join(truth)) for truth in truths]
        return max(numbers) - min(numbers) > spread
    if read.recipe.task.chooses == "place":
        answers = [answer_words(read, row) for row in rows]
        return any(bool(one) != bool(answers[0]) or bool(one and not one & answers[0]) for one in answers[1:])
    return True


def answer_words(read: Read, row: Row) -> set[str]:
    """The words of all answers of a row."""
    return {word for answer in read.recipe.task.references(row) for word in duplicates.WORD.findall(duplicates.normal(answer.text))}


def odd(read: Read, rows: Sequence[Row], indices: Sequence[int]) -> list[int]:
    """Of rows that say the same the first, and the first that is to become something else."""
    first = read.truth(rows[indices[0]])
    return [indices[0], next((index for index in indices[1:] if read.truth(rows[index]) != first), indices[1])]


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
        letters = sum(len(text) for row in rows for text in (*read.text(row), *read.truth(row)))
        few = [f"a mean loss over {count(size, 'row')} depends on which rows these are"] if size < FEWEST and letters < MANY else []
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
    mend = f"That takes {needed:,} rows: hold more out, compare over several seeds, or say --hoped {math.ceil(10 * shown) / 10:g}."
    return judged(seen, [], warnings, mend, rows=size, standard_error=error, shown=shown, hoped=read.hoped, needed=needed)


CHECKS: Mapping[str, Callable[[Read], Finding]] = {
    "repeated rows": repeated_rows,
    "rows in two parts": rows_in_two_parts,
    "contradictions": contradictions,
    "validation size": validation_size,
}
