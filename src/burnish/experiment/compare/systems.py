"""What is compared: recipes as systems with short names, checked together before anything runs, and whether the comparison is fair."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.core.errors import BurnishError, RecipeError, count, listing, nearest
from burnish.data import mixture, sources
from burnish.data.spec import held_out
from burnish.recipe import Recipe, load
from burnish.recipe.reading import overridden
from burnish.recipe.search import usual
from burnish.run.identity import UNDECIDING

NAMED = {"model", "task", "method", "optimizer", "schedule", "loss", "control", "distill", "data.order"}
"""Keys whose value says by itself what it is."""

RESERVED = {"run": "the comparison has its own folder (-o)", "train.seed": "--seeds says which"}


@dataclass(frozen=True)
class System:
    """A recipe to compare, under the name by which tables and pictures call it."""

    name: str
    source: Path
    overrides: tuple[str, ...]
    recipe: Recipe

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return re.sub(r"[^\w.=+-]+", "-", self.name).strip("-.") or "system"


def systems(sources: Sequence[Path], vary: Sequence[str] = (), overrides: Sequence[str] = ()) -> list[System]:
    """A system for each recipe and each combination of the values that `vary` names (`method=full,lora`); `overrides` hold for all.

    Raises BurnishError with the faults of all of them, or where two are the same.
    """
    axes = [axis(text) for text in vary]
    keys = [key for key, _ in axes]
    for key in [*keys, *(text.partition("=")[0] for text in overrides)]:
        if key in RESERVED:
            raise BurnishError(f"`{key}` is not set in a comparison: {RESERVED[key]}.")
    if doubled := [key for key, number in Counter(keys).items() if number > 1]:
        raise BurnishError(f"--vary names `{doubled[0]}` twice: give its values at once, {doubled[0]}=A,B,C.")
    stems, found, faults = short_names([str(source.with_suffix("")) for source in sources]), list[System](), list[str]()
    for source, stem in zip(sources, stems, strict=True):
        for values in itertools.product(*(choices for _, choices in axes)):
            own = [f"{key}={value}" for key, value in zip(keys, values, strict=True)]
            words = [brief(key, value) for key, value in zip(keys, values, strict=True)]
            name = " ".join([*([stem] if len(sources) > 1 or not own else []), *words])
            try:
                found.append(System(name, source, (*overrides, *own), load(source, [*overrides, *own])))
            except RecipeError as error:
                faults += [f"{name}: {problem}" for problem in error.problems]
    if faults:
        raise BurnishError(listing(f"{count(len(faults), 'fault')} found before anything was loaded", list(dict.fromkeys(faults))))
    return distinct(found)


def distinct(found: Sequence[System]) -> list[System]:
    """The systems, if there are two at least and no two are the same by name or by recipe."""
    if len(found) < 2:
        raise BurnishError("a comparison needs two systems: name two recipes, or let one vary (--vary method=full,lora).")
    seen: dict[Any, System] = {}
    for system in found:
        for key in (("folder", system.folder.lower()), ("recipe", system.recipe.model_dump_json(exclude=UNDECIDING))):
            other = seen.setdefault(key, system)
            if other is not system:
                raise BurnishError(
                    f"`{other.name}` and `{system.name}` are the same {key[0] if key[0] == 'recipe' else 'name'}: leave one out."
                )
    return list(found)


def axis(text: str) -> tuple[str, list[str]]:
    """`method=full,{name: lora, r: 8}` -> the key and its values as they are written, split at commas outside of brackets and quotes."""
    key, equals, rest = text.partition("=")
    values = [value.strip() for value in pieces(rest)]
    if not equals or not key or not all(values):
        raise BurnishError(f"--vary {text!r}: a key and its values are expected, such as method=full,lora")
    if len(set(values)) < len(values):
        raise BurnishError(f"--vary {text!r}: a value stands twice")
    for value in values:
        overridden({}, f"{key}={value}")  # which says where a value is no YAML
    return key.strip(), values


def pieces(text: str) -> list[str]:
    """Cut at commas that stand outside of brackets, braces and quotes."""
    found, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        depth += 0 if quote else (sign in "[{(") - (sign in "]})")
        if sign == "," and depth == 0 and not quote:
            found.append("")
        else:
            found[-1] += sign
    return found


def brief(key: str, value: str) -> str:
    """What a value is called: `lora`, `lora r=8`, `batch_size=8`, `from_scratch=true`."""
    found = overridden({}, f"{key}={value}")
    for part in key.split("."):
        found = found[part]
    if isinstance(found, Mapping):
        inner = [f"{name}={inner}" for name, inner in found.items() if name != "name"]
        named = str(found.get("name", "" if key in NAMED else key.rpartition(".")[2]))
        return " ".join([named, *inner]).strip()
    short = Path(value).name if key in ("model", "model.name", "data.train") else value
    short = short.rpartition(":")[2] if key in ("model", "model.name") else short
    return short if key in NAMED or key.endswith(".name") else f"{key.rpartition('.')[2]}={short}"


def short_names(paths: Sequence[str]) -> list[str]:
    """The shortest ends of paths by which they differ, at least the last part; where the same stands twice, with its number."""
    for depth in range(1, 1 + max(len(Path(path).parts) for path in paths)):
        names = ["/".join(Path(path).parts[-depth:]) for path in paths]
        if len(set(names)) == len(paths):
            return names
    return [f"{Path(path).name} ({number})" for number, path in enumerate(paths, start=1)]


def seeds_of(text: str) -> list[int]:
    """`5` -> 0 to 4; `0,3,7` -> those; `7,` -> 7 alone."""
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts if part.isdecimal()]
    if len(numbers) != len([part for part in parts if part]) or not numbers:
        raise BurnishError(f"--seeds {text}: a number of seeds (5) or the seeds themselves (0,3,7) are expected.")
    if len(parts) > 1:
        if len(set(numbers)) < len(numbers):
            raise BurnishError(f"--seeds {text}: a seed stands twice, which would be the same run.")
        return numbers
    if not numbers[0]:
        raise BurnishError("--seeds 0: at least one is needed (for seed 0 alone: --seeds 0,).")
    return list(range(numbers[0]))


def baseline_of(found: Sequence[System], name: str | None) -> str:
    """The system that the others are compared with: the named one, else the first."""
    names = [system.name for system in found]
    if name is not None and name not in names:
        raise BurnishError(f"--baseline {name}: there is no such system{nearest(name, names)} (there are: {', '.join(names)}).")
    return name or names[0]


def metric_of(found: Sequence[System], name: str | None) -> tuple[str, bool]:
    """The metric that is compared, and whether more of it is better: the named one, else what all recipes keep the best by, else the task's own.

    Raises BurnishError where the recipes do not agree.
    """
    known = found[0].recipe.task.metrics
    if name is not None:
        if missing := [system.name for system in found if name not in system.recipe.task.metrics]:
            raise BurnishError(f"--metric {name}: {missing[0]} is not measured by it{nearest(name, known)} (known: {', '.join(known)}).")
        return name, known[name]
    chosen = {system.recipe.train.keep_best for system in found} - {None}
    if len(chosen) > 1:
        raise BurnishError(
            f"the recipes keep their best weights by different metrics ({', '.join(sorted(map(str, chosen)))}): say --metric NAME."
        )
    metric = str(chosen.pop()) if chosen else usual(known)
    return metric, known[metric]


def part_of(found: Sequence[System]) -> str:
    """The part that systems are compared on: test, else validation."""
    for part in ("test", "validation"):
        if all(getattr(system.recipe.data, part) is not None for system in found):
            return part
    without = next(system.name for system in found if system.recipe.data.validation is None)
    raise BurnishError(f"{without} has neither test nor validation rows: there is nothing to compare on. Set data.validation, such as 10%.")


def unfair(found: Sequence[System], part: str) -> list[str]:
    """Why a comparison may mislead, in sentences. Raises BurnishError where it would be none: other tasks, or other rows to be measured on."""
    first, *others = found
    for other in others:
        refuse(first, other, "tasks", lambda system: system.recipe.task.name)
        refuse(first, other, "metrics", lambda system: sorted(system.recipe.task.metrics))
        refuse(first, other, "columns", lambda system: system.recipe.task.columns(True))
        refuse(first, other, f"{part} rows", lambda system: closed(system.recipe, part), lambda system: getattr(system.recipe.data, part))
    warnings = []
    if part == "test" and differing(found, lambda system: rows_of(system.recipe, "validation")):
        warnings.append("the systems have different validation rows, by which weights may be chosen")
    if part == "validation":
        kept = any(system.recipe.train.keep_best for system in found)
        warnings.append(
            "there are no test rows: the comparison is on validation rows"
            + (", by which weights were chosen too: that flatters" if kept else ", which flatters whatever has been chosen by them")
        )
    if differing(found, trained_on):
        warnings.append("the systems learn from different rows")
    return warnings


def refuse(first: System, other: System, what: str, view: Callable[[System], Any], shown: Callable[[System], Any] | None = None) -> None:
    """Raises BurnishError where two systems differ in what has to be the same."""
    if view(first) != view(other):
        pair = [told((shown or view)(system)) for system in (first, other)]
        raise BurnishError(f"`{first.name}` and `{other.name}` cannot be compared, their {what} differ: {pair[0]} and {pair[1]}.")


def told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def differing(found: Sequence[System], view: Callable[[System], Any]) -> bool:
    return any(view(system) != view(found[0]) for system in found)


def closed(recipe: Recipe, part: str) -> Any:
    """What tells rows apart without a look into a test file: of that its size. Whether two of one size are the same is asked when they are opened."""
    wanted = getattr(recipe.data, part)
    if part != "test" or held_out(wanted, 1) is not None or wanted.startswith(sources.HUB):
        return rows_of(recipe, part)
    return sources.locate(wanted).stat().st_size


def files_of_test(found: Sequence[System]) -> list[str]:
    """The test files that systems name, each once; none where test rows are cut from those of training."""
    return list(dict.fromkeys(system.recipe.data.test for system in found if held_out(system.recipe.data.test, 1) is None))  # type: ignore[misc]


def rows_of(recipe: Recipe, part: str) -> Any:
    """What decides which rows a part has: the content of its file, or the rows that it is cut from and how."""
    data, wanted = recipe.data, getattr(recipe.data, part)
    if wanted is None:
        return None
    if held_out(wanted, 1) is None:
        return sources.fingerprint(wanted)
    cut = [(name, getattr(data, name)) for name in ("test", "validation") if held_out(getattr(data, name), 1) is not None]
    return mixture.fingerprint(data.train), cut, data.seed


def trained_on(system: System) -> Any:
    """What decides which rows a system learns from."""
    data = system.recipe.data
    held = [rows_of(system.recipe, part) for part in ("validation", "test") if held_out(getattr(data, part), 1) is not None]
    return mixture.fingerprint(data.train), data.limit, data.seed if data.limit else None, held, data.bad_rows


def recipe_name(sources: Sequence[Path], vary: Sequence[str]) -> str:
    """What a comparison is called: `classify-method`, `small-large`."""
    stems = [source.stem for source in sources][:3]
    keys = [text.partition("=")[0].rpartition(".")[2] for text in vary]
    return re.sub(r"[^\w.-]+", "-", "-".join([*stems, *keys]))
