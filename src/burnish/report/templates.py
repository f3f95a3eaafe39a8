"""Templates and style sheets of the package, and how they are filled in.

Texts come from users' data: every template escapes everything that is not passed as markup on purpose.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from burnish.report import wording
from burnish.report.collect import mapping

WRITERS = (wording.integer, wording.decimal, wording.percent, wording.plain, wording.spoken, wording.duration, mapping)


def resource(name: str) -> str:
    """The text of a file that lies beside this module."""
    return resources.files("burnish.report").joinpath(name).read_text(encoding="utf-8")


@cache
def template(name: str) -> Template:
    """A template by the name of its file. A name that it uses and that nobody passed is an error, not a hole in the page."""
    environment = Environment(
        loader=FunctionLoader(resource), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["zip"] = zip
    environment.filters.update({writer.__name__: writer for writer in WRITERS})
    return environment.get_template(name)


def writable(page: str) -> str:
    """A page as a file can hold it: half characters (lone surrogates) become question marks."""
    return page.encode("utf-8", "replace").decode("utf-8")
