"""Where systems disagree: rows that one gets right in most runs and another does not, with their texts and what each has said.

A record of a prediction says by its own fields what was right: `truth` and `label` or `labels` of a text, `truth` and `predicted` of
words, `exact_match` of an answer. Tasks whose outputs are neither right nor wrong (numbers, written texts) have no such rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.report.collect import mapping, sequence
from burnish.report.sections import Column, TableView
from burnish.report.versus.reading import Cell, System, Versus
from burnish.report.wording import integer, percent, plain

MOST_ROWS = 40
MOST_SYSTEMS = 4
"""Systems whose answers stand side by side: the baseline, and the best of the others."""
TEXT = 320
"""Characters of a text that are shown."""

Key = tuple[str, int]
"""File and number of a row."""


@dataclass(frozen=True)
class Answers:
    """What a system's runs have said of one row: how many were right, of how many, and what was said most."""

    right: int
    runs: int
    said: str

    @property
    def mostly(self) -> bool:
        """Whether more than half of the runs were right."""
        return 2 * self.right > self.runs


@dataclass(frozen=True)
class Disagreement:
    """One row, what would have been right, and the answers of the systems that are shown."""

    place: str
    text: str
    truth: str
    answers: Sequence[Answers]


@dataclass(frozen=True)
class Disagreements:
    """The rows on which systems differ most, and how often each system differs from the baseline."""

    systems: Sequence[str]
    rows: Sequence[Disagreement]
    left_out: int
    counts: TableView | None


def disagreements(versus: Versus) -> Disagreements | None:
    """None where fewer than two systems have predictions that are right or wrong."""
    judged = {system.name: found for system in versus.systems if (found := answers_of(system, versus.part))}
    if len(judged) < 2:
        return None
    names = chosen(versus, judged)
    shared = set.intersection(*(set(judged[name]) for name in names))
    truths, texts = truths_of(versus), texts_of(versus)
    split = [key for key in shared if len({judged[name][key].mostly for name in names}) > 1]
    split.sort(key=lambda key: (-gap([judged[name][key] for name in names]), key not in texts, key))
    rows = [
        Disagreement(f"{key[0]} row {key[1]}", shortened(texts.get(key, "")), truths.get(key, ""), [judged[name][key] for name in names])
        for key in split[:MOST_ROWS]
    ]
    return Disagreements(names, rows, len(split) - len(rows), counts(versus, judged))


def chosen(versus: Versus, judged: Mapping[str, Any]) -> list[str]:
    """The baseline, then the best of the others."""
    ranked = [system.name for system in versus.measured if system.name in judged and system.name != versus.baseline]
    ranked += [name for name in judged if name not in ranked and name != versus.baseline]
    return ([versus.baseline] if versus.baseline in judged else []) + ranked[: MOST_SYSTEMS - 1]


def gap(answers: Sequence[Answers]) -> float:
    """How far apart the shares of right runs are."""
    shares = [answer.right / answer.runs for answer in answers]
    return max(shares) - min(shares)


def answers_of(system: System, part: str) -> dict[Key, Answers]:
    """What the runs of a system have said of each row."""
    told: dict[Key, list[tuple[bool, str]]] = {}
    for cell in system.done:
        for record in cell.predictions(part):
            verdict, key = judged_record(record), key_of(record)
            if verdict is not None and key is not None:
                told.setdefault(key, []).append(verdict)
    return {
        key: Answers(sum(right for right, _ in found), len(found), Counter(said for _, said in found).most_common(1)[0][0])
        for key, found in told.items()
    }


def key_of(record: Mapping[str, Any]) -> Key | None:
    """The row that a record is of."""
    row = record.get("row")
    return (str(record.get("file") or ""), row) if isinstance(row, int) else None


def judged_record(record: Mapping[str, Any]) -> tuple[bool, str] | None:
    """Whether a record is right, and what it says; None where it is neither right nor wrong."""
    truth = record.get("truth")
    if "label" in record and truth is not None:
        return record["label"] == truth, plain(record["label"])
    if "labels" in record and truth is not None:
        said = sequence(record["labels"])
        return set(map(str, said)) == set(map(str, sequence(truth))), ", ".join(map(str, said)) or "(none)"
    if isinstance(record.get("exact_match"), int | float):
        return bool(record["exact_match"]), plain(record.get("prediction")) or "(none)"
    if isinstance(truth, list) and isinstance(record.get("predicted"), list):
        wrong = sum(one != other for one, other in zip(truth, record["predicted"], strict=False))
        return not wrong, "all right" if not wrong else f"{wrong} of {len(truth)} tags wrong"
    return None


def first_cells(versus: Versus) -> Iterator[Cell]:
    """Every run that gave a result."""
    for system in versus.systems:
        yield from system.done


def truths_of(versus: Versus) -> dict[Key, str]:
    """What is right for each row, from the first run that has predictions."""
    for cell in first_cells(versus):
        found = {}
        for record in cell.predictions(versus.part):
            key, truth = key_of(record), record.get("truth", record.get("references"))
            if key is not None and truth is not None:
                found[key] = " · ".join(map(str, truth)) or "(none)" if isinstance(truth, list) else plain(truth)
        if found:
            return found
    return {}


def texts_of(versus: Versus) -> dict[Key, str]:
    """Texts of rows: those that the comparison keeps, else those of the mistakes that its runs list."""
    if versus.texts:
        return versus.texts
    found: dict[Key, str] = {}
    for cell in first_cells(versus):
        results = cell.record.results if cell.record else []
        file = next((str(record.get("file") or "") for record in cell.predictions(versus.part)[:1]), "")
        for result in results:
            if result.get("part") == versus.part:
                found |= {(file, row): text for row, text in listed_texts(result)}
    return found


def listed_texts(result: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """(row, text) of the tables of an evaluation that have a column `row`: the text is their first column."""
    for section in sequence(result.get("sections")):
        content = mapping(section)
        columns = sequence(content.get("columns"))
        if content.get("kind") == "table" and "row" in columns:
            place = columns.index("row")
            for line in sequence(content.get("rows")):
                if isinstance(line, list) and len(line) > place and isinstance(line[place], int) and isinstance(line[0], str):
                    yield line[place], line[0]


def shortened(text: str) -> str:
    """A text of at most `TEXT` characters."""
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"


def counts(versus: Versus, judged: Mapping[str, Mapping[Key, Answers]]) -> TableView | None:
    """Rows that a system and the baseline both get right, only one of them, or neither, by the majority of their runs."""
    base = judged.get(versus.baseline)
    if base is None:
        return None
    names = ["system", "both right", "only this", f"only {versus.baseline}", "neither", "differ"]
    lines = []
    for name, found in judged.items():
        shared = [(found[key].mostly, base[key].mostly) for key in found if key in base]
        if name == versus.baseline or not shared:
            continue
        split = Counter(shared)
        differ = sum(one != other for one, other in shared) / len(shared)
        lines.append([name, *(integer(split[pair]) for pair in PAIRS), percent(differ)])
    columns = [Column(names[0], "text"), *(Column(name, "number") for name in names[1:])]
    return TableView("Rows right and wrong", columns, lines, "A row is right where more than half of a system's runs get it right.")


PAIRS = ((True, True), (True, False), (False, True), (False, False))
