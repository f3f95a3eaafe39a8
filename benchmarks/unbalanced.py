"""Unbalanced SST-2 with Burnish: what weights, sampling and losses do for the rare label; one table.

    python benchmarks/unbalanced.py DATA [--frequent 3600] [--rare 400] [--steps 250] [--seeds 0 1 2] [--systems plain weights ...]

DATA is a folder with train.jsonl.gz and validation.jsonl.gz (columns text, label). Of the training rows so many of label 1 and of
label 0 are taken, the same for all seeds and systems; the validation rows are as balanced as they come. Every system makes as many
updates of the same size, and keeps its last weights: oversampling may not win by training longer. Runs alternate seed by seed;
results already in benchmarks/results/unbalanced.json are not repeated. The table has means and ranges over seeds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import burnish

RESULTS = Path(__file__).parent / "results" / "unbalanced.json"
FREQUENT, RARE = 1, 0
SYSTEMS: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "weights": {"loss": {"class_weights": "balanced"}},
    "effective": {"loss": {"class_weights": "effective", "beta": 0.999}},
    "oversample": {"data": {"balance": "oversample"}},
    "undersample": {"data": {"balance": "undersample"}},
    "batches": {"data": {"balance": "batches"}},
    "focal": {"loss": {"name": "focal", "gamma": 2.0}},
    "focal-weights": {"loss": {"name": "focal", "gamma": 2.0, "class_weights": "balanced"}},
}
MEASURED = ("macro_f1", "accuracy", "rare_recall", "rare_precision", "loss", "seconds")
SAME = ("system", "seed", "frequent", "rare", "steps", "model")


def unbalanced(arguments: argparse.Namespace, path: Path) -> Path:
    """Writes the rows to train on, drawn once for all."""
    with gzip.open(arguments.data / "train.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    draw = random.Random(0)
    draw.shuffle(rows)
    wanted = {FREQUENT: arguments.frequent, RARE: arguments.rare}
    chosen = [row for label, number in wanted.items() for row in [row for row in rows if row["label"] == label][:number]]
    if len(chosen) < sum(wanted.values()):
        raise SystemExit(f"{arguments.data} has fewer rows than that of one of the labels")
    draw.shuffle(chosen)
    path.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return path


def recipe(arguments: argparse.Namespace, train: Path, run: Path, system: str, seed: int) -> dict[str, Any]:
    changes = SYSTEMS[system]
    return {
        "model": arguments.model,
        "task": {"name": "classify", "text": "text", "label": "label"},
        "data": {"train": str(train), "validation": str(arguments.data / "validation.jsonl.gz"), **changes.get("data", {})},
        **{key: section for key, section in changes.items() if key != "data"},
        "optimizer": {"name": "adamw", "lr": 5e-5},
        "schedule": {"name": "linear", "warmup": "6%"},
        "train": {
            "duration": f"{arguments.steps}st",
            "evaluate_every": f"{arguments.steps}st",
            "save_every": f"{arguments.steps}st",
            "batch_size": 32,
            "seed": seed,
        },
        "run": str(run),
    }


def measured(run: burnish.Run) -> dict[str, float]:
    """Scores on the validation rows, and how the rare label fared."""
    predictions = [json.loads(line) for line in (run.path / "evaluations" / "validation.predictions.jsonl").open(encoding="utf-8")]
    rare = str(RARE)
    right = sum(line["truth"] == line["label"] == rare for line in predictions)
    said, there = (sum(line[key] == rare for line in predictions) for key in ("label", "truth"))
    scores = run.metrics["validation"]
    return {
        "macro_f1": scores["macro_f1"],
        "accuracy": scores["accuracy"],
        "rare_recall": right / there,
        "rare_precision": right / said if said else 0.0,
        "loss": scores["loss"],
        "seconds": run.summary["seconds"],
    }


def known() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else []


def table(records: list[dict[str, Any]], systems: list[str]) -> str:
    """A line a system: mean over seeds, and least to most."""
    lines = [f"| system | seeds | {' | '.join(MEASURED)} |", "|---" * (len(MEASURED) + 2) + "|"]
    for system in systems:
        own = [record for record in records if record["system"] == system]
        cells = []
        for name in MEASURED:
            values = [record[name] for record in own]
            digits = 0 if name == "seconds" else 3
            cells.append(f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})")
        lines.append(f"| {system} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--frequent", type=int, default=3600)
    parser.add_argument("--rare", type=int, default=400)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--model", default="starter:minilm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["plain", "weights", "oversample", "focal"])
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        train = unbalanced(arguments, Path(folder) / "train.jsonl")
        for seed in arguments.seeds:
            for system in arguments.systems:
                settings = {"system": system, "seed": seed, **{key: getattr(arguments, key) for key in SAME[2:]}}
                found.append(result(arguments, settings, train, Path(folder) / f"{system}-{seed}"))
                print(
                    json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in found[-1].items()}),
                    flush=True,
                )
    print(table(found, arguments.systems))


def result(arguments: argparse.Namespace, settings: dict[str, Any], train: Path, folder: Path) -> dict[str, Any]:
    """What a run with these settings came to: that of the file, else of a new run, which the file then holds."""
    earlier = known()
    same = next((record for record in earlier if all(record[key] == settings[key] for key in SAME)), None)
    if same is not None:
        return same
    run = burnish.train(recipe(arguments, train, folder, settings["system"], settings["seed"]))
    record = {**settings, **measured(run)}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([*earlier, record], indent=1) + "\n")
    return record


if __name__ == "__main__":
    main()
