"""The comparisons: what work, by which systems, and the bar that Burnish sets itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ours
import peers
import products
from material import prepare, read, write

Role = Literal["burnish", "default", "option", "limit"]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class System:
    """`play` is what its process does, given a seat and what the work prepared. `default` and `option` are peers as they come and
    with their better options; `limit` is the machine."""

    name: str
    role: Role
    play: Callable[..., None]
    how: str


OURS = System("burnish", "burnish", ours.train, "`burnish train`, engine as it comes")
LIMIT = System("products", "limit", products.multiply, "the matrix products alone, without padding")
TRAINER = System("trainer", "default", peers.train, "Trainer, as it comes")
GROUPED = System("trainer-grouped", "option", partial(peers.train, order="grouped"), "Trainer, batches grouped by length")


def evenly(rows: Rows, size: int) -> Rows:
    """Any rows will do: which of them are taken is decided by their lengths."""
    return rows


@dataclass(frozen=True)
class Work:
    """A training. The steps of `rounds` turns, `turn` each, follow `warm` steps that are not counted.

    `bars` name the ratio of time (or of peak memory, where `measure` says so) that is to be reached against `default` and `best`.
    """

    name: str
    title: str
    file: str
    task: Mapping[str, Any]
    batch_size: int
    turn: int
    systems: Sequence[System]
    bars: Mapping[str, float]
    measure: Literal["time", "memory", "overhead"] = "time"
    lr: float = 5e-5
    method: Any = "full"
    max_length: int | None = None
    vocabulary: int | None = None
    rounds: int = 8
    warm: int = 2
    epochs: int = 1
    cut: Callable[[Rows, int], Rows] = evenly

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.warm + self.turn * self.rounds // self.epochs

    def recipe(self, model: str, rows: str) -> dict[str, Any]:
        return {
            "model": model,
            "task": dict(self.task),
            "data": {"train": rows, "max_length": self.max_length},
            "method": self.method,
            "optimizer": {"name": "adamw", "lr": self.lr, "weight_decay": 0.01},
            "schedule": "constant",
            "train": {
                "duration": f"{self.epochs}ep",
                "batch_size": self.batch_size,
                "evaluate_every": "1000000st",
                "save_every": "1000000st",
                "device": "cpu",
                "seed": 0,
            },
        }

    def prepared(self, data: Path, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What every system is given, and facts for the record."""
        material = prepare(self, data, folder)
        facts = {
            "batch_size": self.batch_size,
            "examples": len(material.examples),
            "tokens_a_step": material.tokens,
            "operations_a_token": products.operations(material),
        }
        return (material,), facts


