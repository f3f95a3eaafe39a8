"""The rules of the house, read off the source: layers, cycles, light modules, sizes, names, documentation."""

from __future__ import annotations

import ast
import importlib
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from pydantic import BaseModel

import burnish
from burnish.core import registry
from burnish.recipe import Recipe

SRC = Path(burnish.__file__).parent
FILES = {
    ".".join(["burnish", *path.relative_to(SRC).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(SRC.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}

SIBLINGS = {"losses", "optim", "metrics", "data", "models", "methods", "engine", "plan", "report"}
LIBRARY = {"core", *SIBLINGS, "tasks", "recipe", "teaching", "build", "tracking"}

# What each part may import, beside itself. A new part has to be entered here.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    **{sibling: {"core"} for sibling in SIBLINGS},
    # A task gathers what it is made of, and knows neither how it is trained (engine, methods, optim) nor how it is shown.
    "tasks": {"core", "losses", "metrics", "data", "models"},
    # Follows the events of a run.
    "tracking": {"core", "engine"},
    # The recipe names every spec; tasks, methods and optimizers reach it through the registry.
    "recipe": {"core", "tracking", *SIBLINGS - {"report"}},
    # Meets a teacher with a student's parts, for build.
    "teaching": {"core", "data", "engine", "losses", "models", "recipe"},
    "build": LIBRARY - {"build", "report", "tasks"},
    "run": LIBRARY - {"tasks"},
    "experiment": LIBRARY - {"tasks"} | {"run"},
    # Shells: thin, beside or below the command line.
    "output": {"core"},
    "scaffold": {"core", "data", "models", "recipe"},
    "terminal": {"core", "engine", "report"},
    "cli": LIBRARY - {"tasks"} | {"run", "experiment", "output", "scaffold", "terminal"},
    "__main__": {"cli"},
    # The package itself is the public face of the library.
    "": LIBRARY - {"tasks"} | {"run", "experiment", "terminal"},
}
PURE = {"core", "report", "plan", "metrics"}
COMPUTES = {"burnish.core.deferred", "burnish.core.fused"}
"""The one concept of the core that computes with tensors. Importing the first brings no torch, until it computes and needs the other."""
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "sklearn",
    "scipy",
    "matplotlib",
    "datasets",
    "pyarrow",
    "seqeval",
    "sacrebleu",
    "rouge_score",
    "nltk",
}

MAX_LINES, MAX_FUNCTION_LINES, MAX_ARGUMENTS = 400, 60, 8
SELF_EXPLAINING_LINES = 12
NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


def part_of(module: str) -> str:
    """`burnish.data.audit` -> `data`; the package itself is the empty name."""
    return module.partition(".")[2].partition(".")[0]


def imported(module: str, nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """(module, line) of each import; names of a `from` import are resolved to modules where they are such."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute in this house"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in FILES else str(node.module)), node.lineno


def every_import(module: str) -> Iterator[tuple[str, int]]:
    """Imports anywhere in a module: at its top, inside functions, and for type checkers."""
    return imported(module, ast.walk(TREES[module]))


def import_time(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: not the bodies of functions, not what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if not isinstance(child, Function) and not typing_only:
            yield child
            yield from import_time(child)


def functions() -> Iterator[tuple[str, Function]]:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{FILES[module].relative_to(SRC)}:{node.lineno} {node.name}", node


def test_every_part_stands_in_the_table_of_layers() -> None:
    assert {part_of(module) for module in FILES} <= set(MAY_IMPORT)


def test_the_table_itself_points_down_only() -> None:
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


def test_imports_point_down_only() -> None:
    wrong = [
        f"{FILES[module].relative_to(SRC)}:{line} imports {found}"
        for module in FILES
        for found, line in every_import(module)
        if found.split(".")[0] == "burnish" and part_of(found) not in {part_of(module), *MAY_IMPORT[part_of(module)]}
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("when", ["import", "ever"])
def test_no_modules_import_each_other_in_a_circle(when: str) -> None:
    """At import time none may; nor may functions close a circle, for which a late import would be the usual excuse."""
    graph = {
        module: {name for name, _ in imported(module, import_time(tree) if when == "import" else ast.walk(tree)) if name in FILES}
        - {module}
        for module, tree in TREES.items()
        if module != "burnish" or when == "import"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_core_and_what_only_reads_numbers_never_touch_torch() -> None:
    wrong = [
        f"{FILES[module].relative_to(SRC)}:{line} imports {found}"
        for module in FILES
        if part_of(module) in PURE and module not in COMPUTES
        for found, line in imported(module, outside_type_checking(TREES[module]))
        if found.split(".")[0] in {"torch", "transformers", "peft"}
    ]
    assert not wrong, "\n".join(wrong)


def outside_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield child
            yield from outside_type_checking(child)


def test_light_modules_import_nothing_heavy() -> None:
    parts = {"", "core", "report", "recipe", "scaffold", "output", "terminal", "cli"}
    light = sorted(module for module in FILES if part_of(module) in parts and module != "burnish.core.fused")
    script = f"import importlib, json, sys\nfor name in {light}: importlib.import_module(name)\nprint(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "burnish.report.page" in light
    assert not HEAVY & set(json.loads(loaded))


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "burnish", "--help"]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - began)
    assert "Usage:" in done.stdout and "resume" in done.stdout
    modules = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in modules and not HEAVY & modules
    assert statistics.median(seconds) < 0.5


def test_files_are_short() -> None:
    long = {str(path.relative_to(SRC)): lines for path in FILES.values() if (lines := len(path.read_text().splitlines())) > MAX_LINES}
    assert not long


def test_functions_are_short_and_take_few_arguments() -> None:
    wrong = []
    for place, node in functions():
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        spec = node.args
        names = [argument.arg for argument in [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]]
        taken = len(names) - (names[:1] in (["self"], ["cls"])) + bool(spec.vararg) + bool(spec.kwarg)
        if lines > MAX_FUNCTION_LINES or taken > MAX_ARGUMENTS:
            wrong.append(f"{place}: {lines} lines, {taken} arguments")
    assert not wrong, "\n".join(wrong)


def test_modules_are_named_for_what_they_are() -> None:
    names = {word for module in FILES for part in module.split(".") for word in re.split(r"_+", part)}
    assert not NAMELESS & names


def test_every_module_says_what_it_is() -> None:
    assert [module for module, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_what_is_public_and_not_tiny_is_documented() -> None:
    """Public functions, methods and classes of more than a dozen lines; a method may inherit its words from the protocol."""
    told = {node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, Function) and ast.get_docstring(node)}
    wrong = [
        f"{FILES[module].relative_to(SRC)}:{node.lineno} {node.name}"
        for module, tree in TREES.items()
        for owner in ast.walk(tree)
        if isinstance(owner, ast.Module | ast.ClassDef)
        for node in owner.body
        if isinstance(node, Definition) and not node.name.startswith("_") and not ast.get_docstring(node)
        if isinstance(node, ast.ClassDef) or lines_of(node) > SELF_EXPLAINING_LINES
        if not (isinstance(owner, ast.ClassDef) and node.name in told)
    ]
    assert not wrong, "\n".join(wrong)


def lines_of(node: Definition) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_every_public_function_has_types() -> None:
    wrong = []
    for place, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        untyped = [argument.arg for argument in arguments if argument.annotation is None and argument.arg not in ("self", "cls")]
        if untyped or node.returns is None:
            wrong.append(f"{place}: {', '.join(untyped) or 'its result'}")
    assert not wrong, "\n".join(wrong)


def every_spec() -> list[type[BaseModel]]:
    sections = [field.annotation for field in Recipe.model_fields.values()]
    plain = [cls for cls in sections if isinstance(cls, type) and issubclass(cls, BaseModel)]
    return [Recipe, *plain, *(cls for kind in registry.kinds() for cls in registry.specs(kind).values())]


@pytest.mark.parametrize("spec", every_spec(), ids=lambda cls: cls.__name__)
def test_every_spec_and_every_field_explains_itself(spec: type[BaseModel]) -> None:
    assert spec.__doc__ and spec.__doc__ != BaseModel.__doc__
    for name, field in spec.model_fields.items():
        if name == "name" and field.default is not None and "name" in spec.model_fields and spec in registry_classes():
            continue
        assert field.description, f"{spec.__name__}.{name} has no docstring"
        assert field.description[-1] in ".)", f"{spec.__name__}.{name}: a sentence ends with a full stop"


def registry_classes() -> set[type[BaseModel]]:
    return {cls for kind in registry.kinds() for cls in registry.specs(kind).values()}


def test_registered_modules_are_discovered() -> None:
    """A file in tasks, methods or optim is enough: nothing else names it."""
    for package in ("tasks", "methods", "optim", "tracking"):
        for module in FILES:
            if part_of(module) == package and "@register(" in FILES[module].read_text(encoding="utf-8"):
                assert module in sys.modules, module
    assert importlib.import_module("burnish.recipe").Recipe is Recipe
