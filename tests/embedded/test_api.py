"""``compat/API.txt``, the promised names, against the code; and names that are not promised.

``python tests/embedded/test_api.py`` writes the file anew.
"""

import ast
import functools
import importlib

import maskrcnn_repro  # noqa: F401

import pytest

from tests.helpers.paths import ROOT

COMPAT = ROOT / "compat"
API = COMPAT / "API.txt"
INSTALL_PAGE = "https://detectron2.readthedocs.io/tutorials/install.html"


@functools.cache
def _real_names():
    lines = (COMPAT / "detectron2" / "_real_names.txt").read_text().splitlines()
    return {module: set(names) for module, *names in map(str.split, lines)}


def _modules():
    """Give name and file of the subset's modules that Detectron2 has, too."""
    for file in sorted((COMPAT / "detectron2").rglob("*.py")):
        name = ".".join(file.relative_to(COMPAT).with_suffix("").parts).removesuffix(".__init__")
        if name in _real_names():
            yield name, file


def _public_names(file):
    """Give what a module defines, lists in ``__all__``, or takes from a module that Detectron2 lacks."""
    for node in ast.parse(file.read_text()).body:
        names = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if names == ["__all__"]:
                names = ast.literal_eval(node.value)
        elif isinstance(node, ast.ImportFrom) and node.module not in _real_names():
            names = [imported.name for imported in node.names]
            if names == ["*"] and node.level:
                names = _public_names(file.with_name(f"{node.module}.py"))
            elif names == ["*"]:
                names = importlib.import_module(node.module).__all__
        yield from (name for name in names if not name.startswith("_"))


def _promised():
    real = _real_names()
    return sorted(
        {
            f"{module}:{name}"
            for module, file in _modules()
            for name in _public_names(file)
            if name in real[module]
        }
    )


def test_the_list_is_what_the_code_has():
    listed = API.read_text().splitlines()
    assert listed == _promised(), "python tests/embedded/test_api.py writes the list anew"


def test_every_promised_name_exists():
    """With an installed Detectron2 this shows that the promise is a part of its API."""
    missing = []
    for line in API.read_text().splitlines():
        module, name = line.split(":")
        try:
            exists = hasattr(importlib.import_module(module), name)
        except ImportError as error:
            if "'_C'" not in str(error):  # a Detectron2 whose C++ part was not compiled
                raise
        else:
            missing += [] if exists else [line]
    assert missing == []


@pytest.mark.embedded_only
def test_what_detectron2_has_is_here_or_says_what_to_install():
    real = _real_names()
    for module_name, _ in _modules():
        module = importlib.import_module(module_name)
        for name in real[module_name]:
            try:
                getattr(module, name)
            except ImportError as error:
                message = str(error)
                assert f"{module_name}.{name} is not in the embedded Detectron2" in message
                assert INSTALL_PAGE in message


@pytest.mark.embedded_only
def test_unknown_names_are_attribute_errors():
    for module_name, _ in _modules():
        module = importlib.import_module(module_name)
        for name in ("no_such_name", "__wrapped__", "_private"):
            with pytest.raises(AttributeError, match=name):
                getattr(module, name)


@pytest.mark.embedded_only
@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("from detectron2.structures import RotatedBoxes", "detectron2.structures.RotatedBoxes"),
        (
            "from detectron2.structures.rotated_boxes import X",
            "detectron2.structures.rotated_boxes",
        ),
        ("import detectron2.export", "detectron2.export"),
        ("import detectron2.tracking.utils", "detectron2.tracking"),
        ("from detectron2 import model_zoo", "detectron2.model_zoo"),
        ("from detectron2.utils import visualizer", "detectron2.utils.visualizer"),
    ],
)
def test_import_statements_of_absent_things(statement, absent):
    with pytest.raises(ImportError) as caught:
        exec(statement, {})  # noqa: S102
    assert str(caught.value) == (
        f"{absent} is not in the embedded Detectron2; install Detectron2 ({INSTALL_PAGE})"
    )


@pytest.mark.embedded_only
def test_modules_that_nobody_has_stay_ordinary_errors():
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'detectron2\.nonsense'$"):
        importlib.import_module("detectron2.nonsense")
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        exec("from detectron2.structures import nonsense", {})  # noqa: S102


if __name__ == "__main__":
    API.write_text("".join(f"{line}\n" for line in _promised()))
