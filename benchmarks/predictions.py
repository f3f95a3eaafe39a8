"""What is foretold and what comes: `burnish plan`, then `burnish train`, each in a fresh process, for many recipes; one table.

    python benchmarks/predictions.py [--only NAME ...] [--again] [--threads 2]

Time is that of the whole command, from its start to its end, against the plan's total; memory the peak of the process against the plan's
peak of the recipe as written. The plan measures for some seconds, so a machine that others use meanwhile shows its own drift: `drift` is how
much longer the run took by the clock than its threads computed, beside what the plan's did. Results go to
benchmarks/results/predictions.json after each recipe, and a recipe that stands there is not run again without --again; docs/predictions.md is
written from them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "predictions.json"
PAGE = ROOT / "docs" / "predictions.md"
TIME, MEMORY = 0.2, 0.1
"""How far a prediction may be from what comes."""

SCRATCH = "model={name: new:llama, tokenizer: bundled:tokenizer, config: {hidden_size: 384, num_hidden_layers: 8, num_attention_heads: 6, intermediate_size: 1024}}"
SHORT = ("train.duration=2ep",)

CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "classify": ("classify", SHORT),
    "classify, LoRA": ("classify", (*SHORT, "method=lora")),
    "classify, freeze 4 of 6": ("classify", (*SHORT, "method={name: freeze, blocks: 4}")),
    "classify, head": ("classify", ("train.duration=8ep", "method=head")),
    "tag": ("tag", SHORT),
    "answer": ("answer", SHORT),
    "fill": ("fill", ("train.duration=1ep",)),
    "rewrite": ("rewrite", ("train.duration=3ep", "train.evaluate_every=3ep")),
    "continue": ("continue", ("train.duration=4ep",)),
    "chat": ("chat", SHORT),
    "classify, checkpointing": ("classify", (*SHORT, "train.checkpoint_blocks=1")),
    "classify, QLoRA nf4": ("classify", (*SHORT, "method=lora", "model.quantize=nf4")),
    "classify, from scratch": ("classify", (*SHORT, "model.from_scratch=true")),
    "classify, batch 128": ("classify", (*SHORT, "train.batch_size=128", "train.micro_batch=64")),
    "classify, padded": ("classify", (*SHORT, "engine.savings.unpadded=false")),
    "classify, 8-bit AdamW": ("classify", (*SHORT, "optimizer.name=adamw8bit")),
    "classify, update in backward": ("classify", (*SHORT, "train.in_backward=true", "train.max_grad_norm=null")),
    "continue, Llama of 15M": ("continue", (SCRATCH, "train.duration=1ep")),
}
"""Name -> recipe, and what is changed in it."""


def command(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Runs `burnish` in a fresh process: seconds by the clock, and of computing. Raises RuntimeError with what it said where it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, "-m", "burnish", *arguments], capture_output=True, text=True, env=environment, cwd=ROOT)
    passed, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"burnish {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-600:]}")
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(name: str, threads: int, cache: Path) -> dict[str, Any]:
    """Plans a recipe, trains it, and lays both side by side."""
    recipe, changes = CASES[name]
    environment = {**os.environ, "BURNISH_CACHE": str(cache), "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    path = f"recipes/{recipe}.yaml"
    with tempfile.TemporaryDirectory() as folder:
        plan, run = Path(folder) / "plan.json", Path(folder) / "run"
        command(["plan", path, *changes, "--json", str(plan)], environment)
        passed, computed = command(["train", path, *changes, f"run={run}"], environment)
        told, summary = json.loads(plan.read_text()), json.loads((run / "summary.json").read_text())
    written = next(choice for choice in told["choices"] if choice["name"] == "as written")
    return {
        "recipe": path,
        "changes": list(changes),
        "threads": threads,
        "seconds": {"predicted": told["time"]["total"], "measured": passed, "computed": computed},
        "parts": {"predicted": told["time"]["seconds"], "measured": summary["spent"]},
        "memory": {"predicted": written["memory"]["peak"], "measured": summary["peak_memory"]},
        "own": summary["forecast"] and summary["forecast"]["total"],
    }


def page(found: Mapping[str, Any]) -> str:
    """The table, as docs/predictions.md."""
    lines, ratios = [], {"seconds": list[float](), "memory": list[float]()}
    for name, one in found.items():
        cells = [name]
        for what, limit in (("seconds", TIME), ("memory", MEMORY)):
            predicted, real = one[what]["predicted"], one[what]["measured"]
            ratio = predicted / real
            ratios[what].append(ratio)
            shown = f"{predicted / 1e6:,.0f} MB | {real / 1e6:,.0f} MB" if what == "memory" else f"{predicted:.0f} s | {real:.0f} s"
            cells.append(f"{shown} | {ratio:.2f}" + ("" if abs(ratio - 1) <= limit else " (outside)"))
        own = one["own"]
        cells.append(f"{own['ratio']:.2f}" if own else "-")
        lines.append(f"| {' | '.join(cells)} |")
    within = [sum(abs(ratio - 1) <= limit for ratio in ratios[what]) for what, limit in (("seconds", TIME), ("memory", MEMORY))]
    medians = [statistics.median(ratios[what]) for what in ("seconds", "memory")]
    threads = sorted({one["threads"] for one in found.values()})
    return "\n".join(
        [
            "# Foretold and measured",
            "",
            "`burnish plan RECIPE` before, `burnish train RECIPE` after, each in a fresh process; the time of the whole command and the peak of",
            f"its memory. CPU, threads: {', '.join(map(str, threads))}. The last column is what the run itself foretold before its first step.",
            f"`make predictions` makes it again. Time within {TIME:.0%}: {within[0]} of {len(lines)} (median ratio {medians[0]:.2f}); memory within",
            f"{MEMORY:.0%}: {within[1]} of {len(lines)} (median ratio {medians[1]:.2f}).",
            "",
            "| recipe | time foretold | measured | ratio | memory foretold | measured | ratio | the run's own forecast |",
            "|---|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as cache:
        for name in arguments.only:
            if name in found and not arguments.again:
                continue
            found[name] = measured(name, arguments.threads, Path(cache))
            print(
                name,
                {what: round(found[name][what]["predicted"] / found[name][what]["measured"], 2) for what in ("seconds", "memory")},
                flush=True,
            )
            RESULTS.write_text(json.dumps({case: found[case] for case in CASES if case in found}, indent=1) + "\n")
            PAGE.write_text(page({case: found[case] for case in CASES if case in found}))


if __name__ == "__main__":
    main()
