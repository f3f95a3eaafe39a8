"""Outputs of examples: all of them, in order, with what goes through the model known to whoever asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from toy import LENGTHS, ToyModel, ToyObjective, toy_examples

from burnish.core.protocols import Batch, Key
from burnish.engine.inference import EVALUATION, Engine
from burnish.engine.runtime import Runtime


def test_what_goes_through_the_model_is_announced_around_it() -> None:
    model, passed, within = ToyModel(), [], []

    @contextmanager
    def passing(batch: Batch, slots: Sequence[int], key: Key) -> Iterator[None]:
        within.append(batch)
        passed.append((list(batch.examples), list(slots), key))
        yield
        within.pop()

    examples = toy_examples([300] * 9 + list(LENGTHS))
    seen: list[int] = []
    model.register_forward_hook(lambda *_: seen.append(len(within)))
    found = Engine(model, ToyObjective(), Runtime("cpu"), passing=passing).outputs(examples)
    assert sorted(index for examples, _, _ in passed for index in examples) == list(range(len(examples)))
    assert all(slots == list(range(len(examples))) and key == EVALUATION for examples, slots, key in passed)
    assert len(passed) > 1 and seen == [1] * len(passed) and not within
    assert len(found) == len(examples)
