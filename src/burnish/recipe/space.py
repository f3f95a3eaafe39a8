"""A search space as it stands in a recipe: ranges in the place of values, which `burnish sweep` fills in.

    optimizer: {lr: {log: [1e-5, 1e-3]}}                      from low to high, each factor as likely as any other
    dropout: {all: {range: [0, 0.3]}}                         from low to high; `step` for some values only
    train: {batch_size: {integer: [8, 64], step: 8}}          whole numbers; `log: true` for each factor as likely
    method: {choice: [full, {name: lora, r: {integer: [4, 16]}}]}    one of these, which may hold ranges themselves

A grid takes `points` values of a range (5 where not said), all values that steps lead to, and all choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

MARKS = {"log": ("points",), "range": ("step", "points"), "integer": ("step", "log", "points"), "choice": ()}
"""What makes a mapping a range, and which keys may stand beside it."""

POINTS = 5
GOLDEN = 0.381966
"""The smaller part of the golden section: a share of a range where no round number lies."""
MIXTURE = ("data", "train")
"""Where a mapping gives weights to files, which may have any name."""


def written(value: Any) -> str:
    """A value as YAML in one line: `{name: lora, r: 8}`."""
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False).removesuffix("\n").removesuffix("\n...")


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, both included: all, or those that steps from `low` lead to; `log`: each factor as likely as any other."""

    low: float
    high: float
    integer: bool = False
    log: bool = False
    step: float | None = None
    points: int | None = None

    def __str__(self) -> str:
        kind = "integer" if self.integer else "log" if self.log else "range"
        beside = {"step": self.step, "log": (self.log and self.integer) or None, "points": self.points}
        more = "".join(f", {key}: {written(value)}" for key, value in beside.items() if value is not None)
        return f"{{{kind}: [{self.low:g}, {self.high:g}]{more}}}"

    def value(self, number: Any) -> Any:
        """What stands in the recipe for a number that a search came to."""
        return int(number) if self.integer else float(number)

    def probes(self) -> list[Any]:
        """Both ends and a value between them, no round one: what has to be right for the range to be."""
        if self.integer or self.step:
            between = self.low + (self.step or 1)
        elif self.log:
            between = self.low * (self.high / self.low) ** GOLDEN
        else:
            between = self.low + (self.high - self.low) * GOLDEN
        return list(dict.fromkeys(self.value(number) for number in (self.low, between, self.high)))

    def grid(self, points: int | None = None) -> list[Any]:
        """The values that a grid tries."""
        wanted = points or self.points or (None if self.step else POINTS)
        if self.step and wanted is None:
            return [self.value(round(self.low + index * self.step, 12)) for index in range(round((self.high - self.low) / self.step) + 1)]
        assert wanted is not None
        shares = [index / max(wanted - 1, 1) for index in range(wanted)]
        if self.log:
            found = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            found = [self.low + (self.high - self.low) * share for share in shares]
        if self.step:
            found = [self.low + round((number - self.low) / self.step) * self.step for number in found]
        if self.integer:
            found = [round(number) for number in found]
        return list(dict.fromkeys(self.value(float(f"{number:.12g}")) for number in found))


@dataclass(frozen=True)
class Choices:
    """One of some values, each told by its label: the name it has, where no other has that, else its YAML."""

    options: Sequence[Any]

    def __str__(self) -> str:
        return f"{{choice: [{', '.join(map(written, self.options))}]}}"

    @property
    def labels(self) -> list[str]:
        names = [name_of(option) for option in self.options]
        return [name if names.count(name) == 1 else written(option) for name, option in zip(names, self.options, strict=True)]

    def value(self, label: Any) -> Any:
        return self.options[self.labels.index(label)]

    def probes(self) -> list[str]:
        return self.labels

    def grid(self) -> list[str]:
        return self.labels


def name_of(option: Any) -> str:
    name = option.get("name") if isinstance(option, Mapping) else None
    return name if isinstance(name, str) else written(option)


