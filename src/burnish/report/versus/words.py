"""What a comparison comes to, in sentences that say no more than its intervals allow."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.core.errors import count
from burnish.report import wording
from burnish.report.versus.reading import Difference, Estimate, System, Versus
from burnish.report.wording import NONE, decimal, short, spoken

MINUS = "\N{MINUS SIGN}"
MOST_NAMED = 4
"""Systems that the headline tells of one by one; with more, only the best and the worst of each verdict."""
BETTER, WORSE, NOTHING = "better", "worse", "no difference shown"


def headline(versus: Versus) -> list[str]:
    """The sentences that stand first: what is better, what is worse, and where no difference is shown."""
    if not versus.counted:
        return [f"No run of this comparison has given a result yet ({progress(versus)})."]
    told = [] if complete(versus) else [f"This comparison is not complete: {progress(versus)}."]
    if versus.base is None or not any(system.difference for system in versus.others):
        return told + [alone(versus, system) for system in versus.measured[:MOST_NAMED]] + seeds_note(versus)
    for verdict in (BETTER, WORSE, NOTHING):
        found = [system for system in versus.others if system.difference and verdict_of(system.difference) == verdict]
        found.sort(key=lambda system: -abs(system.difference.mean) if system.difference else 0.0)
        told += nothing_shown(versus, found) if verdict == NOTHING else shown(versus, found, verdict)
    return told + seeds_note(versus)


def summary(versus: Versus) -> list[str]:
    """The headline where it is short, else how many systems are better and worse, in one sentence."""
    compared = [system for system in versus.others if system.difference]
    if len(compared) <= 2:
        return headline(versus)
    verdicts = [verdict_of(system.difference) for system in compared if system.difference]
    told = [f"{verdicts.count(verdict)} {verdict}" for verdict in (BETTER, WORSE) if verdict in verdicts]
    told += [f"no difference shown for {verdicts.count(NOTHING)}"] if NOTHING in verdicts else []
    return [f"Against {versus.baseline}, of {count(len(compared), 'system')}: {', '.join(told)}.", *seeds_note(versus)]


def verdict_of(difference: Difference) -> str:
    """`better`, `worse` or `no difference shown`; whatever else is recorded shows nothing."""
    return difference.verdict if difference.verdict in (BETTER, WORSE) else NOTHING


def tone_of(verdict: str) -> str:
    """The color of a verdict."""
    return {BETTER: "accent", WORSE: "contrast"}.get(verdict, "muted")


def shown(versus: Versus, systems: Sequence[System], verdict: str) -> list[str]:
    """`lora is 1.2 points better than full (95%: 0.3 to 2.1).`, for each system, or for the most different and the number of the rest."""
    told = [
        f"{system.name} is {gain(versus, system)} {verdict} than {versus.baseline}{interval_of_gain(versus, system)}."
        for system in systems[: MOST_NAMED if len(systems) <= MOST_NAMED else 2]
    ]
    rest = [system.name for system in systems[len(told) :]]
    return told + ([f"{verdict.capitalize()} too, by less: {listed(rest)}."] if rest else [])


def nothing_shown(versus: Versus, systems: Sequence[System]) -> list[str]:
    """One sentence on all systems whose interval holds 0."""
    if not systems:
        return []
    if len(systems) > 2:
        return [f"No difference to {versus.baseline} is shown for {listed([system.name for system in systems])}."]
    told = [f"{versus.baseline} and {system.name}{interval_of_difference(versus, system)}" for system in systems]
    return [f"No difference is shown between {', nor between '.join(told)}."]


def listed(names: Sequence[str], most: int = 6) -> str:
    """`a, b and c`; of many names the first, and how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def gain(versus: Versus, system: System) -> str:
    """By how much, without a sign: `1.2 points`, or in the metric's own unit."""
    return amount(versus, abs(system.difference.mean)) if system.difference else NONE


def amount(versus: Versus, value: float | None) -> str:
    """A difference with its unit: `1.2 points`, `0.034 loss`."""
    if value is None:
        return NONE
    if versus.points:
        number = in_points(value)
        return f"{number} {'point' if number in ('1.0', '-1.0') else 'points'}"
    return f"{short(value)} {spoken(versus.metric)}"


def in_points(value: float) -> str:
    """A share in hundredths with a decimal that can be read: 0.0123 -> `1.2`, 0.0004 -> `0.04`."""
    points = 100 * value
    return f"{points:.1f}" if abs(points) >= 0.095 or points == 0 else f"{points:.2f}"


