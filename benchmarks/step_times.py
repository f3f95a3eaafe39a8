"""Time of a training step under every way to fine-tune the starter on SST-2: all systems in one process, in turn; one markdown table.

    python benchmarks/step_times.py DATA [--rounds 6] [--steps 5] [--systems full lora-r8 ...]

DATA is a folder with train.jsonl.gz (columns text, label). Every system takes the same batches of 32 rows. In each round every system makes
a few steps, so that what else the machine does falls on all alike; the table has the median over rounds of a round's mean, and the
median of its ratio to `full` in the same round. Results go to benchmarks/results/step_times.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from methods import SYSTEMS, recipe

RESULTS = Path(__file__).parent / "results" / "step_times.json"


class Runner:
    """A system that is ready to step."""

    def __init__(self, arguments: argparse.Namespace, system: str) -> None:
        from burnish import build
        from burnish import recipe as recipes
        from burnish.core.protocols import Course
        from burnish.run.stepping import make_step

        made = recipe(arguments, system, 0, Path("unused"))
        made["data"] = {"train": made["data"]["train"], "limit": arguments.rows}
        checked = recipes.load(made)
        parts = build.assemble(checked, build.gather(checked), lambda message: None)
        self.order = build.order(parts)
        self.step = make_step(parts, Course(self.order.steps_per_epoch, self.order.steps_per_epoch))
        self.number = 0

    def seconds(self, steps: int) -> float:
        """Mean seconds of the next steps."""
        began = time.perf_counter()
        for _ in range(steps):
            self.step(self.order.batch(self.number), self.number, 1.0)
            self.number += 1
        return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    arguments = parser.parse_args()
    arguments.data, arguments.epochs = arguments.data.absolute(), 1
    runners = {system: Runner(arguments, system) for system in dict.fromkeys(["full", *arguments.systems])}
    for runner in runners.values():
        runner.seconds(2)
    rounds = [{system: runner.seconds(arguments.steps) for system, runner in runners.items()} for _ in range(arguments.rounds)]
    print("| method | ms a step | lowest to highest | against full |\n|---|---|---|---|")
    records = []
    for system in runners:
        times = [1e3 * one[system] for one in rounds]
        ratio = statistics.median(one[system] / one["full"] for one in rounds)
        print(f"| {system} | {statistics.median(times):,.0f} | {min(times):,.0f} to {max(times):,.0f} | {ratio:.2f} |")
        records.append({"system": system, "milliseconds": times, "against_full": ratio})
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
