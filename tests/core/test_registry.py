"""Specs and their registry: unknown names, every fault at once, places as the user wrote them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from burnish.core import registry
from burnish.core.registry import register
from burnish.core.spec import Choice, Spec, faults


class Inner(Spec):
    """A section."""

    size: int = Field(default=1, ge=1)
    """How large."""

    share: float = 0.5
    """Which share."""


@pytest.fixture(scope="module")
def root() -> type[Spec]:
    @register("test_metal")
    class Brass(Spec):
        """An alloy."""

        name: Literal["brass"] = "brass"
        zinc: float = Field(default=0.3, ge=0, le=1)

    @register("test_metal")
    class Copper(Spec):
        """An element."""

        name: Literal["copper"] = "copper"

    class Root(Spec):
        """A tree of specs."""

        metal: Annotated[Any, Choice("test_metal")]
        """What it is made of."""

        inner: Inner = Inner()
        """A section."""

        label: str = "none"
        """A word."""

    return Root


def problems(root: type[Spec], raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        root.model_validate(raw)
    return faults(root, caught.value)


def test_a_bare_name_stands_for_a_spec(root: type[Spec]) -> None:
    bare, full = root.model_validate({"metal": "brass"}), root.model_validate({"metal": {"name": "brass"}})
    assert bare == full
    assert bare.metal.zinc == 0.3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"metal": "brass", "lable": "x"}, "`lable` is unknown - did you mean `label`?"),
        ({"metal": "brass", "inner": {"sise": 2}}, "`inner.sise` is unknown - did you mean `size`?"),
        ({"metal": {"name": "brass", "zink": 0.1}}, "`metal.zink` is unknown - did you mean `zinc`?"),
        ({"metal": "bras"}, "`metal`: there is no `bras` - did you mean `brass`? (known: brass, copper)"),
        ({"metal": {"zinc": 0.2}}, "`metal`: needs a `name`: one of brass, copper"),
        ({}, "`metal` is missing: What it is made of."),
        ({"metal": "brass", "size": 2}, "`size` is unknown here; it belongs to `inner`"),
        ({"metal": "brass", "zinc": 0.2}, "`zinc` is unknown here; it belongs to `metal (brass)`"),
        ({"metal": "brass", "qqq": 2}, "`qqq` is unknown; known here: metal, inner, label"),
        ({"metal": {"name": "brass", "zinc": 3}}, "`metal.zinc`: input should be less than or equal to 1; got 3"),
        ({"metal": "brass", "inner": {"size": "many"}}, "got 'many'"),
    ],
)
def test_a_fault_names_the_key_and_the_way_out(root: type[Spec], raw: dict[str, Any], expected: str) -> None:
    (problem,) = problems(root, raw)
    assert expected in problem


def test_every_fault_is_told_at_once(root: type[Spec]) -> None:
    found = problems(root, {"metal": {"name": "brass", "zinc": -1, "tin": 1}, "inner": {"size": 0, "sher": 1}, "extra": 1})
    assert sorted(problem.split("`")[1] for problem in found) == ["extra", "inner.sher", "inner.size", "metal.tin", "metal.zinc"]


def test_specs_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Inner().size = 3  # type: ignore[misc]


def test_a_name_is_registered_once(root: type[Spec]) -> None:
    assert list(registry.specs("test_metal")) == ["brass", "copper"]
    assert "test_metal" in registry.kinds()

    class Other(Spec):
        name: Literal["brass"] = "brass"

    with pytest.raises(ValueError, match="`brass` is registered twice"):
        register("test_metal")(Other)


def test_an_unknown_kind_has_no_specs() -> None:
    assert registry.specs("no_such_kind") == {}
