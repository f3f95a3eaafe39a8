"""Folders of comparisons as `burnish compare` leaves them, made without training."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from made_runs import dump, make_steps

LABELS = ("delivery", "returns", "payment", "account", "<b>praise</b>")


def make_comparison(
    folder: Path,
    qualities: dict[str, float],
    seeds: Sequence[int] = (0, 1, 2),
    labels: Sequence[str] = LABELS,
    rows: int = 60,
    failed: Sequence[tuple[str, int]] = (),
    missing: Sequence[tuple[str, int]] = (),
    text: str = "Where is my parcel <script>alert(1)</script>?",
) -> Path:
    """A comparison of systems of the given accuracies, the first the baseline; some cells may have failed, some not be there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = random.Random(11)
    base = next(iter(qualities))
    systems = []
    for place, (name, quality) in enumerate(qualities.items()):
        runs = [
            cell(folder, name, place, seed, quality, (labels, rows, noise), (name, seed) in failed, (name, seed) in missing)
            for seed in seeds
        ]
        systems.append(system(name, place, runs))
    for entry in systems:
        entry["difference"] = None if entry["name"] == base else difference(entry, systems[0])
    lines = [{"file": "test.jsonl", "row": row, "text": f"{text} {row}"} for row in range(1, rows + 1)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    content = {
        "kind": "comparison",
        "name": folder.name,
        "task": "classify",
        "metric": "accuracy",
        "higher_is_better": True,
        "part": "test",
    }
    content |= {"rows": rows, "baseline": base, "seeds": list(seeds), "level": 0.95, "systems": systems, "front": [base]}
    dump(folder, "comparison.json", {**content, "warnings": ["7 rows of train also stand in test."], "finished": not missing})
    return folder


def cell(folder: Path, name: str, place: int, seed: int, quality: float, made_of: Any, failed: bool, missing: bool) -> dict[str, Any]:
    labels, rows, noise = made_of
    run = folder / "runs" / f"system-{place}" / f"seed-{seed}"
    entry = {"seed": seed, "path": str(run.relative_to(folder)), "metrics": {}, "seconds": None, "peak_memory": None, "energy": None}
    entry |= {"reused": seed == 1}
    if missing:
        return entry
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("task: classify\n", encoding="utf-8")
    make_steps(run, 24, every=6)
    make_facts(run, name, place, rows, labels)
    if failed:
        return {**entry, "failed": "The loss is NaN at step 3: lower the learning rate."}
    records = []
    for row in range(1, rows + 1):
        truth = labels[row % len(labels)]
        right = noise.random() < quality
        records.append({"row": row, "file": "test.jsonl", "truth": truth, "label": truth if right else labels[(row + 1) % len(labels)]})
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (run / "evaluations").mkdir()
    (run / "evaluations" / "test.predictions.jsonl").write_text(lines, encoding="utf-8")
    accuracy = sum(record["truth"] == record["label"] for record in records) / rows
    metrics = {"loss": 2 - accuracy, "accuracy": accuracy, "macro_f1": accuracy - 0.01}
    table = [[label, 0.5, 0.5, round(accuracy - 0.01 * at, 3), rows // len(labels)] for at, label in enumerate(labels)]
    classes = {"kind": "table", "title": "Classes", "columns": ["label", "precision", "recall", "f1", "rows"], "rows": table, "note": ""}
    dump(
        run, "evaluations/test.json", {"part": "test", "rows": rows, "step": 24, "seconds": 1.0, "metrics": metrics, "sections": [classes]}
    )
    seconds, memory = 20.0 * (1 + place) + seed, 500_000_000 * (1 + place % 3)
    dump(run, "summary.json", {"steps": 24, "epochs": 2, "seconds": seconds, "peak_memory": memory, "ended": "duration reached"})
    (run / "report").mkdir()
    (run / "report" / "index.html").write_text("<p>a run</p>", encoding="utf-8")
    return {**entry, "metrics": metrics, "seconds": seconds, "peak_memory": memory}


def make_facts(run: Path, name: str, place: int, rows: int, labels: Sequence[str]) -> None:
    """What a run writes before its first step."""
    counted = {"total": 22_716_296, "trainable": 22_716_296 // (1 + 10 * place), "roles": [["head", 10, 10]]}
    dump(
        run,
        "plan.json",
        {"model": "starter:minilm", "method": name, "task": "classify", "parameters": counted, "steps": 24, "batch_size": 32},
    )
    parts = {part: {"source": f"/home/ada/{part}.jsonl", "sha256": part * 12, "rows": rows} for part in ("train", "validation", "test")}
    counts = {"train": {label: 10 + at for at, label in enumerate(labels)}}
    dump(run, "data.json", {"parts": parts, "labels": counts, "warnings": []})
    facts = {"burnish": "0.1.0", "torch": "2.13.0", "cpu": "AMD EPYC", "threads": 2, "memory_bytes": 8_264_000_000}
    dump(run, "environment.json", {**facts, "started": "2026-11-21T10:00:00+00:00", "command": ["burnish", "compare", "a b.yaml"]})


def system(name: str, place: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    done = [run for run in runs if run["metrics"]]
    names = done[0]["metrics"] if done else {}
    trainable = 22_716_296 // (1 + 10 * place)
    return {
        "name": name,
        "recipe": "recipes/classify.yaml",
        "overrides": [f"method={name}"],
        "trainable": trainable,
        "total": 22_716_296,
        "runs": runs,
        "metrics": {metric: estimate([run["metrics"][metric] for run in done]) for metric in names},
        "seconds": estimate([run["seconds"] for run in done]),
        "peak_memory": estimate([run["peak_memory"] for run in done]),
    }


def estimate(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return dict.fromkeys(("mean", "sd", "low", "high"))
    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": mean, "sd": None, "low": mean - 0.05, "high": mean + 0.05}
    half = 2 * statistics.stdev(values) + 0.01
    return {"mean": mean, "sd": statistics.stdev(values), "low": mean - half, "high": mean + half}


def difference(entry: dict[str, Any], base: dict[str, Any]) -> dict[str, Any] | None:
    if not entry["metrics"] or not base["metrics"]:
        return None
    mean = entry["metrics"]["accuracy"]["mean"] - base["metrics"]["accuracy"]["mean"]
    low, high = mean - 0.05, mean + 0.05
    verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    rows = {"rows_low": mean - 0.03, "rows_high": mean + 0.03, "p_mcnemar": 0.0421}
    return {"mean": mean, "low": low, "high": high, **rows, "verdict": verdict}
