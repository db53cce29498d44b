"""The family stands on public names alone, and nothing of the core knows it."""

import ast
from pathlib import Path

import maskrcnn_repro

import pytest

import maskrcnn_family

FAMILY = Path(maskrcnn_family.__file__).parent
CORE = Path(maskrcnn_repro.__file__).parent


def imports(folder):
    """Every dotted name that a file below ``folder`` imports, with the file."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                yield from ((path, f"{node.module}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)


def test_it_imports_public_names():
    names = [(path.name, name) for path, name in imports(FAMILY)]
    assert ("head.py", "maskrcnn_repro.errors.ConfigError") in names
    private = [(path, name) for path, name in names if "._" in name and name != "__future__"]
    assert private == []


def test_the_core_does_not_import_it():
    assert [str(path) for path, name in imports(CORE) if name.startswith("maskrcnn_family")] == []


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in FAMILY.glob("*/__init__.py")))
def test_each_idea_has_a_config_and_says_what_it_is(folder):
    assert (FAMILY / folder / "config.yaml").is_file()
    text = (FAMILY / folder / "README.md").read_text(encoding="utf-8")
    assert "arXiv" in text
    assert "Differences" in text
