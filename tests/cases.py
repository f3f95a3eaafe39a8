"""The tasks on tiny models, for tests that hold for every task: settings, rows, and rows that nothing can be done with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

THINGS = ["kettle", "candle", "lamp", "throw", "planter", "clock"]
PLACES = ["Leeds", "Bergen", "Porto", "Graz"]
SENTENCES = [
    f"The {THINGS[number % 6]} was sent to {PLACES[number % 4]}" + " and it came two days late" * (number % 3) + "." for number in range(16)
]


def spans(number: int) -> list[dict[str, Any]]:
    text, thing, place = SENTENCES[number], THINGS[number % 6], PLACES[number % 4]
    return [
        {"start": text.index(word), "end": text.index(word) + len(word), "label": label}
        for word, label in ((thing, "THING"), (place, "PLACE"))
    ]


def answer(number: int) -> dict[str, Any]:
    place = PLACES[number % 4]
    return {"text": [place], "answer_start": [SENTENCES[number].index(place)]}


@dataclass(frozen=True)
class Case:
    """A task on a tiny model: its settings, its rows, and rows that nothing can be done with."""

    model: str
    task: dict[str, Any]
    row: Callable[[int], dict[str, Any]]
    asked: dict[str, Any]
    broken: Sequence[dict[str, Any]] = field(default=())


WRITING = {"samples": 3, "max_new_tokens": 5}
CASES = {
    "classify": Case(
        "tiny_bert",
        {"text": "text", "label": "label"},
        lambda number: {"text": SENTENCES[number], "label": THINGS[number % 3]},
        {"text": "where is it?"},
        [{"text": "", "label": "lamp"}, {"text": "a lamp", "label": ""}],
    ),
    "tag": Case(
        "tiny_bert",
        {"text": "text", "spans": "entities"},
        lambda number: {"text": SENTENCES[number], "entities": spans(number)},
        {"text": "The lamp was sent to Leeds."},
        [{"text": "", "entities": []}, {"text": "a lamp", "entities": [{"start": 2, "end": 99, "label": "THING"}]}],
    ),
    "answer": Case(
        "tiny_bert",
        {"stride": 4},
        lambda number: {"question": "Where was it sent?", "context": SENTENCES[number], "answers": answer(number)},
        {"question": "Where was it sent?", "context": "The lamp was sent to Leeds."},
        [
            {"question": "", "context": "a lamp", "answers": {"text": [], "answer_start": []}},
            {"question": "what?", "context": "a lamp", "answers": {"text": ["lamp"], "answer_start": [99]}},
        ],
    ),
    "fill": Case(
        "tiny_bert",
        {},
        lambda number: {"text": SENTENCES[number]},
        {"text": "The [MASK] was sent to [MASK]."},
        [{"text": ""}, {"text": None}],
    ),
    "rewrite": Case(
        "tiny_t5",
        {"generation": WRITING},
        lambda number: {"source": SENTENCES[number], "target": f"{THINGS[number % 6]} to {PLACES[number % 4]}"},
        {"source": SENTENCES[0]},
        [{"source": "", "target": "x"}, {"source": "x", "target": ""}],
    ),
    "continue": Case(
        "tiny_llama",
        {"generation": WRITING, "prompt_tokens": 4},
        lambda number: {"text": SENTENCES[number]},
        {"text": "The lamp was"},
        [{"text": ""}, {"text": 3 * [""]}],
    ),
    "chat": Case(
        "tiny_llama",
        {"generation": WRITING},
        lambda number: {"prompt": f"Where is my {THINGS[number % 6]}?", "response": f"In {PLACES[number % 4]}."},
        {"prompt": "Where is my lamp?"},
        [{"prompt": "", "response": "x"}, {"prompt": "x", "response": None}],
    ),
}


def recipe_of(task: str, model: Path, folder: Path, **sections: Any) -> dict[str, Any]:
    """The recipe of a task on its tiny model: 12 rows to learn from, 4 to watch."""
    case = CASES[task]
    for part, numbers in (("train", range(12)), ("validation", range(12, 16))):
        lines = "".join(json.dumps(case.row(number)) + "\n" for number in numbers)
        (folder / f"{part}.jsonl").write_text(lines, encoding="utf-8")
    return {
        "model": str(model),
        "task": {"name": task, **case.task},
        "data": {"train": str(folder / "train.jsonl"), "validation": str(folder / "validation.jsonl"), "max_length": 48},
        "optimizer": {"name": "adamw", "lr": 0.003},
        "train": {"duration": "4st", "batch_size": 8, "save_every": "2st", "device": "cpu"},
        "run": str(folder / "run"),
        **sections,
    }
