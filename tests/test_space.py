"""Search spaces in recipes: what ranges mean, that every end and choice is checked, and that other commands refuse them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burnish.core.errors import RecipeError
from burnish.recipe import load
from burnish.recipe.search import searched
from burnish.recipe.space import Numbers, at, domain, grid, probes, space_faults, unsearched

Raw = Callable[..., dict[str, Any]]


@pytest.fixture
def raw(tiny_bert: Path, rows_csv: Path) -> Raw:
    def made(**sections: Any) -> dict[str, Any]:
        return {
            "model": str(tiny_bert),
            "task": {"name": "classify"},
            "data": {"train": str(rows_csv), "validation": "25%"},
            **sections,
        }

    return made


def problems(source: Any, overrides: list[str] | None = None, **options: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        searched(source, overrides or [], options)
    return caught.value.problems


def test_numbers_are_read_as_people_write_them() -> None:
    """YAML takes 1e-5 for a text."""
    assert domain({"log": ["1e-5", "1e-3"]}) == Numbers(1e-5, 1e-3, log=True)
    assert domain({"range": [0, 0.3]}) == Numbers(0, 0.3)
    assert domain({"integer": [4, 16], "step": 4}) == Numbers(4, 16, integer=True, step=4)
    assert str(domain({"integer": [4, 64], "log": True})) == "{integer: [4, 64], log: true}"


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"log": 3}, "lowest and its highest"),
        ({"log": [1, 2, 3]}, "lowest and its highest"),
        ({"log": [0, 1]}, "begins above 0"),
        ({"log": [2, 1]}, "lowest value comes first"),
        ({"range": [1, 1]}, "lowest value comes first"),
        ({"range": [0, "much"]}, "a number is expected; got much"),
        ({"range": [0, True]}, "a number is expected"),
        ({"range": [0, ".nan"]}, "a number is expected"),
        ({"range": [0, 1], "step": 0.3}, "whole number of steps"),
        ({"range": [0, 1], "step": 0}, "whole number of steps"),
        ({"integer": [1.5, 3]}, "whole number is expected; got 1.5"),
        ({"integer": [1, 8], "log": True, "step": 2}, "no step"),
        ({"integer": [1, 8], "log": "yes"}, "true or false"),
        ({"log": [1, 2], "step": 1}, "`step` stands beside `log`"),
        ({"log": [1, 2], "range": [1, 2]}, "stands beside `range`"),
        ({"range": [0, 1], "points": 1}, "2 or more"),
        ({"choice": "full"}, "a list of two values"),
        ({"choice": ["full"]}, "a list of two values"),
        ({"choice": ["full", "full"]}, "names full twice"),
        ({"choice": ["full", "lora"], "r": 8}, "`r` stands beside `choice`"),
    ],
)
def test_malformed_ranges_are_refused_by_their_key(node: dict[str, Any], words: str) -> None:
    (fault,) = space_faults({"optimizer": {"lr": node}})
    assert fault.startswith("`optimizer.lr`: ") and words in fault


def test_a_range_within_a_choice_is_looked_at_too() -> None:
    (fault,) = space_faults({"method": {"choice": ["full", {"name": "lora", "r": {"integer": [8, 4]}}]}})
    assert fault.startswith("`method.lora.r`: ")


def test_files_of_a_mixture_may_have_any_name() -> None:
    assert unsearched({"data": {"train": {"log": 1.0, "choice": 2.0}}}) == []


def test_a_grid_has_every_point_once_and_keys_of_an_option_only_where_it_is_chosen() -> None:
    points = grid(
        {"method": {"choice": ["full", {"name": "lora", "r": {"integer": [4, 12], "step": 4}}]}, "lr": {"log": [1e-4, 1e-2], "points": 3}}
    )
    assert len(points) == 3 + 3 * 3
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    assert [point["lr"] for point in points if point["method"] == "full"] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert all(("method.lora.r" in point) == (point["method"] == "lora") for point in points)


def test_a_point_becomes_the_recipe_with_values() -> None:
    raw = {"method": {"choice": ["full", {"name": "lora", "r": {"integer": [4, 16]}}]}, "train": {"batch_size": {"choice": [8, 16]}}}
    made = at(raw, {"method": "lora", "method.lora.r": 5, "train.batch_size": "16"})
    assert made == {"method": {"name": "lora", "r": 5}, "train": {"batch_size": 16}}
    assert at(raw, {"method": "full", "train.batch_size": "8"}) == {"method": "full", "train": {"batch_size": 8}}


def test_probes_try_every_end_and_every_choice() -> None:
    raw = {"method": {"choice": ["full", {"name": "lora", "r": {"integer": [4, 16]}}]}, "lr": {"log": [1e-5, 1e-3]}}
    domains, points = probes(raw)
    assert list(domains) == ["method", "lr", "method.lora.r"]
    tried = {key: {point[key] for point in points if key in point} for key in domains}
    assert tried["method"] == {"full", "lora"} and {4, 16} <= tried["method.lora.r"] and {1e-5, 1e-3} <= tried["lr"]


def test_other_commands_say_what_a_range_is_for(raw: Raw) -> None:
    with pytest.raises(RecipeError) as caught:
        load(raw(), ["optimizer.lr={log: [1e-5, 1e-3]}", "method={choice: [full, lora]}"])
    assert caught.value.problems == [
        "`optimizer.lr` is a range to search: burnish sweep, or give it a value",
        "`method` is a range to search: burnish sweep, or give it a value",
    ]


def test_a_sound_search(raw: Raw) -> None:
    found = searched(raw(sweep={"trials": 7}), ["optimizer.lr={log: [1e-5, 1e-3]}"], {"seeds": 2, "metric": None})
    assert (found.trials, found.settings.seeds, found.metric, found.higher) == (7, 2, "accuracy", True)
    assert found.recipe({"optimizer.lr": 0.0005}).optimizer.lr == 0.0005
    assert found.recipe({"optimizer.lr": 0.0005}).sweep is None


def test_faults_of_ends_and_choices_name_the_key_all_at_once(raw: Raw) -> None:
    found = problems(
        raw(optimizer={"lr": {"range": [0.001, 0.1]}}, method={"choice": ["full", "lroa"]}, train={"batch_size": {"range": [8, 64]}})
    )
    assert any(line.startswith("with method=lroa: `method`: there is no `lroa` - did you mean `lora`?") for line in found)
    assert any("`train.batch_size`" in line and "{integer: [LOWEST, HIGHEST]}" in line for line in found)
    assert len(found) == 2


def test_ends_out_of_bounds(raw: Raw) -> None:
    (found,) = problems(
        raw(), ["data.validation={range: [1, 2]}", "optimizer.weight_decay={range: [0, 0.1]}", "train.ema={range: [0.5, 1.5]}"]
    )[-1:]
    assert "`train.ema`" in found and "1.5" in found


@pytest.mark.parametrize(
    ("overrides", "options", "words"),
    [
        ([], {}, "nothing is to be searched"),
        (["optimizer.lr={log: [1e-5, 1e-3]}"], {"metric": "acuracy"}, "did you mean `accuracy`?"),
        (["optimizer.lr={log: [1e-5, 1e-3]}"], {"sampler": "gird"}, "`sweep.sampler`"),
        (["optimizer.lr={log: [1e-5, 1e-3]}"], {"trials": 0}, "`sweep.trials`"),
        (["optimizer.lr={log: [1e-5, 1e-3]}", "sweep.trails=3"], {}, "did you mean `trials`?"),
        (["optimizer.lr={log: [1e-5, 1e-3]}", "data.validation=null"], {}, "a search chooses by validation rows"),
        (["optimizer.lr={log: [1e-5, 1e-3]}", "run={choice: [a, b]}"], {}, "`run` cannot be searched"),
        (["optimizer.lr={log: [1e-5, 1e-3], points: 200}", "train.batch_size={integer: [1, 99], step: 1}"], {"sampler": "grid"}, "points"),
    ],
)
def test_searches_that_cannot_be(raw: Raw, overrides: list[str], options: dict[str, Any], words: str) -> None:
    assert any(words in line for line in problems(raw(), overrides, **options))


def test_a_grid_makes_every_point_and_no_more(raw: Raw) -> None:
    overrides = ["optimizer.lr={log: [1e-4, 1e-2], points: 3}", "train.batch_size={choice: [4, 8]}"]
    assert searched(raw(), overrides, {"sampler": "grid"}).trials == 6
    assert searched(raw(), overrides, {"sampler": "grid", "trials": 4}).trials == 4
    assert searched(raw(), overrides, {"sampler": "grid", "trials": 40}).trials == 6
