"""The JSON Schema of recipes, which editors read, says what a recipe may be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from burnish.recipe import load
from burnish.recipe.schema import schema as of_recipes

SHIPPED = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
BUNDLED: dict[str, Any] = {
    "model": "starter:minilm",
    "task": {"name": "classify", "label": "intent"},
    "data": {"train": "bundled:messages-train"},
}


def matches(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """Enough of JSON Schema to judge a recipe: references, alternatives, types, constants, properties, items, patterns and bounds."""
    if "$ref" in schema:
        return matches(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    if "anyOf" in schema and not any(matches(option, value, root) for option in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(matches(option, value, root) for option in schema["oneOf"]) != 1:
        return False
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return False
    kinds = {
        "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int, "number": (int, float)
    }  # fmt: skip
    if "type" in schema and not (
        isinstance(value, kinds[schema["type"]]) and not (isinstance(value, bool) and schema["type"] != "boolean")
    ):
        return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return False
    if isinstance(value, list) and "items" in schema and not all(matches(schema["items"], item, root) for item in value):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if schema.get("additionalProperties", True) is False and set(value) - set(known):
            return False
        if not set(schema.get("required", ())) <= set(value):
            return False
        return all(matches(known[key], item, root) for key, item in value.items() if key in known)
    return True


def test_the_json_schema_accepts_the_recipes_that_we_ship_and_refuses_faulty_ones() -> None:
    schema = of_recipes()
    for path in SHIPPED:
        assert matches(schema, yaml.safe_load(path.read_text()), schema), path
    assert matches(schema, yaml.safe_load(load(BUNDLED, ["data.validation=10%"]).to_yaml()), schema)
    good = [
        {},
        {"method": "lora"},
        {"method": {"name": "lora", "r": 4}},
        {"schedule": {"name": "cosine", "warmup": 100}},
        {"schedule": {"warmup": "6%"}},
        {"train": {"micro_batch": 8}},
        {"optimizer": {"name": "adamw", "lr": {"log": [1e-5, 1e-3]}}},
        {"method": {"choice": ["full", {"name": "lora", "r": {"integer": [4, 16], "log": True}}]}},
        {"dropout": {"all": {"range": [0, 0.3], "step": 0.1}}, "sweep": {"trials": 8}},
    ]
    bad = [
        {"optimizer": {"name": "adamw", "lr": {"logs": [1e-5, 1e-3]}}},
        {"optimizer": {"name": "adamw", "lr": {"log": [1e-5, 1e-3], "step": 2}}},
        {"run": {"choice": ["a", "b"]}},
        {"methd": "lora"},
        {"method": "lorra"},
        {"method": {"name": "lora", "rank": 4}},
        {"train": {"duration": 3}},
        {"train": {"duration": "6%"}},
    ]
    assert [matches(schema, {**BUNDLED, **change}, schema) for change in good] == [True] * len(good)
    assert [matches(schema, {**BUNDLED, **change}, schema) for change in bad] == [False] * len(bad)
    assert not matches(schema, {"task": "classify"}, schema)
    assert schema["properties"]["data"]["description"] == "Where the rows come from."
