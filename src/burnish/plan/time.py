"""How long a run takes: measured rates times counted work, part by part; and how far that came out otherwise.

    run = start + loading + before + steps (operations r + update) + evaluations + saves + test

`r`, seconds an operation, is measured on steps of the recipe itself: what a machine does in a second depends on how wide and how long
the products are, on dropout and on attention, so that no single rate of a machine serves small models. For a machine that is not
there, only the formulas are left, and the share of its peak that such work usually reaches.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

UTILISATION = 0.35
"""Share of a card's peak that training of wide transformers reaches, as long as batches are large: 30% to 50% are reported (Chowdhery et al.
2022, arXiv:2204.02311, table 3: 21% to 46%)."""

PARTS = ("start", "loading", "forecast", "before", "steps", "evaluation", "saving", "test", "report")
"""Parts of a run, in order: the libraries, model and rows, the model tried untrained, updates, the validation rows, checkpoints and the
model, the test rows, the page."""


@dataclass(frozen=True)
class Rates:
    """What was measured, in seconds: for an operation of a step's forward and backward, for an `update`, for an operation of reading, for
    `scoring` a row that was read, for a `round` in which every text gets a token more, for each `token` of a text in it and for each
    `prompt` read before; for a `byte` of a checkpoint; and what is loaded when rows are scored for the `first` time. `moments` are bytes of the optimizer's state for each byte that learns. `probe` is
    how long a product took on the machine then, and `spent` what the measuring took."""

    operation: float
    update: float
    reading: float = 0.0
    scoring: float = 0.0
    first: float = 0.0
    round: float = 0.0
    token: float = 0.0
    prompt: float = 0.0
    byte: float = 0.0
    moments: float = 2.0
    probe: float = 0.0
    spent: float = 0.0

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Rates:
        """Raises TypeError or ValueError where `content` is none."""
        return cls(**{name: float(value) for name, value in content.items()})


@dataclass(frozen=True)
class Texts:
    """Texts that an evaluation writes: the tokens of each, and how many are written at once."""

    tokens: Sequence[int] = ()
    room: int = 1


@dataclass(frozen=True)
class Counted:
    """The work of a run: operations of an update and how many there are, operations and rows of an evaluation and how many there are,
    what is written in one and what before training, bytes that learn and those of the saved model, checkpoints, and rows of the test in
    multiples of an evaluation's. `limit` are the seconds after which the run ends, where time limits it."""

    operations: float
    steps: int | None
    steps_per_epoch: int
    reading: float = 0.0
    rows: int = 0
    evaluations: int = 0
    texts: Texts = Texts()
    before: Texts | None = None
    learning: int = 0
    model: int = 0
    saves: int = 0
    test: float = 0.0
    limit: float | None = None


@dataclass(frozen=True)
class Forecast:
    """Seconds by part, and of one step; `operations` of a step and the `rate` at which they go; `peak_memory` in bytes and `memory` by part,
    where they are known; `how` in a sentence where the rates come from."""

    seconds: Mapping[str, float]
    step: float
    steps: int
    steps_per_epoch: int
    evaluation: float
    checkpoint: float
    operations: float
    how: str
    peak_memory: int | None = None
    memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def epoch(self) -> float:
        return self.step * self.steps_per_epoch

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / max(self.step, 1e-12)

    def to_json(self) -> dict[str, Any]:
        """As plan.json keeps it."""
        return {**asdict(self), "total": self.total, "epoch": self.epoch, "rate": self.rate}


def forecast(
    counted: Counted, rates: Rates, known: Mapping[str, float], how: str, beside: Mapping[str, float] = MappingProxyType({})
) -> Forecast:
    """The time of a run; `known` are the seconds of parts that have passed already, or that no rate tells (start, loading, report), and
    `first`, those that the first evaluation takes longer than the others; `beside` are seconds that a part takes whatever it has to do."""
    step = counted.operations * rates.operation + rates.update
    reading = counted.reading * rates.reading + counted.rows * rates.scoring
    evaluation = reading + writing(counted.texts, rates)
    checkpoint = (1 + rates.moments) * counted.learning * rates.byte
    regular = counted.evaluations * evaluation + counted.saves * checkpoint
    steps = counted.steps if counted.steps is not None else max(1, int(((counted.limit or 0.0) - regular) / max(step, 1e-9)))
    found = {
        "before": 0.0 if counted.before is None else reading + writing(counted.before, rates),
        "steps": steps * step,
        "evaluation": counted.evaluations * evaluation,
        "saving": counted.saves * checkpoint + counted.model * rates.byte,
        "test": counted.test * evaluation,
        **known,
    }
    found["evaluation" if counted.before is None else "before"] += known.get("first", 0.0)
    found |= {part: found[part] + seconds for part, seconds in beside.items() if part in found}
    seconds = {part: found[part] for part in PARTS if found.get(part)}
    return Forecast(seconds, step, steps, counted.steps_per_epoch, evaluation, checkpoint, counted.operations, how)


def writing(texts: Texts, rates: Rates) -> float:
    """Seconds in which texts are written: every round gives each text in the model a token more, and one that ends makes room for the next."""
    if not texts.tokens:
        return 0.0
    return rounds(texts) * rates.round + sum(texts.tokens) * rates.token + len(texts.tokens) * rates.prompt


def rounds(texts: Texts) -> int:
    """Rounds until the last text has ended.

    >>> rounds(Texts([3, 3, 2], room=2))
    5
    """
    ends = [0] * max(1, min(texts.room, len(texts.tokens)))
    for tokens in texts.tokens:
        heapq.heapreplace(ends, ends[0] + tokens)
    return max(ends)


def seconds_at(operations: float, peak: float, utilisation: float = UTILISATION) -> float:
    """Seconds for so many operations on a machine whose peak is `peak` operations a second."""
    return operations / (peak * utilisation)


def compared(forecast_: Mapping[str, Any], spent: Mapping[str, float], peak_memory: int | None) -> dict[str, Any]:
    """A forecast (as `Forecast.to_json`) beside what was measured: seconds by part and in total, of the parts that both know, and memory.

    `ratio` is predicted by measured: 1.2 is a fifth too long.
    """
    predicted = forecast_["seconds"]
    parts = [part for part in PARTS if part in predicted and part in spent]
    seconds = {part: pair(predicted[part], spent[part]) for part in parts}
    total = pair(sum(predicted[part] for part in parts), sum(spent[part] for part in parts))
    memory = forecast_.get("peak_memory")
    return {"seconds": seconds, "total": total, "memory": pair(memory, peak_memory) if memory and peak_memory else None}


def pair(predicted: float, measured: float) -> dict[str, float | None]:
    return {"predicted": predicted, "measured": measured, "ratio": predicted / measured if measured else None}