def bare(versus: Versus, value: float | None) -> str:
    """A difference without its unit, with a true minus."""
    if value is None:
        return NONE
    return (in_points(value) if versus.points else short(value)).replace("-", MINUS)


def signed(versus: Versus, value: float | None) -> str:
    """A difference with its sign: `+1.2`, `−0.3`."""
    return f"{'+' if value is not None and value > 0 else ''}{bare(versus, value)}"


def level(versus: Versus) -> str:
    """`95%`"""
    return wording.percent(versus.level)


def interval_of_gain(versus: Versus, system: System) -> str:
    """` (95%: 0.3 to 2.1)`, turned so that it agrees with `better by` or `worse by`; nothing where it is unknown."""
    difference = system.difference
    if difference is None or difference.low is None or difference.high is None:
        return ""
    low, high = (difference.low, difference.high) if difference.mean >= 0 else (-difference.high, -difference.low)
    return f" ({level(versus)}: {bare(versus, low)} to {bare(versus, high)})"


def interval_of_difference(versus: Versus, system: System) -> str:
    """` (+0.4 points; 95%: −1.0 to +1.8)`; nothing where it is unknown."""
    difference = system.difference
    if difference is None or difference.low is None or difference.high is None:
        return ""
    unit = " points" if versus.points else ""
    ends = f"{signed(versus, difference.low)} to {signed(versus, difference.high)}"
    return f" ({signed(versus, difference.mean)}{unit}; {level(versus)}: {ends})"


def alone(versus: Versus, system: System) -> str:
    """A system by itself: `full reaches an accuracy of 0.871 (95%: 0.85 to 0.89).`"""
    estimate = system.metrics.get(versus.metric, Estimate())
    return f"{system.name} comes to {spoken(versus.metric)} {decimal(estimate.mean)}{bracketed(versus, estimate)}."


def bracketed(versus: Versus, estimate: Estimate) -> str:
    """` (95%: 0.85 to 0.89)`; nothing where it is unknown."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f" ({level(versus)}: {decimal(estimate.low)} to {decimal(estimate.high)})"


def seeds_note(versus: Versus) -> list[str]:
    """One seed tells nothing of what other seeds would have given."""
    return [] if len(versus.seeds) > 1 else ["There is one seed only: how much another one would change is unknown."]


def complete(versus: Versus) -> bool:
    """Whether every run is there or has failed."""
    return versus.finished and versus.counted + sum(len(system.failed) for system in versus.systems) >= versus.expected


def progress(versus: Versus) -> str:
    """`5 of 9 runs are there, 1 failed`"""
    failed = sum(len(system.failed) for system in versus.systems)
    return f"{versus.counted} of {count(versus.expected, 'run')} {'is' if versus.expected == 1 else 'are'} there" + (
        f", {failed} failed" if failed else ""
    )


def origin(versus: Versus) -> str:
    """What was measured, on what: `accuracy on 160 test rows, 3 seeds, intervals at 95%`."""
    seeds = f"{count(len(versus.seeds), 'seed')} ({', '.join(str(seed) for seed in versus.seeds[:12])})" if versus.seeds else "one run each"
    return f"{spoken(versus.metric)} on {wording.rows_of(versus.part, versus.rows)}, {seeds}, intervals at {level(versus)}"


def reading(versus: Versus) -> list[str]:
    """How to read the intervals: what they take into account, and what they do not."""
    told = [
        f"An interval at {level(versus)} holds the true value in {level(versus)} of such experiments. "
        "Seeds and rows both count as chance: another seed, and other rows of the same kind, would have given other numbers.",
        "A difference is paired: the same seeds, the same rows. Where its interval holds 0 this comparison shows no difference, which is not to say that there is none.",
    ]
    if versus.part != "test":
        told.append(f"These are {versus.part} rows, on which checkpoints may have been chosen: that flatters those that were chosen.")
    if len(versus.others) > 1:
        chance = 1 - versus.level ** len(versus.others)
        told.append(
            f"{len(versus.others)} systems are compared with one baseline, each interval for itself: that at least one misses is likelier, "
            f"up to {wording.percent(round(chance, 2))} if they were independent."
        )
    if len(versus.seeds) < 2:
        told.append("With one seed, chance in training is left out of every interval: they are too narrow.")
    return told
