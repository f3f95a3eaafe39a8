"""Numbers as a person reads them. Each function takes whatever JSON held; what is no number becomes a dash."""

from __future__ import annotations

import json
import shlex
from typing import Any

from burnish.core.errors import count
from burnish.report.collect import finite

NONE = "–"
ACRONYMS = frozenset({"auc", "bleu", "em", "f1", "mcc"})


def integer(value: Any) -> str:
    """1234 -> `1,234`"""
    number = finite(value)
    return NONE if number is None else f"{number:,.0f}"


def decimal(value: Any) -> str:
    """Three decimals, so that a column lines up: 0.87 -> `0.870`, 1234.5 -> `1,234.5`, 0.00002 -> `2e-5`."""
    number = finite(value)
    if number is None:
        return NONE
    if abs(number) >= 100:
        return scientific(number) if abs(number) >= 1e9 else f"{number:,.1f}"
    return scientific(number) if 0 < abs(number) < 5e-4 else f"{number:.3f}"


def short(value: Any, digits: int = 3) -> str:
    """That many significant digits: 9.615 -> `9.62`, 125.0 -> `125`, 12345.6 -> `12,346`, 0.00002 -> `2e-5`."""
    number = finite(value)
    if number is None:
        return NONE
    if abs(number) >= 1000:
        return scientific(number) if abs(number) >= 1e9 else f"{number:,.0f}"
    return scientific(number) if 0 < abs(number) < 1e-3 else f"{number:.{digits}g}"


def scientific(number: float) -> str:
    """0.0000213 -> `2.13e-5`"""
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def percent(value: Any) -> str:
    """0.0123 -> `1.23%`"""
    number = finite(value)
    return NONE if number is None else f"{short(100 * number)}%"


def duration(value: Any) -> str:
    """Seconds in words: 0.42 -> `0.42 s`, 100 -> `1 min 40 s`, 7380 -> `2 h 3 min`."""
    seconds = finite(value)
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{short(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def scaled(value: Any, unit: str, scale: int, prefixes: tuple[str, ...]) -> str:
    """`value` with the largest prefix that leaves at least 1: (3.1e12, "FLOP", 1000, ...) -> `3.1 TFLOP`."""
    number = finite(value)
    if number is None:
        return NONE
    power = 0
    while abs(number) >= scale * 0.9995 and power < len(prefixes) - 1:
        number /= scale
        power += 1
    return f"{short(number)} {prefixes[power]}{unit}"


def memory(value: Any) -> str:
    """Bytes in binary units: 900000000 -> `858 MiB`."""
    return scaled(value, "B", 1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi"))


def flops(value: Any) -> str:
    """Operations: 3.1e12 -> `3.1 TFLOP`."""
    return scaled(value, "FLOP", 1000, ("", "k", "M", "G", "T", "P", "E", "Z"))


def parameters(value: Any) -> str:
    """A number of parameters in words: 22713216 -> `22.7 million`."""
    return scaled(value, "", 1000, ("", "thousand", "million", "billion", "trillion")).strip()


def spoken(name: Any) -> str:
    """A key as words: `macro_f1` -> `macro F1`."""
    words = str(name).replace("_", " ").split()
    return " ".join(word.upper() if word.lower() in ACRONYMS else word for word in words)


def change(before: Any, after: Any) -> str:
    """What was gained or lost: (2.5, 1.25) -> `−1.250`."""
    first, last = finite(before), finite(after)
    if first is None or last is None:
        return NONE
    sign = "" if last == first else "+" if last > first else "\N{MINUS SIGN}"
    return sign + decimal(abs(last - first))


def part_name(part: Any) -> str:
    """A part of the data by its name; the training rows that were looked at again are no part of their own."""
    return "training rows" if part == "seen" else str(part or "evaluation")


def rows_of(part: Any, rows: Any) -> str:
    """`160 test rows`, or `the test part` where their number is unknown."""
    number, name = finite(rows), part_name(part).removesuffix(" rows")
    return f"the {name} part" if number is None else count(int(number), f"{name} row")


def plain(value: Any) -> str:
    """Any value of a JSON file as one text: numbers short, truth values as yes and no, structures as JSON."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return integer(value)
    return short(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def command_line(value: Any) -> str:
    """A command that a shell understands, from the text or the list of arguments that was recorded."""
    if isinstance(value, list):
        return shlex.join(str(argument) for argument in value)
    return value if isinstance(value, str) else ""
