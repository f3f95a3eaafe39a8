"""How often the intervals of `burnish compare` hold a known difference: `python benchmarks/coverage.py [TRIALS]` prints the table of docs/statistics.md."""

from __future__ import annotations

import sys

from burnish.experiment.simulation import KINDS, coverage, settings


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    found = {(each.name, each.seeds, each.rows): coverage(each, trials) for each in settings()}
    columns = sorted({key[1:] for key in found})
    print("| scores vary | " + " | ".join(f"{seeds} x {rows:,}" for seeds, rows in columns) + " |")
    print("|" + "---|" * (len(columns) + 1))
    for name in KINDS:
        print(f"| {name} | " + " | ".join(f"{100 * found[name, seeds, rows]:.1f}" for seeds, rows in columns) + " |")
    print(f"\n{trials:,} trials each; lowest {100 * min(found.values()):.1f}, highest {100 * max(found.values()):.1f}")


if __name__ == "__main__":
    main()
