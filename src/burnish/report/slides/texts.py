"""The texts of a deck in a YAML file beside it: written once, then a person's own. {names} in them are filled in anew each time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from burnish.core.errors import RunError, disk_errors, nearest
from burnish.core.rundir import write_text
from burnish.report.slides.outline import Outline, Slide, Values

NAME = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")
FIELDS = ("show", "title", "text", "notes")
HEAD = """\
# The texts of slides.pptx. Edit them and run the same command again: the slides are made anew, with your texts.
# {names} in braces are filled in with what the runs have come to; those that can be used are listed at the end. For a brace itself write {{ or }}.
# `text` is a list: a line on the slide for each. `show: false` leaves a slide out. What is deleted here comes back as it was made;
# tables and charts are native, to be edited in the slides, but they too are made anew.
"""


def settled(outline: Outline, path: Path) -> list[Slide]:
    """The slides with the texts of the file at `path`, which is written where it is not there, {names} filled in.

    Slides that the file does not know are appended to it, so that a comparison that has gone on can be told of. Raises RunError
    where the file is no YAML, names a slide or a field that there is not, or a {name} that is unknown.
    """
    own = read(path, outline) if path.is_file() else {}
    fresh = [slide for slide in outline.slides if slide.key not in own]
    if fresh:
        there = path.is_file()
        text = path.read_text(encoding="utf-8").rstrip("\n") + "\n" if there else HEAD
        with disk_errors(f"Writing {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text + "".join(map(block, fresh)) + ("" if there else known(outline.values)))
    slides = [with_texts(slide, own.get(slide.key, {})) for slide in outline.slides if own.get(slide.key, {}).get("show", True)]
    return [filled(slide, outline.values, path) for slide in slides]


def read(path: Path, outline: Outline) -> dict[str, dict[str, Any]]:
    """The file, checked: slide -> its fields."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is no YAML: {error}\nMend it, or delete it: it is then written anew.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RunError(f"{path} should hold a name for each slide and its texts below it; delete it to have it written anew.")
    for key, fields in found.items():
        if key not in outline.keys:
            raise RunError(f"{path}: there is no slide `{key}`{nearest(str(key), outline.keys)}")
        check(path, key, fields)
    return {key: fields or {} for key, fields in found.items()}


def check(path: Path, key: str, fields: Any) -> None:
    """Raises RunError where the fields of a slide are not those there are, or not of their kind."""
    if fields is not None and not isinstance(fields, dict):
        raise RunError(f"{path}: below `{key}` stand fields ({', '.join(FIELDS)}), not {fields!r}")
    for name, value in (fields or {}).items():
        if name not in FIELDS:
            raise RunError(f"{path}: `{key}` has no field `{name}`{nearest(str(name), FIELDS)}")
        if name == "show" and not isinstance(value, bool):
            raise RunError(f"{path}: `{key}.show` is true or false, not {value!r}")
        if name != "show" and not texts_of(value) and value not in (None, [], ""):
            raise RunError(
                f"{path}: `{key}.{name}` is a text or a list of texts, not {value!r}. Put texts with a colon or braces into quotes."
            )


def texts_of(value: Any) -> list[str]:
    """A text, a number or a list of them, as texts; nothing where it is something else."""
    values = value if isinstance(value, list) else [value]
    simple = all(isinstance(entry, str | int | float) for entry in values)
    return [str(entry) for entry in values] if simple else []


def with_texts(slide: Slide, fields: Mapping[str, Any]) -> Slide:
    """A slide with the texts of the file in place of its own."""
    changed: dict[str, Any] = {name: texts_of(fields[name]) for name in ("text", "notes") if name in fields}
    if "title" in fields:
        changed["title"] = " ".join(texts_of(fields["title"]))
    return replace(slide, **changed)


def filled(slide: Slide, values: Values, path: Path) -> Slide:
    """A slide with every {name} in its place."""

    def every(texts: Sequence[str]) -> list[str]:
        return [line for text in texts for line in expanded(text, values, f"{path}: `{slide.key}`") if line.strip()]

    return replace(slide, title=" ".join(every([slide.title])), text=every(slide.text), notes=every(slide.notes))


def expanded(text: str, values: Values, place: str) -> Iterator[str]:
    """A text with its {names} filled in; one that is nothing but the name of several texts gives a line for each of them."""
    whole = NAME.fullmatch(text.strip())
    if whole and whole[1] in values and not isinstance(values[whole[1]], str):
        yield from values[whole[1]]
        return

    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        if found[1] not in values:
            raise RunError(f"{place}: {{{found[1]}}} is not known{nearest(found[1], values)} For a brace itself write {{{{ or }}}}.")
        known = values[found[1]]
        return known if isinstance(known, str) else " ".join(known)

    yield NAME.sub(value, text)


def block(slide: Slide) -> str:
    """A slide in the file of texts."""
    fields: dict[str, Any] = {"title": slide.title, "text": list(slide.text)}
    if slide.notes:
        fields["notes"] = list(slide.notes)
    written = yaml.safe_dump({slide.key: fields}, allow_unicode=True, sort_keys=False, width=140, default_flow_style=False)
    return f"\n# {slide.section}\n{written}"


def known(values: Values) -> str:
    """The {names} that texts can use, with what they stand for at the moment, as comments."""
    lines = ["\n# What {names} stand for, as of this writing:"]
    for name, value in values.items():
        told = value if isinstance(value, str) else " | ".join(value)
        lines.append(f"#   {{{name}}}: {' '.join(told.split())[:110]}")
    return "\n".join(lines) + "\n"
