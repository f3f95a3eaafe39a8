"""Texts that a model wrote, as the page shows them: cards of prompt, answer and reference, or before and after side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.core.errors import count
from burnish.report.collect import mapping, sequence
from burnish.report.wording import plain

MOST_SAMPLES = 64
MOST_OPEN = 4
MOST_CHARACTERS = 900
"""Of one text; the whole stands in the JSON file of the evaluation."""
PROMPT_END = 350
"""Characters that stay of the end of a long prompt, where what is asked mostly stands."""

Sample = dict[str, Any]


@dataclass(frozen=True)
class Passage:
    """A text as far as it is shown: its beginning, how much is left out, and its end."""

    start: str
    left_out: str = ""
    end: str = ""


@dataclass(frozen=True)
class Answer:
    """A text that the model wrote. `ended` is None where it is unknown."""

    title: str
    passage: Passage
    ended: bool | None


@dataclass(frozen=True)
class Card:
    """One row: its prompt, one answer or two, and what was hoped for."""

    row: str
    prompt: Passage
    answers: Sequence[Answer]
    reference: Passage


@dataclass(frozen=True)
class SamplesView:
    """Cards under a title. `left_out` counts those that the page does not show."""

    title: str
    cards: Sequence[Card]
    note: str
    left_out: int = 0
    kind: str = "samples"

    @property
    def first(self) -> Sequence[Card]:
        """The cards that stand open."""
        return self.cards[:MOST_OPEN]

    @property
    def others(self) -> Sequence[Card]:
        """The cards that are folded away, so that what follows is not far down the page."""
        return self.cards[MOST_OPEN:]


def samples_view(content: dict[str, Any]) -> SamplesView:
    """A recorded section of samples as cards with one answer each."""
    found = samples_of(content)
    cards = [card(sample, [answer("answer", sample)]) for sample in found[:MOST_SAMPLES]]
    return SamplesView(plain(content.get("title") or "Samples"), cards, plain(content.get("note") or ""), len(found) - len(cards))


def side_by_side(title: str, pairs: Sequence[tuple[Sample, Sample | None]]) -> SamplesView:
    """Samples before and after training on the same prompts; only before where a run has not come to an end."""
    cards = [
        card(before, [answer("before", before), *([answer("after", after)] if after else [])]) for before, after in pairs[:MOST_SAMPLES]
    ]
    befores, afters = [before for before, _ in pairs], [after for _, after in pairs if after]
    shares = [f"{share} {when}" for share, when in ((ended_share(befores), "before"), (ended_share(afters), "after")) if share]
    return SamplesView(title, cards, f"Ended by themselves: {', '.join(shares)}." if shares else "", len(pairs) - len(cards))


def ended_share(samples: Sequence[Sample]) -> str:
    """`3 of 16`, or nothing where it is unknown whether they ended."""
    known = [sample["ended"] for sample in samples if isinstance(sample.get("ended"), bool)]
    return f"{sum(known)} of {len(known)}" if known else ""


def samples_of(content: dict[str, Any]) -> list[Sample]:
    return [mapping(sample) for sample in sequence(content.get("samples")) if mapping(sample)]


def identity(sample: Sample) -> tuple[str, str]:
    """What says that two samples answer the same: the row and the prompt."""
    return plain(sample.get("row")), plain(sample.get("prompt") or "")


def card(sample: Sample, answers: Sequence[Answer]) -> Card:
    prompt, reference = (plain(sample.get(key) or "") for key in ("prompt", "reference"))
    return Card(plain(sample.get("row")), clipped(prompt, PROMPT_END), answers, clipped(reference))


def answer(title: str, sample: Sample) -> Answer:
    ended = sample.get("ended")
    return Answer(title, clipped(plain(sample.get("answer") or "")), ended if isinstance(ended, bool) else None)


def clipped(text: str, end: int = 0) -> Passage:
    """A text of at most `MOST_CHARACTERS`, the last `end` of which are its end."""
    if len(text) <= MOST_CHARACTERS:
        return Passage(text)
    left_out = count(len(text) - MOST_CHARACTERS, "more character") if not end else count(len(text) - MOST_CHARACTERS, "character")
    return Passage(text[: MOST_CHARACTERS - end], f"{left_out} left out", text[len(text) - end :] if end else "")
