"""The JSON Schema of recipes, for editors: a range to sweep may stand in the place of a value."""

from __future__ import annotations

from typing import Any

from burnish.recipe import Recipe

PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
POINTS = {"type": "integer", "minimum": 1, "description": "Values that a grid takes."}
STEP = {"type": "number", "exclusiveMinimum": 0, "description": "Only the values that such steps lead to from the lowest."}


def spanned(kind: str, about: str, **beside: Any) -> dict[str, Any]:
    properties = {kind: {**PAIR, "description": about}, **beside, "points": POINTS}
    return {"type": "object", "additionalProperties": False, "required": [kind], "properties": properties}


RANGE: dict[str, Any] = {
    "description": "What `burnish sweep` searches in the place of a value.",
    "anyOf": [
        spanned("log", "Lowest and highest; each factor as likely as any other."),
        spanned("range", "Lowest and highest.", step=STEP),
        spanned("integer", "Lowest and highest whole number.", step=STEP, log={"type": "boolean", "description": "Each factor as likely."}),
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["choice"],
            "properties": {"choice": {"type": "array", "minItems": 1, "description": "One of these, which may hold ranges themselves."}},
        },
    ],
}

FIXED = {"Recipe": {"run", "sweep", "track"}, "Data": {"train"}}
"""What no range stands for; a mixture in `data.train` maps files of any name to weights."""

TOLD = ("title", "description", "default")
"""What editors show of a key, whatever its value may be."""


def schema() -> dict[str, Any]:
    """Recipes as pydantic describes them, every value or a range in its place."""
    found = Recipe.model_json_schema()
    for name, section in [("Recipe", found), *found["$defs"].items()]:
        # A section that may be written as a bare name is an alternative of its own.
        for form in (section, *section.get("anyOf", ())):
            if "properties" in form and name != "Sweep":
                form["properties"] = {key: searchable(given, key in FIXED.get(name, ())) for key, given in form["properties"].items()}
    found["$defs"]["Range"] = RANGE
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def searchable(given: dict[str, Any], fixed: bool) -> dict[str, Any]:
    """What may stand at a key, or a range; `name` says which kind a section is of, and is fixed."""
    if fixed or "const" in given:
        return given
    rest = {key: value for key, value in given.items() if key not in TOLD}
    return {**{key: given[key] for key in TOLD if key in given}, "anyOf": [rest, {"$ref": "#/$defs/Range"}]}
