"""SST-2 from 200 rows: what helps where rows are few. The same rows for every system, other rows for every seed; one table.

    python benchmarks/few_rows.py DATA [--rows 200] [--epochs 10] [--seeds 0 1 2 3 4] [--systems plain augmented ...]

DATA is a folder with train.jsonl.gz and validation.jsonl.gz (columns text, label). A seed draws the rows (and 200 others to watch, which
dynamic control alone reads), the new head, and the order. Accuracy is that on the 872 rows of validation.jsonl.gz, which nothing looks at
before the end. Systems alternate seed by seed; results go to benchmarks/results/few_rows.json, and a run that stands there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "few_rows.json"
SAME = ("system", "seed", "rows", "epochs")

SYSTEMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "augmented": {"data": {"augment": {"steps": ["synonyms", "insert", "swap", "delete"], "share": 0.5}}},
    "layer_decay": {"selective": {"layer_decay": 0.9}},
    "l2_sp": {"selective": {"l2_sp": {"alpha": 0.01, "beta": 0.01}}},
    "head_dropout": {"dropout": {"head": 0.3}},
    "dynamic": {"control": {"name": "dynamic", "metric": "loss", "patience": 1}},
}
"""What each system changes in the recipe."""


def recipe(arguments: argparse.Namespace, system: str, seed: int, run: str) -> dict[str, Any]:
    """The recipe of a run: the common one, with what the system changes."""
    common: dict[str, Any] = {
        "model": "starter:minilm",
        "task": {"name": "classify", "text": "text", "label": "label"},
        "data": {
            "train": str(arguments.data / "train.jsonl.gz"),
            "validation": 200,
            "test": str(arguments.data / "validation.jsonl.gz"),
            "limit": arguments.rows,
            "seed": seed,
        },
        "optimizer": {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01},
        "schedule": {"name": "linear", "warmup": "10%"},
        "train": {
            "duration": f"{arguments.epochs}ep",
            "batch_size": 16,
            "evaluate_every": "1ep",
            "save_every": "1000000st",
            "seed": seed,
        },
        "run": run,
    }
    return {**common, **{key: {**common.get(key, {}), **section} for key, section in SYSTEMS[system].items()}}


def measured(arguments: argparse.Namespace, system: str, seed: int) -> dict[str, Any]:
    """Trains once and says what came of it."""
    import burnish

    with tempfile.TemporaryDirectory() as folder:
        run = burnish.train(recipe(arguments, system, seed, f"{folder}/run"))
        moves = sum(line["kind"] == "move" for line in run.folder.read_metrics())
        found = run.metrics["test"]
        return {"accuracy": found["accuracy"], "loss": found["loss"], "seconds": run.summary["seconds"], "moves": moves}


def kept() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else []


def table(records: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    """A markdown table: mean accuracy and its range, the mean difference to plain on the same rows, loss, seconds."""
    wanted = [line for line in records if (line["rows"], line["epochs"]) == (arguments.rows, arguments.epochs)]
    plain = {line["seed"]: line["accuracy"] for line in wanted if line["system"] == "plain"}
    lines = ["| system | seeds | accuracy | lowest to highest | against plain | test loss | seconds |", "|---|---|---|---|---|---|---|"]
    for system in SYSTEMS:
        own = [line for line in wanted if line["system"] == system]
        if not own:
            continue
        scores = [100 * line["accuracy"] for line in own]
        paired = [100 * (line["accuracy"] - plain[line["seed"]]) for line in own if line["seed"] in plain]
        against = f"{statistics.mean(paired):+.1f}" if paired else ""
        loss, seconds = (statistics.mean(line[key] for line in own) for key in ("loss", "seconds"))
        lines.append(
            f"| {system} | {len(own)} | {statistics.mean(scores):.1f} | {min(scores):.1f} to {max(scores):.1f} | {against} "
            f"| {loss:.3f} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for system in arguments.systems:
            wanted = {"system": system, "seed": seed, "rows": arguments.rows, "epochs": arguments.epochs}
            if any(all(line[key] == wanted[key] for key in SAME) for line in kept()):
                continue
            record = {**wanted, **measured(arguments, system, seed)}
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps([*kept(), record], indent=1) + "\n")
            print(json.dumps(record), flush=True)
    print(table(kept(), arguments))


if __name__ == "__main__":
    main()
