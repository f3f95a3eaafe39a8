"""What the turns of a comparison come to: ratios at equal work, speed, memory, and a table.

A turn's time is taken for each real token, so that peers whose batches hold other examples at a time (grouped, packed) are compared at equal
work; for those with Burnish's own batches this is the ratio of step times.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    "work",
    "system",
    "times as long as Burnish",
    "bar",
    "tokens a second",
    "of the products' rate",
    "peak MB",
    "loss",
    "gradient norm",
)


def median_and_range(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def per_token(turn: Mapping[str, Any]) -> float:
    """Seconds that a turn took for each real token."""
    return float(turn["seconds"] / turn["tokens"])


def folded(rounds: Sequence[Mapping[str, Any]], epochs: int) -> list[dict[str, dict[str, float]]]:
    """Where a whole run of several epochs is measured, the turns at the same place of each epoch together: a round is then a part of
    the rows through all epochs, the first, in which caches are filled, among them."""
    each = len(rounds) // epochs
    together = [[rounds[place + epoch * each] for epoch in range(epochs)] for place in range(each)]
    return [
        {name: {key: sum(one[name][key] for one in several) for key in ("seconds", "tokens")} for name in several[0]}
        for several in together
    ]


def summarised(record: Mapping[str, Any]) -> dict[str, Any]:
    """For each system of a record: its ratio to Burnish (median and range over rounds; of the whole where there are epochs), tokens a
    second, share of the rate of the bare products, peak memory, mean loss and gradient norm."""
    rounds, found = folded(record["rounds"], record["epochs"]), {}
    for name in record["systems"]:
        turns = [one[name] for one in record["rounds"]]
        ratios = [per_token(one[name]) / per_token(one["burnish"]) for one in rounds]
        seconds, tokens = (sum(turn[key] for turn in turns) for key in ("seconds", "tokens"))
        ratio = median_and_range(ratios)
        if record["epochs"] > 1:
            ratio["median"] = (seconds / tokens) / whole(record, "burnish")
        means = {key: [turn[key] for turn in turns if turn[key] is not None] for key in ("loss", "grad_norm")}
        found[name] = {
            "ratio": ratio,
            "tokens_per_second": tokens / seconds,
            "seconds_per_step": seconds / sum(turn["steps"] for turn in turns),
            "peak_memory": max(turn["peak_memory"] for turn in turns),
            **{key: statistics.mean(values) if values else None for key, values in means.items()},
        }
        if "products" in record["systems"]:
            found[name]["share"] = statistics.median(per_token(one["products"]) / per_token(one[name]) for one in rounds)
    return found


def whole(record: Mapping[str, Any], name: str) -> float:
    """Seconds a real token over all turns of a system."""
    return float(sum(one[name]["seconds"] for one in record["rounds"]) / sum(one[name]["tokens"] for one in record["rounds"]))


def judged(record: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each bar: the peer that it is about, what was to be reached and what was. `best` is the peer that fares best."""
    memory = record["measure"] == "memory"
    own = found["burnish"]["peak_memory"]
    reached = {name: own / one["peak_memory"] if memory else one["ratio"]["median"] for name, one in found.items()}
    peers = [name for name, role in record["systems"].items() if role in ("default", "option")]
    verdicts = {}
    for which, bar in record["bars"].items():
        pool = [name for name in peers if which == "best" or record["systems"][name] == which]
        peer = max(pool, key=reached.__getitem__) if memory else min(pool, key=reached.__getitem__)
        met = reached[peer] <= bar if memory else reached[peer] >= bar
        verdicts[which] = {"peer": peer, "bar": bar, "reached": reached[peer], "met": met}
    return verdicts


def lines(record: Mapping[str, Any]) -> list[str]:
    """The rows of the table for one comparison."""
    found = record["summary"]
    told: dict[str, str] = {}
    for which, verdict in record["verdicts"].items():
        sign = "<=" if record["measure"] == "memory" else ">="
        what = "memory " if record["measure"] == "memory" else ""
        text = f"{which}: {what}{verdict['reached']:.3g} {sign} {verdict['bar']:g} {'met' if verdict['met'] else 'MISSED'}"
        told[verdict["peer"]] = "; ".join(filter(None, [told.get(verdict["peer"]), text]))
    made = []
    for name, one in found.items():
        ratio = one["ratio"]
        cells = [
            record["title"] if name == "burnish" else "",
            f"{name}: {record['how'][name]}",
            "1" if name == "burnish" else f"{ratio['median']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})",
            told.get(name, ""),
            f"{one['tokens_per_second']:,.0f}",
            f"{one['share']:.0%}" if "share" in one else "",
            f"{one['peak_memory'] / 1e6:,.0f}",
            "" if one["loss"] is None else f"{one['loss']:.4f}",
            "" if one["grad_norm"] is None else f"{one['grad_norm']:.3g}",
        ]
        made.append(f"| {' | '.join(cells)} |")
    return made


def table(records: Sequence[Mapping[str, Any]]) -> str:
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*head, *(line for record in records for line in lines(record))])


SHORT = ("work", "against", "times as long as Burnish", "bar", "memory", "loss (gradient norm), Burnish's and its")


def in_short(records: Sequence[Mapping[str, Any]]) -> str:
    """A table of a line for each bar, for the README: the system that it is about, its time and memory as times Burnish's."""
    head = [f"| {' | '.join(SHORT)} |", "|---" * len(SHORT) + "|"]
    return "\n".join([*head, *(line for record in records for line in short_lines(record))])


def short_lines(record: Mapping[str, Any]) -> list[str]:
    found, made = record["summary"], []
    own = found["burnish"]
    for verdict in record["verdicts"].values():
        peer, ratio = found[verdict["peer"]], found[verdict["peer"]]["ratio"]
        memory = record["measure"] == "memory"
        bar = f"memory <= {verdict['bar']:g}" if memory else f">= {verdict['bar']:g}"
        losses = [
            "" if one["loss"] is None else f"{one['loss']:.3f}" + ("" if one["grad_norm"] is None else f" ({one['grad_norm']:.2f})")
            for one in (own, peer)
        ]
        cells = [
            record["title"],
            record["how"][verdict["peer"]],
            f"**{ratio['median']:.2f}** ({ratio['low']:.2f} to {ratio['high']:.2f})",
            bar + ("" if verdict["met"] else ": missed"),
            f"{peer['peak_memory'] / own['peak_memory']:.2f}",
            ", ".join(filter(None, losses)),
        ]
        made.append(f"| {' | '.join(cells)} |")
    return made