Domain = Numbers | Choices
Values = Mapping[str, Any]
"""A value for each key that is searched, a choice by its label."""


def is_range(node: Any, path: Sequence[str]) -> bool:
    """Whether a node of a recipe is meant as a range, be it well formed or not."""
    if not isinstance(node, Mapping) or not MARKS.keys() & node.keys():
        return False
    return not (tuple(path) == MIXTURE and all(isinstance(value, (int, float)) for value in node.values()))


def ranges(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Key and mapping of each range in a recipe as it is written, without those within the options of another."""
    if is_range(node, path):
        yield ".".join(path), node
    else:
        for key, inner in children(node):
            yield from ranges(inner, (*path, key))


def children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        yield from ((str(key), inner) for key, inner in node.items())
    elif isinstance(node, list):
        yield from ((str(place), inner) for place, inner in enumerate(node))


def flat(node: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a tree by their dotted keys, a range as one value."""
    inner = {} if is_range(node, path) else dict(children(node))
    if not inner:
        return {".".join(path): node}
    return {key: value for name, child in inner.items() for key, value in flat(child, (*path, name)).items()}


def unsearched(raw: Mapping[str, Any]) -> list[str]:
    """A fault for each range, for those who need values."""
    return [f"`{key}` is a range to search: burnish sweep, or give it a value" for key, _ in ranges(raw)]


def space_faults(node: Any, path: tuple[str, ...] = ()) -> list[str]:
    """Every range that is malformed, by its key."""
    if not is_range(node, path):
        return [fault for key, inner in children(node) for fault in space_faults(inner, (*path, key))]
    key = ".".join(path)
    if path in ((), ("run",)):
        return [f"`{key or 'the recipe'}` cannot be searched: ranges stand in the place of settings"]
    try:
        found = domain(node)
    except ValueError as error:
        return [f"`{key}`: {error}"]
    options = zip(found.options, found.labels, strict=True) if isinstance(found, Choices) else ()
    return [fault for option, label in options for fault in space_faults(option, option_path(path, option, label))]


def option_path(path: tuple[str, ...], option: Any, label: str) -> tuple[str, ...]:
    """Where the keys of an option stand: `method.lora.r`."""
    return (*path, label) if isinstance(option, (Mapping, list)) else path


def domain(node: Mapping[str, Any]) -> Domain:
    """The range that a mapping stands for. Raises ValueError with what is wrong and what was expected."""
    marks = [mark for mark in ("choice", "integer", "range", "log") if mark in node]
    kind = marks[0]
    strange = [key for key in node if key != kind and key not in MARKS[kind]]
    if strange:
        beside = f"only {' and '.join(MARKS[kind])} may" if MARKS[kind] else "nothing may"
        raise ValueError(f"`{strange[0]}` stands beside `{kind}`, where {beside}")
    return choices(node["choice"]) if kind == "choice" else numbers(kind, node)


def choices(options: Any) -> Choices:
    """Raises ValueError where these are not two different values at least."""
    if not isinstance(options, list) or len(options) < 2:
        raise ValueError(f"choice needs a list of two values or more, such as {{choice: [full, lora]}}; got {written(options)}")
    told = [written(option) for option in options]
    twice = next((label for label in told if told.count(label) > 1), None)
    if twice is not None:
        raise ValueError(f"choice names {twice} twice")
    return Choices(options)


def numbers(kind: str, node: Mapping[str, Any]) -> Numbers:
    """A range of numbers. Raises ValueError where its ends or its step are none."""
    ends, integer = node[kind], kind == "integer"
    example = {"log": "{log: [1e-5, 1e-3]}", "range": "{range: [0, 0.3]}", "integer": "{integer: [1, 16]}"}[kind]
    if not isinstance(ends, list) or len(ends) != 2:
        raise ValueError(f"{kind} needs its lowest and its highest value, such as {example}; got {written(ends)}")
    low, high = (number(end, integer) for end in ends)
    log = node.get("log", False) if integer else kind == "log"
    if not isinstance(log, bool):
        raise ValueError(f"log beside integer is true or false; got {written(log)}")
    if not low < high:
        raise ValueError(f"the lowest value comes first, then a higher one, such as {example}; got [{low:g}, {high:g}]")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range begins above 0; got {low:g}")
    step = None if node.get("step") is None else number(node["step"], integer)
    if step is not None and log:
        raise ValueError("a logarithmic range has no step: leave step out")
    if step is not None and (step <= 0 or abs((high - low) / step - round((high - low) / step)) > 1e-6):
        raise ValueError(f"a whole number of steps leads from {low:g} to {high:g}; got a step of {step:g}")
    points = None if node.get("points") is None else number(node["points"], True)
    if points is not None and points < 2:
        raise ValueError(f"points are 2 or more; got {points:g}")
    return Numbers(low, high, integer, log, step, None if points is None else int(points))


def number(value: Any, integer: bool) -> float:
    """A number as people write it; YAML takes 1e-5 for a text. Raises ValueError where it is none."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or (integer and found != int(found)):
        raise ValueError(f"{'a whole number' if integer else 'a number'} is expected; got {written(value)}")
    return int(found) if integer else found


def filled(node: Any, pick: Callable[[str, Domain], Any], path: tuple[str, ...] = ()) -> Any:
    """The node with a value in the place of each range: `pick` gives, for a key and its domain, a number or the label of a choice."""
    if not is_range(node, path):
        if isinstance(node, Mapping):
            return {key: filled(inner, pick, (*path, str(key))) for key, inner in node.items()}
        return [filled(inner, pick, (*path, str(place))) for place, inner in enumerate(node)] if isinstance(node, list) else node
    found = domain(node)
    picked = pick(".".join(path), found)
    value = found.value(picked)
    return filled(value, pick, option_path(path, value, picked)) if isinstance(found, Choices) else value


def at(raw: Any, values: Values) -> Any:
    """The recipe at a point of the space."""
    return filled(raw, lambda key, _: values[key])


class Open(Exception):
    """A key that has no value yet."""

    def __init__(self, key: str, domain: Domain) -> None:
        self.key, self.domain = key, domain


def opened(raw: Any, values: Values) -> Open | None:
    """The first key of `raw` that `values` do not give, where choices so far have led to it."""

    def pick(key: str, domain: Domain) -> Any:
        if key not in values:
            raise Open(key, domain)
        return values[key]

    try:
        filled(raw, pick)
    except Open as found:
        return found
    return None


def grid(raw: Any) -> list[dict[str, Any]]:
    """Every point of the grid, the last key changing fastest; a key within an option only where that is chosen."""
    waiting: list[dict[str, Any]] = [{}]
    points = []
    while waiting:
        values = waiting.pop()
        found = opened(raw, values)
        if found is None:
            points.append(values)
        else:
            waiting.extend({**values, found.key: value} for value in reversed(found.domain.grid()))
    return points


def probes(raw: Any) -> tuple[dict[str, Domain], list[dict[str, Any]]]:
    """All keys that are searched, and points that together try each one's ends and choices once, the others at their first."""
    domains: dict[str, Domain] = {}
    first = completed(raw, {}, domains)
    points, waiting = [first], [(first, key) for key in first]
    while waiting:
        around, key = waiting.pop(0)
        for value in domains[key].probes()[1:]:
            known = set(domains)
            outer = {name: given for name, given in around.items() if name != key and not name.startswith(key + ".")}
            point = completed(raw, {**outer, key: value}, domains)
            points.append(point)
            waiting.extend((point, name) for name in point if name not in known)
    return domains, points


def completed(raw: Any, values: Values, domains: dict[str, Domain]) -> dict[str, Any]:
    """`values` with the first value of every key that they leave open; notes the domains met."""

    def pick(key: str, domain: Domain) -> Any:
        domains.setdefault(key, domain)
        return made.setdefault(key, values.get(key, domain.probes()[0]))

    made: dict[str, Any] = {}
    filled(raw, pick)
    return made