@dataclass(frozen=True)
class Prediction:
    """Labels of many texts by a model that Burnish has trained a little; a step is all of them."""

    name: str
    title: str
    train: str
    file: str
    size: int
    systems: Sequence[System]
    bars: Mapping[str, float]
    measure: Literal["time"] = "time"
    rounds: int = 5
    warm: int = 1

    def prepared(self, data: Path, folder: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A finished run, and texts of all lengths."""
        import burnish

        rows = list(read(data / self.file))
        some = list(read(data / self.train))
        random.Random(0).shuffle(some)
        write(folder / "rows.jsonl", some[:64])
        little = Work(self.name, self.title, self.train, CLASSIFY, 8, 1, (), {}, max_length=512)
        run = burnish.train({**little.recipe("starter:minilm", str(folder / "rows.jsonl")), "run": str(folder / "run")})
        rows = sorted(rows, key=lambda row: len(row["text"]))
        rows = [rows[int((number + 0.5) * len(rows) / self.size)] for number in range(min(self.size, len(rows)))]
        random.Random(0).shuffle(rows)
        tokens = sum(min(512, len(ids)) for ids in run.tokenizer([row["text"] for row in rows], verbose=False)["input_ids"])
        return (str(run.path), rows, tokens), {"examples": len(rows), "tokens_a_step": tokens}


def opening(rows: Rows, size: int) -> Rows:
    """As much of one novel as makes so many blocks of 512 tokens, and a little more."""
    return [{"text": rows[0]["text"][: size * 2600]}]


def trl(name: str, role: Role, how: str, **options: Any) -> System:
    return System(name, role, partial(peers.fine_tune, **options), how)


def pipelines(size: int) -> list[System]:
    sorted_batches = f"pipeline, sorted by length, {size} at once"
    return [
        System("burnish", "burnish", ours.predict, "`Run.predict`"),
        System("pipeline", "default", peers.predict, "pipeline, as it comes"),
        System("pipeline-sorted", "option", partial(peers.predict, batch_size=size), sorted_batches),
    ]


CLASSIFY = {"name": "classify", "text": "text", "label": "label"}
TAG = {"name": "tag", "tokens": "tokens", "tags": "ner"}
ANSWER = {"name": "answer", "question": "question", "context": "context", "answers": "answers", "stride": 128}
CHAT = {"name": "chat", "prompt": "instruction", "context": "input", "response": "output", "generation": {"samples": 0}}
CONTINUE = {"name": "continue", "text": "text", "generation": {"samples": 0}}
SST2, LONGEST = "sst2/train.jsonl.gz", 512
LORA = {"name": "lora", "r": 8, "alpha": 16}
FAST = {"gradient_checkpointing": False}
SUPERVISED = [
    OURS,
    trl("trl", "default", "SFTTrainer, as it comes", max_length=LONGEST),
    trl("trl-grouped", "option", "SFTTrainer, grouped by length, no checkpointing", order="grouped", max_length=LONGEST, **FAST),
    trl("trl-padding-free", "option", "SFTTrainer, padding-free, no checkpointing", padding_free=True, max_length=None, **FAST),
    trl("trl-packed", "option", "SFTTrainer, bfd packing, no checkpointing", packing=True, max_length=LONGEST, **FAST),
]
TRAINED = [OURS, TRAINER, GROUPED, LIMIT]
BOTH = {"default": 2.0, "best": 1.2}
WORKS: dict[str, Work | Prediction] = {
    work.name: work
    for work in (
        Work("sst2", "SST-2, starter, batch 32", SST2, CLASSIFY, 32, 5, TRAINED, BOTH),
        Work("sst2-lora", "SST-2, starter, LoRA r=8", SST2, CLASSIFY, 32, 5, TRAINED, BOTH, lr=1e-3, method=LORA),
        Work(
            "sst2-freeze",
            "SST-2, starter, freeze 4 of 6, 3 epochs",
            SST2,
            CLASSIFY,
            32,
            6,
            [OURS, TRAINER, GROUPED],
            {"best": 2.5},
            method={"name": "freeze", "blocks": 4},
            rounds=12,
            warm=0,
            epochs=3,
        ),
        Work(
            "imdb",
            "IMDB, 512 tokens, batch 8",
            "imdb/train.jsonl.gz",
            CLASSIFY,
            8,
            2,
            TRAINED,
            {"default": 1.3, "best": 1.05},
            max_length=512,
        ),
        Work("conll", "CoNLL-2003, tag, batch 32", "conll2003/train.jsonl.gz", TAG, 32, 5, TRAINED, {"default": 1.8}),
        Work(
            "squad",
            "SQuAD, answer, 384 tokens, batch 8",
            "squad/train.jsonl.gz",
            ANSWER,
            8,
            2,
            [
                OURS,
                System("trainer", "default", partial(peers.train, pad_to=384), "Trainer as in run_qa, padded to 384"),
                System("trainer-dynamic", "option", peers.train, "Trainer, padded to the longest of a batch"),
                GROUPED,
                LIMIT,
            ],
            {"default": 1.2},
            max_length=384,
        ),
        Work(
            "alpaca",
            "Alpaca chat, Llama 20M, response only, batch 16",
            "alpaca/train.jsonl.gz",
            CHAT,
            16,
            1,
            [*SUPERVISED, LIMIT],
            BOTH,
            lr=5e-4,
            max_length=LONGEST,
            vocabulary=32_000,
            warm=1,
        ),
        Work(
            "alpaca-128k",
            "the same, vocabulary of 128,000",
            "alpaca/train.jsonl.gz",
            CHAT,
            16,
            1,
            [*SUPERVISED, System("trainer", "option", peers.train, "Trainer, padded to the longest of a batch")],
            {"best": 0.5},
            measure="memory",
            lr=5e-4,
            max_length=LONGEST,
            vocabulary=128_000,
            rounds=3,
            warm=1,
        ),
        Work(
            "novels",
            "novels, continue, blocks of 512, Llama 20M, batch 4",
            "corpus/english_novels_train.jsonl.gz",
            CONTINUE,
            4,
            1,
            [OURS, System("trainer", "default", partial(peers.train, pad_to=LONGEST), "Trainer as in run_clm"), LIMIT],
            {"default": 1.1},
            lr=5e-4,
            max_length=LONGEST,
            vocabulary=32_000,
            warm=1,
            cut=opening,
        ),
        Prediction("predict-sst2", "predict SST-2", SST2, "sst2/validation.jsonl.gz", 872, pipelines(32), {"best": 1.5}),
        Prediction(
            "predict-imdb", "predict IMDB, 512 tokens", "imdb/train.jsonl.gz", "imdb/test.jsonl.gz", 96, pipelines(8), {"best": 1.5}
        ),
        Work(
            "overhead",
            "the loop itself: SST-2, every saving off",
            SST2,
            CLASSIFY,
            32,
            3,
            [
                System("burnish", "burnish", ours.train_plainly, "`burnish train`, every saving off"),
                System("loop", "default", ours.bare_loop, "a bare PyTorch loop, the same batches"),
            ],
            {"default": 0.99},
            measure="overhead",
            rounds=14,
        ),
    )
}
