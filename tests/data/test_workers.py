"""Encoding in several processes: the same as in one, in order, with progress, and errors that arrive."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_encode import same

from burnish.core.errors import DataError
from burnish.core.protocols import Row
from burnish.data import workers
from burnish.data.encode import Encoded
from burnish.tasks.classify import Classify

ROWS = [Row({"text": "the parcel is late " * (number % 7 + 1), "label": "ab"[number % 2]}, "a.csv", number + 1) for number in range(50)]
linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.fixture
def learner(tiny_bert: Path) -> Any:
    from transformers import AutoTokenizer

    return Classify().bind(ROWS, [], AutoTokenizer.from_pretrained(tiny_bert))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CHUNK_ROWS", 7)


def silent(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=linux), pytest.param(3, marks=linux)])
def test_the_same_examples_however_many_processes(learner: Any, processes: int) -> None:
    told: list[tuple[int, int]] = []
    found = workers.encode(ROWS, learner.encode, processes, lambda done, total: told.append((done, total)))
    same(found, learner.encode(ROWS))
    assert np.array_equal(found.targets["labels"], learner.encode(ROWS).targets["labels"])
    assert told == [(min(7 * number, 50), 50) for number in range(1, 9)]


@linux
def test_several_processes_do_work(learner: Any) -> None:
    def whose(rows: Any) -> Encoded:
        found = learner.encode(rows)
        return Encoded(found.inputs, {"process": np.full(len(rows), os.getpid())}, found.weights, found.rows)

    found = workers.encode(ROWS, whose, 2, silent)
    assert os.getpid() not in set(np.asarray(found.targets["process"]).tolist())


def test_chunks_are_cut_by_rows_and_by_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(cut.start, cut.stop) for cut in workers.chunks(ROWS[:16])] == [(0, 7), (7, 14), (14, 16)]
    monkeypatch.setattr(workers, "CHUNK_CHARACTERS", 1)
    assert [(cut.start, cut.stop) for cut in workers.chunks(ROWS[:3])] == [(0, 1), (1, 2), (2, 3)]
    assert [(cut.start, cut.stop) for cut in workers.chunks(ROWS[:1])] == [(0, 1)]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=linux)])
def test_an_error_in_a_row_arrives_as_it_is(processes: int) -> None:
    def make(rows: Any) -> Encoded:
        raise DataError(f"{rows[0].place}: wrong")

    with pytest.raises(DataError, match=r"a.csv row 1: wrong"):
        workers.encode(ROWS, make, processes, silent)


@linux
def test_a_process_that_is_killed_is_told(learner: Any) -> None:
    def make(rows: Any) -> Encoded:
        os._exit(9)

    with pytest.raises(DataError, match=r"data.processes=1"):
        workers.encode(ROWS, make, 2, silent)
