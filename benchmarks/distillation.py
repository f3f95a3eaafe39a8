"""A six-block teacher and students of three of its blocks on SST-2, with Burnish: accuracy kept and speed gained, in one table.

    python benchmarks/distillation.py DATA [--teacher RUN] [--rows 6400] [--epochs 2] [--seeds 0 1 2] [--pairs 7] [--out FOLDER]

DATA is a folder with train.jsonl.gz and validation.jsonl.gz (columns text, label). The teacher is a run given, or starter:minilm
trained in full. All students keep blocks 0, 2 and 5: `plain` and `distilled` of the pretrained model, `heir` of the teacher itself,
distilled too. Runs already finished in FOLDER are not repeated. Speed is rows predicted a second, text to label, teacher and student
in turn, the median over pairs. Results go to benchmarks/results/distillation.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import burnish

RESULTS = Path(__file__).parent / "results" / "distillation.json"
STARTER = "starter:minilm"
STUDENTS = ("plain", "distilled", "heir")


def recipe(arguments: argparse.Namespace, seed: int, run: Path, model: dict[str, Any]) -> dict[str, Any]:
    """What teacher and students have in common."""
    return {
        "model": model,
        "task": {"name": "classify", "text": "text", "label": "label"},
        "data": {
            "train": str(arguments.data / "train.jsonl.gz"),
            "validation": str(arguments.data / "validation.jsonl.gz"),
            "limit": arguments.rows,
        },
        "optimizer": {"name": "adamw", "lr": 5e-5},
        "schedule": {"name": "linear", "warmup": "6%"},
        "train": {"duration": f"{arguments.epochs}ep", "batch_size": 32, "save_every": "1000000st", "seed": seed},
        "run": str(run),
    }


def trained(made: dict[str, Any]) -> burnish.Run:
    """The run of a recipe: the one that is there already, else a new one."""
    folder = Path(made["run"])
    return burnish.load(folder) if (folder / "summary.json").is_file() else burnish.train(made, overwrite=folder.exists())


def student(arguments: argparse.Namespace, teacher: Path, system: str, seed: int) -> burnish.Run:
    start = str(teacher / "model") if system == "heir" else STARTER
    made = recipe(arguments, seed, arguments.out / f"{system}-{seed}", {"name": start, "layers": [0, 2, 5]})
    if system != "plain":
        made["distill"] = {"teacher": str(teacher), "temperature": arguments.temperature, "weight": arguments.weight}
    return trained(made)


def rows_per_second(run: burnish.Run, texts: list[str]) -> float:
    began = time.perf_counter()
    run.predict(texts)
    return len(texts) / (time.perf_counter() - began)


def speeds(teacher: burnish.Run, run: burnish.Run, texts: list[str], pairs: int) -> tuple[float, float, float]:
    """Median rows a second of teacher and student, and the median of how many times faster the student is, in turn."""
    for one in (teacher, run):
        one.predict(texts[:64])
    found = [(rows_per_second(teacher, texts), rows_per_second(run, texts)) for _ in range(pairs)]
    slow, fast = (statistics.median(column) for column in zip(*found, strict=True))
    return slow, fast, statistics.median(after / before for before, after in found)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument("data", type=Path)
    made.add_argument("--teacher", type=Path, help="a finished run of the same labels; by default one is trained")
    made.add_argument("--rows", type=int, default=6400)
    made.add_argument("--epochs", type=int, default=2)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--temperature", type=float, default=4.0)
    made.add_argument("--weight", type=float, default=0.7)
    made.add_argument("--pairs", type=int, default=7)
    made.add_argument("--out", type=Path, default=Path("runs/distillation"))
    return made


def main() -> None:
    arguments = parser().parse_args()
    first = recipe(arguments, 0, arguments.out / "teacher", {"name": STARTER})
    teacher = burnish.load(arguments.teacher) if arguments.teacher else trained(first)
    texts = [str(row.values["text"]) for row in teacher.rows("validation")]
    best = teacher.metrics["validation"]["accuracy"]
    print(f"teacher {teacher.path}: {best:.2%} of {len(texts)} rows\n")
    print("| student | accuracy by seed | mean | kept | rows/s (teacher) | faster |\n|---|---|---|---|---|---|")
    records = []
    for system in STUDENTS:
        runs = [student(arguments, teacher.path, system, seed) for seed in arguments.seeds]
        scores = [run.metrics["validation"]["accuracy"] for run in runs]
        slow, fast, ratio = speeds(teacher, runs[0], texts, arguments.pairs)
        mean = statistics.mean(scores)
        each = " ".join(f"{score:.2%}" for score in scores)
        print(f"| {system} | {each} | {mean:.2%} | {mean / best:.1%} | {fast:,.0f} ({slow:,.0f}) | {ratio:.2f} |", flush=True)
        records.append(
            {
                "system": system,
                "accuracies": scores,
                "teacher": best,
                "rows_per_second": fast,
                "teacher_rows_per_second": slow,
                "faster": ratio,
            }
        )
    RESULTS.parent.mkdir(exist_ok=True)
    facts = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    RESULTS.write_text(json.dumps({"arguments": facts, "results": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
