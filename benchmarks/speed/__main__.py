"""Burnish beside the tools that people use, in turns on the same rows, seeds and settings; one markdown table.

    python benchmarks/speed DATA [--rows sst2 imdb ...] [--rounds N] [--threads N] [--out FILE]

DATA is a folder of data sets (sst2, imdb, conll2003, squad, alpaca, corpus), each with train.jsonl.gz and the like; what a comparison
needs is in works.py. Every system computes in a fresh process of its own, a few steps at a time, A B C A B C, never two at once. Numbers are the
median and range over rounds of the ratio of time at equal work. Every round is kept in the results (benchmarks/results/speed.json by
default), in which a comparison that is made again takes the place of the earlier one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from summary import in_short, judged, summarised, table
from turns import Turn, Worker, in_turns, printing_to
from works import WORKS, Prediction, Work

HERE = Path(__file__).absolute().parent
RESULTS = HERE.parent / "results" / "speed.json"
README = HERE.parent.parent / "README.md"
BEGIN, END = "<!-- speed: written by make bench -->", "<!-- /speed -->"
PACKAGES = ("burnish", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers")


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "load": os.getloadavg()[0],
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def measured(work: Work | Prediction, data: Path) -> dict[str, Any]:
    """The record of one comparison, every round of it."""
    began, before = time.monotonic(), machine()

    def tell(message: str) -> None:
        print(f"{work.name}, {time.monotonic() - began:.0f} s: {message}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"BURNISH_CACHE": str(folder / "cache"), "TMPDIR": name}  # nothing kept by earlier runs is used
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), printing_to, (folder / "prepared.log",)) as pool:
            prepared, facts = pool.submit(work.prepared, data, folder).result()
        tell(", ".join(f"{value:,.0f} {key.replace('_', ' ')}" for key, value in facts.items()))
        workers = [Worker(one.name, one.play, folder / f"{one.name}.log", work.rounds, work.warm, *prepared) for one in work.systems]
        try:
            rounds = in_turns(workers, work.rounds, work.warm, tell)
        finally:
            for worker in workers:
                worker.end()
    rest = {"minutes": round((time.monotonic() - began) / 60, 2), "machine": before, "facts": facts}
    return recorded(work, rounds, rest)


def recorded(work: Work | Prediction, rounds: list[dict[str, Turn]], rest: dict[str, Any]) -> dict[str, Any]:
    """What was compared, all that was measured, and what it comes to."""
    record: dict[str, Any] = {
        "name": work.name,
        "title": work.title,
        "measure": work.measure,
        "bars": dict(work.bars),
        "epochs": work.epochs if isinstance(work, Work) else 1,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        **rest,
        "systems": {one.name: one.role for one in work.systems},
        "how": {one.name: one.how for one in work.systems},
        "rounds": [{system: asdict(turn) for system, turn in one.items()} for one in rounds],
    }
    record["summary"] = summarised(record)
    return {**record, "verdicts": judged(record, record["summary"])}


def show_in_readme(records: Sequence[dict[str, Any]]) -> None:
    """Puts the table of the kept results where the README has one."""
    before, begin, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        README.write_text(f"{before}{BEGIN}\n{in_short(records)}\n{END}{after}", encoding="utf-8")


def in_rounds(work: Work | Prediction, rounds: int | None) -> Work | Prediction:
    """The work in so many rounds; where it goes on for several epochs, in the next number that they all share."""
    if rounds is None:
        return work
    if isinstance(work, Prediction):
        return replace(work, rounds=rounds)
    return replace(work, rounds=math.ceil(rounds / work.epochs) * work.epochs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", nargs="+", choices=WORKS, default=list(WORKS), metavar="NAME", help=f"of {', '.join(WORKS)}")
    parser.add_argument(
        "--rounds", type=int, help="turns of every system; by default what takes all comparisons about 35 minutes on two cores"
    )
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    records, failed = [], []
    for name in arguments.rows:
        try:
            records.append(measured(in_rounds(WORKS[name], arguments.rounds), arguments.data.absolute()))
        except RuntimeError as error:
            print(f"{name} failed: {error}", flush=True)
            failed.append(name)
            continue
        print(table(records[-1:]), flush=True)
        earlier = json.loads(arguments.out.read_text()) if arguments.out.is_file() else []
        kept = [*(one for one in earlier if one["name"] != name), records[-1]]
        kept.sort(key=lambda one: list(WORKS).index(one["name"]))
        arguments.out.write_text(json.dumps(kept, indent=1) + "\n")
        if arguments.out == RESULTS:
            show_in_readme(kept)
    if len(records) > 1:
        print(f"\n{table(records)}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
