"""Every way to fine-tune the starter on SST-2, with Burnish: quality, what learns, memory, time; one markdown table.

    python benchmarks/methods.py DATA [--rows 3200] [--epochs 1] [--seeds 0 1 2] [--systems full lora-r8 ...] [--out FOLDER]

DATA is a folder with train.jsonl.gz and validation.jsonl.gz (columns text, label). Each run is a process of its own, so that its peak
memory is its own. Runs already finished in FOLDER are not repeated, unfinished ones go on. The table is printed and written to
FOLDER/table.md, the numbers to benchmarks/results/methods.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

import burnish

RESULTS = Path(__file__).parent / "results" / "methods.json"

# The learning rate that suits each method: the fewer parameters learn, and the further from the weights they start, the higher.
SYSTEMS: dict[str, tuple[float, dict[str, Any]]] = {
    "full": (5e-5, {"method": "full"}),
    "head": (1e-3, {"method": "head"}),
    "freeze-4": (5e-5, {"method": {"name": "freeze", "blocks": 4}}),
    "bitfit": (1e-3, {"method": "bitfit"}),
    "houlsby": (1e-3, {"method": {"name": "adapters", "kind": "houlsby"}}),
    "pfeiffer": (1e-3, {"method": {"name": "adapters", "kind": "pfeiffer"}}),
    "lora-r8": (1e-3, {"method": {"name": "lora", "r": 8, "alpha": 16}}),
    "lora-r16": (1e-3, {"method": {"name": "lora", "r": 16, "alpha": 32}}),
    "dora": (1e-3, {"method": {"name": "dora", "r": 8, "alpha": 16}}),
    "ia3": (5e-3, {"method": "ia3"}),
    "prefix_tuning": (1e-2, {"method": "prefix_tuning"}),
    "qlora": (1e-3, {"method": {"name": "lora", "r": 8, "alpha": 16}, "model": {"quantize": "nf4"}}),
    "int8-lora": (1e-3, {"method": {"name": "lora", "r": 8, "alpha": 16}, "model": {"quantize": "int8"}}),
}

COLUMNS = ("method", "accuracy by seed", "mean", "learn", "peak memory", "ms a step", "mean loss", "grad norm")


def recipe(arguments: argparse.Namespace, system: str, seed: int, run: Path) -> dict[str, Any]:
    lr, sections = SYSTEMS[system]
    return {
        "model": {"name": "starter:minilm", **sections.get("model", {})},
        "task": {"name": "classify", "text": "text", "label": "label"},
        "data": {
            "train": str(arguments.data / "train.jsonl.gz"),
            "validation": str(arguments.data / "validation.jsonl.gz"),
            "limit": arguments.rows,
        },
        "method": sections["method"],
        "optimizer": {"name": "adamw", "lr": lr},
        "schedule": {"name": "linear", "warmup": "6%"},
        "train": {"duration": f"{arguments.epochs}ep", "batch_size": 32, "save_every": "1000000st", "seed": seed},
        "run": str(run),
    }


def trained(arguments: argparse.Namespace, system: str, seed: int) -> burnish.Run | None:
    """The finished run of a system: the one that is there, or one made by a process of its own; None where that failed."""
    folder = (arguments.out / f"{system}-{seed}").absolute()
    if not (folder / "summary.json").is_file():
        written = arguments.out / f"{system}-{seed}.yaml"
        written.write_text(yaml.safe_dump(recipe(arguments, system, seed, folder), sort_keys=False))
        command = ["resume", str(folder)] if (folder / "recipe.yaml").is_file() else ["train", str(written)]
        print(f"{system}, seed {seed} ...", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, "-m", "burnish", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"{system}, seed {seed} failed: {done.stderr.strip()}", file=sys.stderr, flush=True)
            return None
    return burnish.load(folder)


def measured(run: burnish.Run) -> dict[str, float]:
    """The numbers of one run. The first step, which warms everything up, does not count in the time."""
    steps = [line for line in run.folder.read_metrics() if line["kind"] == "step"]
    times = [after["seconds"] - before["seconds"] for before, after in itertools.pairwise(steps)]
    parameters = run.folder.read("plan.json")["parameters"]
    return {
        "accuracy": run.metrics["validation"]["accuracy"],
        "share": parameters["trainable"] / parameters["total"],
        "trainable": parameters["trainable"],
        "peak_memory": run.summary["peak_memory"],
        "step_seconds": statistics.median(times),
        "mean_loss": run.summary["mean_loss"],
        "grad_norm": statistics.median(line["grad_norm"] for line in steps),
    }


def line(system: str, found: list[dict[str, float]]) -> str:
    """A row of the table: accuracy of each seed, and medians over seeds of the rest."""
    middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
    scores = [one["accuracy"] for one in found]
    cells = [
        system,
        " ".join(f"{score:.2%}" for score in scores),
        f"{statistics.mean(scores):.2%}",
        f"{middle['share']:.2%} ({middle['trainable']:,.0f})",
        f"{middle['peak_memory'] / 2**20:,.0f} MB",
        f"{middle['step_seconds'] * 1e3:,.0f}",
        f"{middle['mean_loss']:.4f}",
        f"{middle['grad_norm']:.3g}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=3200)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    arguments = parser.parse_args()
    arguments.data = arguments.data.absolute()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    print("\n".join(table), flush=True)
    records = []
    for system in arguments.systems:
        runs = {seed: run for seed in arguments.seeds if (run := trained(arguments, system, seed)) is not None}
        found = {seed: measured(run) for seed, run in runs.items()}
        row = line(system, list(found.values())) if found else f"| {system} | failed |{' |' * (len(COLUMNS) - 2)}"
        print(row, flush=True)
        table.append(row)
        records += [
            {"system": system, "seed": seed, "rows": arguments.rows, "epochs": arguments.epochs, **one} for seed, one in found.items()
        ]
    (arguments.out / "table.md").write_text("\n".join(table) + "\n")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
