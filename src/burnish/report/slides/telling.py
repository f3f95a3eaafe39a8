"""Sentences and tables that the deck of a run and that of a comparison share: the task, the data, the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.report import wording
from burnish.report.collect import Record, finite, mapping
from burnish.report.contents import label_counts
from burnish.report.slides.outline import Bars, Grid
from burnish.report.wording import integer, plain

MOST_LABELS = 12
"""Labels whose rows are drawn as bars; of more only the largest and the smallest."""

GOALS = {
    "answer": "find the answer to a question in a text, as a stretch of it",
    "chat": "answer instructions and conversations",
    "classify": "give each text its label",
    "continue": "go on with a text",
    "fill": "guess the hidden words of a text",
    "rewrite": "turn a text into another one",
    "tag": "give each word of a text its tag",
}


def goal(task: str) -> str:
    """What a task is, in words that end a sentence."""
    return GOALS.get(task, task or "learn from examples")


def data_grid(parts: Mapping[str, Any]) -> Grid:
    """Each part of the data: where it comes from, how many rows, its fingerprint."""
    rows = []
    for name, facts in parts.items():
        found = mapping(facts)
        source = plain(found.get("source")).replace("\\", "/").rstrip("/").rpartition("/")[2]
        rows.append([name, source, integer(found.get("rows")), plain(found.get("sha256"))[:12]])
    return Grid(["part", "source", "rows", "SHA-256"], rows, numbers=frozenset({2}))


def labels_exhibit(record: Record | None) -> Bars | None:
    """Rows of each label in training, of many labels the largest and the smallest; None where the task has no labels."""
    names, lines = label_counts(record.data) if record else ([], [])
    if "train" not in names or not lines:
        return None
    place = names.index("train")
    counts = sorted(((label, numbers[place][0]) for label, numbers in lines), key=lambda pair: -(pair[1] or 0))
    if len(counts) > MOST_LABELS:
        ends = MOST_LABELS // 2
        counts = [*counts[:ends], (f"({len(counts) - 2 * ends} more)", None), *counts[-ends:]]
    return Bars([label for label, _ in counts], [("rows of training", [number for _, number in counts])], "rows of training")


def balance(record: Record | None) -> list[str]:
    """How evenly the rows of training fall on the labels."""
    names, lines = label_counts(record.data) if record else ([], [])
    known = [numbers[names.index("train")][0] for _, numbers in lines] if "train" in names else []
    counts = [number for number in known if number]
    if len(counts) < 2:
        return []
    return [f"{len(counts)} labels; the largest has {integer(max(counts))} rows of training, the smallest {integer(min(counts))}."]


def rows_told(parts: Mapping[str, Any]) -> str:
    """`400 rows of training, 80 of validation, 160 of test`"""
    names = {"train": "training"}
    known = [(names.get(name, name), finite(mapping(facts).get("rows"))) for name, facts in parts.items() if name != "seen"]
    told = [
        f"{integer(rows)}{' rows' if place == 0 else ''} of {name}"
        for place, (name, rows) in enumerate((n, r) for n, r in known if r is not None)
    ]
    return ", ".join(told) or "an unknown number of rows"


def machine_told(environment: Mapping[str, Any]) -> str:
    """`GPU H100` or `AMD EPYC, 2 threads, 7.7 GiB`, as far as it is known."""
    device = environment.get("gpu") or environment.get("cpu")
    parts = [plain(device) if device else "", f"{integer(environment['threads'])} threads" if finite(environment.get("threads")) else ""]
    parts.append(wording.memory(environment["memory_bytes"]) if finite(environment.get("memory_bytes")) else "")
    return ", ".join(part for part in parts if part) or "an unknown machine"


def versions_told(environment: Mapping[str, Any]) -> str:
    """`burnish 0.1.0, torch 2.13.0`"""
    return ", ".join(
        f"{name} {environment[name]}" for name in ("burnish", "torch", "transformers", "peft", "python") if environment.get(name)
    )


def pairs_grid(pairs: Sequence[tuple[str, str]]) -> Grid:
    """Names and values, two columns."""
    return Grid(["setting", "value"], [list(pair) for pair in pairs], widths=(1, 2.2))


def both_ends(text: str, most: int = 240) -> str:
    """A prompt as a table cell: where it is long its beginning and more of its end, where what was asked stands."""
    tidy = " ".join(text.split())
    return tidy if len(tidy) <= most else f"{tidy[: most // 3].rstrip()} … {tidy[-(most - most // 3 - 3) :].lstrip()}"


def facing(text: str, most: int = 170) -> str:
    """A text of data as a table cell: one paragraph of at most so many characters."""
    tidy = " ".join(text.split())
    return tidy if len(tidy) <= most else tidy[: most - 1] + "…"
