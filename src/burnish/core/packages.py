"""Packages that only some recipes need. Whoever plans for another machine does without them on this one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ELSEWHERE: ContextVar[bool] = ContextVar("elsewhere", default=False)


def lacking(*names: str) -> list[str]:
    """Those of the packages that this machine does not have; none where recipes are for another one."""
    return [] if ELSEWHERE.get() else [name for name in names if importlib.util.find_spec(name) is None]


@contextmanager
def elsewhere(really: bool = True) -> Iterator[None]:
    """Recipes that are checked within are, if `really`, not for this machine as it is."""
    token = ELSEWHERE.set(really)
    try:
        yield
    finally:
        ELSEWHERE.reset(token)
