"""Before and after training: the same rows, measured and answered by the model as it was and as it became."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.report import wording
from burnish.report.collect import Record, finite, mapping, sequence
from burnish.report.samples import Sample, SamplesView, identity, samples_of, side_by_side

COMPARED = ("validation", "seen")
"""Parts on which a run compares: its validation rows, else some rows of training."""


@dataclass(frozen=True)
class Comparison:
    """What the page lays side by side."""

    part: str
    origin: str
    metrics: Sequence[tuple[str, str, str, str]]
    """Name, before, after, and after minus before."""
    samples: Sequence[SamplesView]
    shown: frozenset[tuple[str, str]]
    """Samples of the later evaluation, which need not be shown again."""


def comparison(record: Record) -> Comparison | None:
    """The comparison of a run that was measured before training, else None. An unfinished run is shown as far as it has come."""
    before = record.before
    if not before:
        return None
    part = next((str(line.get("part")) for line in record.evaluations if line["step"] == 0), "")
    if not part:
        part = next((name for name in COMPARED for result in record.results if result.get("part") == name), COMPARED[0])
    final = next((result for result in record.results if result.get("part") == part), None)
    on_the_way = next((line for line in reversed(record.evaluations) if line["step"] > 0 and line.get("part") == part), None)
    after = final or on_the_way
    samples = list(paired(before, final or {}))
    return Comparison(
        part=part,
        origin=f"{wording.rows_of(part, before.get('rows'))}, before the first step{since(after, final is not None)}",
        metrics=compared(mapping(before.get("metrics")), mapping((after or {}).get("metrics"))),
        samples=[side_by_side(title, pairs) for title, pairs in samples],
        shown=frozenset(identity(later) for _, pairs in samples for _, later in pairs if later),
    )


def since(after: dict[str, Any] | None, final: bool) -> str:
    """What `after` means."""
    if after is None:
        return "; nothing has been measured since"
    return f" and {'with the weights of' if final else 'so far at'} step {wording.integer(after.get('step'))}"


def compared(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Each metric that is a number before training, the loss last."""
    names = [name for name, value in before.items() if finite(value) is not None]
    names.sort(key=lambda name: name == "loss")
    return [
        (
            wording.spoken(name),
            wording.decimal(before[name]),
            wording.decimal(after.get(name)),
            wording.change(before[name], after.get(name)),
        )
        for name in names
    ]


def paired(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, list[tuple[Sample, Sample | None]]]]:
    """Title and pairs of each section of samples; where there is a later evaluation, only rows that both have answered."""
    later = {identity(sample): sample for content in sections(after) for sample in samples_of(content)}
    for content in sections(before):
        pairs = [(sample, later.get(identity(sample))) for sample in samples_of(content)]
        kept = [pair for pair in pairs if pair[1] is not None] if later else pairs
        if kept:
            yield wording.plain(content.get("title") or "Samples"), kept


def sections(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """The sections of samples of an evaluation."""
    found = [mapping(section) for section in sequence(evaluation.get("sections"))]
    return [content for content in found if content.get("kind") == "samples"]


def without_shown(result: dict[str, Any], comparison: Comparison | None) -> list[Any]:
    """The sections of a result, less the samples that stand in the comparison."""
    kept = []
    for section in sequence(result.get("sections")):
        content = mapping(section)
        if comparison is not None and content.get("kind") == "samples" and result.get("part") == comparison.part:
            rest = [sample for sample in samples_of(content) if identity(sample) not in comparison.shown]
            if not rest:
                continue
            section = {**content, "samples": rest}
        kept.append(section)
    return kept
