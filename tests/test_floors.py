"""The sub-packages form floors: a module imports only from its own sub-package and from floors below.

An import inside a function counts, and so does a module that a string names. ``__init__`` of the package is
the top: it chooses the backend and registers everything, and nothing below imports it.

``maskrcnn_cli``, the parsers of the command line, is the ground: importing it takes the standard library alone, and
strings name what a subcommand runs.
"""

import ast
import importlib
import re
import sys
from pathlib import Path

import maskrcnn_cli
import maskrcnn_repro
from maskrcnn_cli.dispatch import COMMANDS
from maskrcnn_cli.doctor import DOCTOR
from maskrcnn_cli.tables import LISTING

import pytest

from tests.helpers.paths import ROOT

PACKAGE = Path(maskrcnn_repro.__file__).resolve().parent
GROUND = Path(maskrcnn_cli.__file__).resolve().parent
FLOORS = (
    ("_location", "_version", "errors"),
    ("_backend", "old_names"),
    ("plugins", "pooler_keys"),
    ("config_history",),
    ("config",),
    ("roi_ops", "utils"),
    ("cluster",),
    ("data", "modeling"),
    ("checkpoint",),
    ("evaluation",),
    ("visualization",),
    ("analysis",),
    ("engine",),
    ("inference",),
    ("benchmark", "export", "serving", "tables"),
    ("commands",),
)
"""From the ground up; sub-packages of one floor do not import each other."""
TABLE_FLOORS = (("paper",), ("models", "runs"), ("report",), ("beside",))
"""Within ``tables``."""


def modules(root):
    """Every module below ``root`` by its dotted name, that of the package left out."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts).removesuffix("__init__").rstrip("."), path


def imported(path, package):
    """Dotted names below ``package`` that a module imports or names in a string."""
    inside = re.compile(rf"{package}\.([A-Za-z_][\w.]*\w)")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if inside.fullmatch(node.value) else []
        else:
            continue
        for name in names:
            if name == package:
                yield ""
            elif match := inside.match(name):
                yield match[1]


def upward(root, package, floors):
    """Sentences about imports that lead to the same floor or further up."""
    height = {room: floor for floor, rooms in enumerate(floors) for room in rooms}
    for module, path in modules(root):
        room = module.partition(".")[0]
        if not room:
            continue
        for name in imported(path, package):
            other = name.partition(".")[0]
            # What is no room is a name of the package itself, hence of its roof.
            if other != room and height.get(other, len(floors)) >= height[room]:
                yield f"{module} imports {name}"


def imported_at_once(tree):
    """Top-level packages that importing a module imports: those named outside of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else node.module.partition(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported_at_once(node)


def test_the_ground_imports_the_standard_library_alone():
    allowed = sys.stdlib_module_names | {"maskrcnn_cli"}
    for name, path in modules(GROUND):
        others = set(imported_at_once(ast.parse(path.read_text(encoding="utf-8")))) - allowed
        assert not others, f"maskrcnn_cli.{name} imports {others}"


@pytest.mark.parametrize(
    ("source", "packages"),
    [
        ("import numpy.linalg", {"numpy"}),
        ("if True:\n    from torch import nn", {"torch"}),
        ("class A:\n    import yaml", {"yaml"}),
        ("from . import a", {"."}),
        ("def f():\n    import torch", set()),
    ],
)
def test_what_an_import_imports_is_found(source, packages):
    assert set(imported_at_once(ast.parse(source))) == packages


@pytest.mark.parametrize(
    "runs", sorted({LISTING} | {command.runs for command in COMMANDS.values()})
)
def test_what_a_subcommand_runs_is_a_command_of_the_top_floor(runs):
    module, _, function = runs.partition(":")
    assert module.startswith("maskrcnn_repro.commands.") or runs in (LISTING, DOCTOR.runs)
    assert callable(getattr(importlib.import_module(module), function))


def test_no_import_points_up():
    assert not sorted(upward(PACKAGE, "maskrcnn_repro", FLOORS))


def test_no_import_of_the_tables_points_up():
    root, package = PACKAGE / "tables", "maskrcnn_repro.tables"
    assert not sorted(upward(root, package, TABLE_FLOORS))


def test_the_page_shows_the_floors_with_the_ground_at_the_bottom():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    shown = page.partition("```text\n")[2].partition("\n```")[0].splitlines()
    assert [tuple(line.split()) for line in reversed(shown)] == list(FLOORS)


@pytest.mark.parametrize(
    ("root", "floors"), [(PACKAGE, FLOORS), (PACKAGE / "tables", TABLE_FLOORS)]
)
def test_every_room_has_a_floor(root, floors):
    rooms = {module.partition(".")[0] for module, _ in modules(root)} - {"", "__main__"}
    assert rooms == {room for floor in floors for room in floor}


@pytest.mark.parametrize(
    "line",
    [
        "import house.attic",
        "from house import attic",
        "from house.attic import box",
        "def f():\n    from house.attic import box",
        'MODULE = "house.attic.box"',
        "import house",
        "from house import DOOR",
    ],
)
def test_an_import_that_points_up_is_found(tmp_path, line):
    (tmp_path / "cellar.py").write_text(line + "\n")
    (tmp_path / "attic.py").write_text("from house.cellar import coal\n")
    assert len(list(upward(tmp_path, "house", (("cellar",), ("attic",))))) == 1
