"""What the loop tells while it runs. Listeners (recorder, terminal) are callables that take an event; none can change the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Stepped:
    """One optimizer update: `seconds` since the run began, `fraction` of the run that is done, `memory` in bytes at its peak."""

    step: int
    epoch: float
    loss: float
    grad_norm: float
    lr: float
    examples: int
    tokens: int
    slots: int
    seconds: float
    memory: int
    fraction: float
    penalty: float = 0.0
    block_norms: Sequence[float] = ()
    """The gradient norm by place in the model, from embeddings up to the head: plan.json names those that learn in `gradient_places`."""


@dataclass(frozen=True)
class Evaluated:
    """Metrics of a part of the data after `step`, taken in `seconds`."""

    step: int
    epoch: float
    part: str
    metrics: Mapping[str, float]
    seconds: float
    best: bool


@dataclass(frozen=True)
class Moved:
    """Something was turned while training, from `before` to `after` (at most to `limit`), for what was seen after `step` updates.

    `what` is `learning rate` (a factor on the schedule's), `dropout` (a probability added to every one), or `weight decay` (a factor).
    """

    step: int
    what: str
    before: float
    after: float
    limit: float
    why: str


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint stands on disk."""

    step: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Working:
    """Something that takes a while and is no step: encoding, evaluating, writing. `done` of `total` units."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Noted:
    """Something that the user should know, in a sentence."""

    message: str


@dataclass(frozen=True)
class Began:
    """The run is built and about to train: what it is made of, as plan.json and data.json hold it."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class RunBegan:
    """One of several runs is taken up: the `number`th of `total`, `running` of them at a time."""

    name: str
    number: int
    total: int
    running: int = 1


@dataclass(frozen=True)
class OfRun:
    """What happens in one of several runs."""

    name: str
    event: Event


@dataclass(frozen=True)
class RunEnded:
    """One of several runs is there (`done`), was there before (`found`), or has failed; `message` says what it came to."""

    name: str
    how: Literal["done", "found", "failed"]
    message: str
    seconds: float


Event = Began | Stepped | Evaluated | Moved | Saved | Noted | Working
Listener = Callable[[Event], None]
OfSeveral = RunBegan | OfRun | RunEnded | Noted
